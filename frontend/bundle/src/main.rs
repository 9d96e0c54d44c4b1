//! Makes the page's files out of its compiled module: `glimpse-bundle MODULE.wasm DIST`, in the repository's root.
//!
//! wasm-bindgen writes the JavaScript around the module, `wasm-opt` makes it small. What may be kept for ever has the hash of its
//! content in its name; `frontend/index.html` names these files without it, and the rest of `public` keeps its names.

use std::error::Error;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use wasm_bindgen_cli_support::Bindgen;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The files whose names get a hash; none but index.html names one of them.
const HASHED: [&str; 3] = ["glimpse.css", "glimpse-page.js", "glimpse-page_bg.wasm"];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [module, dist] = arguments.as_slice() else {
        eprintln!("glimpse-bundle: it takes two arguments, MODULE.wasm and DIST");
        return ExitCode::FAILURE;
    };
    match bundle(module.as_ref(), dist.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glimpse-bundle: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything is made beside `dist` and takes its place at the end, so that a page is never half of one and half of another.
fn bundle(module: &Path, dist: &Path) -> Result<()> {
    let mut made = dist.as_os_str().to_owned();
    made.push(".new");
    let made = PathBuf::from(made);
    remove(&made)?;
    copy(Path::new("public"), &made)?;
    Bindgen::new()
        .input_path(module)
        .out_name("glimpse-page")
        .web(true)?
        .typescript(false)
        .omit_default_module_path(true)
        .generate(&made)?;
    optimise(&made.join("glimpse-page_bg.wasm"))?;
    let mut index = fs::read_to_string("frontend/index.html")?;
    for name in HASHED {
        let file = made.join(name);
        let hashed = hashed(name, &fs::read(&file)?);
        fs::rename(&file, made.join(&hashed))?;
        let named = format!("\"./{name}\"");
        if !index.contains(&named) {
            return Err(format!("frontend/index.html names no {named}").into());
        }
        index = index.replace(&named, &format!("\"./{hashed}\""));
    }
    fs::write(made.join("index.html"), index)?;
    remove(dist)?;
    fs::rename(made, dist)?;
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// Small before fast, in place.
fn optimise(module: &Path) -> Result<()> {
    let status = Command::new("wasm-opt")
        .arg("-Oz")
        .arg(module)
        .arg("--output")
        .arg(module)
        .status()
        .map_err(|error| format!("wasm-opt could not be started: {error}"))?;
    if !status.success() {
        return Err(format!("wasm-opt failed: {status}").into());
    }
    Ok(())
}

/// `page.js` → `page-0123456789abcdef.js`; of `page_bg.wasm` the hash comes before `_bg`.
fn hashed(name: &str, content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    let at = name
        .find("_bg.")
        .or_else(|| name.rfind('.'))
        .unwrap_or(name.len());
    let (stem, rest) = name.split_at(at);
    format!("{stem}-{:016x}{rest}", hasher.finish())
}
