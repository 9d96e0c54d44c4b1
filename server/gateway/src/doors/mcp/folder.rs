//! The folder whose pictures may be named by their paths: `--root`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
#[cfg(unix)]
use cap_std::fs::OpenOptionsExt;
use cap_std::fs::{Dir, OpenOptions};
use wire::ErrorCode;

use crate::doors::incoming::Share;
use crate::session::{File, Shared};
use api::Failure;

/// A folder, of which nothing can be seen but the regular files in it: no link and no `..` leads out.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    /// Without links, for paths that are given in full.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder. What is moved to its place later is not looked at.
    ///
    /// # Errors
    /// A sentence about one that can't be opened.
    pub fn open(path: &Path) -> Result<Self, String> {
        let problem = |problem: io::Error| {
            format!(
                "--root {} can't be opened ({problem}): name a folder that may be read",
                path.display()
            )
        };
        Ok(Folder {
            dir: Dir::open_ambient_dir(path, ambient_authority()).map_err(problem)?,
            path: path.canonicalize().map_err(problem)?,
        })
    }

    /// The file at a path, beneath the folder or given in full, and its SHA-256. It reads on the thread that asks.
    ///
    /// # Errors
    /// `unknown_image`, whatever the reason that there is none; `image_unsupported` for what is no regular file;
    /// `upload_too_large`, `busy`.
    pub fn read(
        &self,
        path: &str,
        share: &Share,
        shared: &Shared,
    ) -> Result<(File, [u8; 32]), Failure> {
        let what = format!("The file {path:?}");
        let broken = |problem: io::Error| missing(path, &problem);
        share.read(self.find(path)?, &what, broken, shared)
    }

    fn find(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let path_in = Path::new(path);
        let beneath = path_in.strip_prefix(&self.path).unwrap_or(path_in);
        let irregular = || {
            let message = format!("{path:?} is no regular file: name a picture's file.");
            Failure::new(ErrorCode::ImageUnsupported, message)
        };
        // Before it is opened, since opening alone can do something to a device.
        let before = self.dir.metadata(beneath);
        if !before.map_err(|it| missing(path, &it))?.is_file() {
            return Err(irregular());
        }
        let mut options = OpenOptions::new();
        options.read(true);
        // It may have become a pipe, which would be waited for.
        #[cfg(unix)]
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = self.dir.open_with(beneath, &options);
        let file = file.map_err(|it| missing(path, &it))?;
        let after = file.metadata().map_err(|it| missing(path, &it))?;
        if after.is_file() {
            Ok(file)
        } else {
            Err(irregular())
        }
    }
}

/// Why there is no such file: outside nothing is told, not even whether there is one.
fn missing(path: &str, problem: &io::Error) -> Failure {
    let message = format!(
        "There is no file {path:?} that may be read beneath this server's --root: name one by its path from there."
    );
    Failure::new(ErrorCode::UnknownImage, message).detail(problem.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn code(found: Result<impl Read, Failure>) -> Result<Vec<u8>, ErrorCode> {
        let mut bytes = Vec::new();
        let mut file = found.map_err(|failure| failure.code)?;
        file.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }

    #[test]
    fn nothing_leads_out() {
        let above = std::env::temp_dir().join(format!("glimpse-folder-{}", std::process::id()));
        let root = above.join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(above.join("secret"), "secret").unwrap();
        fs::write(root.join("sub/cat"), "cat").unwrap();
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, root.join(at)).unwrap();
        link("sub/cat", "inside");
        link("../secret", "outside");
        link(above.join("secret").to_str().unwrap(), "absolute");
        link("..", "up");
        link("/dev/zero", "zero");
        let folder = Folder::open(&root).unwrap();
        let full = root.canonicalize().unwrap().join("sub/cat");
        for fine in [
            "sub/cat",
            "./sub/../sub/cat",
            "inside",
            full.to_str().unwrap(),
        ] {
            assert_eq!(code(folder.find(fine)), Ok(b"cat".to_vec()), "{fine}");
        }
        let out = above.join("secret");
        for bad in [
            "../secret",
            "sub/../../secret",
            "outside",
            "absolute",
            "up/secret",
            "zero",
            "none",
            "",
            "a\0b",
            "/etc/passwd",
            out.to_str().unwrap(),
        ] {
            assert_eq!(
                code(folder.find(bad)),
                Err(ErrorCode::UnknownImage),
                "{bad}"
            );
        }
        assert_eq!(code(folder.find("sub")), Err(ErrorCode::ImageUnsupported));
        fs::remove_dir_all(&above).unwrap();
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let root = std::env::temp_dir().join(format!("glimpse-pipe-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let path = std::ffi::CString::new(root.join("pipe").to_str().unwrap()).unwrap();
        // SAFETY: the path is a string that ends with 0.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let folder = Folder::open(&root).unwrap();
        assert_eq!(code(folder.find("pipe")), Err(ErrorCode::ImageUnsupported));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_is_no_folder_is_told() {
        let problem = Folder::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(
            problem.starts_with("--root /nowhere/at/all can't be opened"),
            "{problem}"
        );
    }
}
