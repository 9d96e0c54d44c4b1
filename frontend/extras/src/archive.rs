//! A conversation as a zip: its Markdown and its picture.

use std::io::Write;

use rawzip::{CompressionMethod, Error, ZipArchiveWriter};
use wasm_bindgen::prelude::*;

/// The zip of `conversation.md` and the picture `name`, neither of them compressed: pictures are already.
#[wasm_bindgen]
pub fn archive(text: &str, name: &str, picture: &[u8]) -> Result<Vec<u8>, JsError> {
    Ok(pack(text, name, picture)?)
}

fn pack(text: &str, name: &str, picture: &[u8]) -> Result<Vec<u8>, Error> {
    let mut zip = ZipArchiveWriter::new(Vec::new());
    for (name, bytes) in [("conversation.md", text.as_bytes()), (name, picture)] {
        let file = zip
            .new_file(name)
            .compression_method(CompressionMethod::STORE);
        let (mut entry, config) = file.start()?;
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes)?;
        let (_, descriptor) = writer.finish()?;
        entry.finish(descriptor)?;
    }
    zip.finish()
}

#[cfg(test)]
mod tests {
    use rawzip::ZipArchive;

    use super::*;

    #[test]
    fn both_files_come_out_as_they_went_in() {
        let bytes = pack("# 标题\n", "cat.png", &[1, 2, 3]).unwrap();
        let zip = ZipArchive::from_slice(&bytes).unwrap();
        let mut entries = zip.entries();
        for (name, bytes) in [
            ("conversation.md", "# 标题\n".as_bytes()),
            ("cat.png", &[1, 2, 3]),
        ] {
            let entry = entries.next_entry().unwrap().unwrap();
            assert_eq!(entry.file_path().try_normalize().unwrap().as_ref(), name);
            assert_eq!(zip.get_entry(entry.wayfinder()).unwrap().data(), bytes);
        }
        assert!(entries.next_entry().unwrap().is_none());
    }
}
