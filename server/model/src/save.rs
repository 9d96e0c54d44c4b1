//! Writing safetensors files.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use safetensors::tensor::View;

/// Writes tensors to `path`, at once or not at all. Who may read the file is as for any other that is written here: by
/// itself the library makes it its owner's alone.
///
/// # Errors
/// When the file can't be written.
pub fn save_tensors<S: AsRef<str> + Ord + std::fmt::Display, V: View>(
    tensors: impl IntoIterator<Item = (S, V)>,
    metadata: Option<HashMap<String, String>>,
    path: &Path,
) -> io::Result<()> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let permissions = file.metadata()?.permissions();
    safetensors::serialize_to_file(tensors, metadata, path).map_err(io::Error::other)?;
    fs::set_permissions(path, permissions)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    #[test]
    fn who_may_read_a_file_may_read_tensors() {
        let folder = std::env::temp_dir().join(format!("glimpse-save-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (plain, tensors) = (folder.join("a.json"), folder.join("a.safetensors"));
        fs::write(&plain, "{}").unwrap();
        let tensor = TensorView::new(Dtype::U8, vec![2], &[1, 2]).unwrap();
        save_tensors([("x", tensor)], None, &tensors).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&tensors), mode(&plain));
        assert!(fs::metadata(&tensors).unwrap().len() > 2);
        fs::remove_dir_all(folder).unwrap();
    }
}
