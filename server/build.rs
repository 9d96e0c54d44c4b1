//! Lists the page's files, which the binary holds, with their compressed forms.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io, thread};

/// Kinds of files that get smaller.
const COMPRESSIBLE: [&str; 8] = [
    "html",
    "js",
    "css",
    "wasm",
    "svg",
    "json",
    "webmanifest",
    "txt",
];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    println!("cargo::rerun-if-changed=build.rs");
    wait_for_page();
    page(&root.join("dist"), &out)
}

/// The scripts build the page beside the server, and name a file that is there until that is done: this crate is compiled last, and
/// so only once.
fn wait_for_page() {
    let coming = env::var_os("GLIMPSE_PAGE_COMING").map(PathBuf::from);
    while coming.as_ref().is_some_and(|file| file.exists()) {
        thread::sleep(Duration::from_millis(100));
    }
}

/// Without a page the list is empty, and the server says how to build one.
fn page(dist: &Path, out: &Path) -> io::Result<()> {
    // Cargo watches only what is there: so the folder is, before the page is built.
    fs::create_dir_all(dist)?;
    println!("cargo::rerun-if-changed={}", dist.display());
    let dist = dist.canonicalize()?;
    let compressed = out.join("page");
    if compressed.exists() {
        fs::remove_dir_all(&compressed)?;
    }
    fs::create_dir_all(&compressed)?;
    let mut list = String::from("const FILES: &[File] = &[\n");
    for (number, path) in files(&dist)?.into_iter().enumerate() {
        let name = path.strip_prefix(&dist).map_err(io::Error::other)?;
        let name = name.to_string_lossy().replace('\\', "/");
        let plain = fs::read(&path)?;
        let kind = path.extension().and_then(|kind| kind.to_str());
        let variant = |ending: &str, bytes: io::Result<Vec<u8>>| -> io::Result<String> {
            let bytes = bytes?;
            let worth = kind.is_some_and(|kind| COMPRESSIBLE.contains(&kind));
            if !worth || bytes.len() + 100 > plain.len() {
                return Ok("None".into());
            }
            let path = compressed.join(format!("{number}.{ending}"));
            fs::write(&path, bytes)?;
            Ok(format!("Some(include_bytes!({path:?}))"))
        };
        let brotli = variant("br", brotli(&plain))?;
        let gzip = variant("gz", gzip(&plain))?;
        list += &format!(
            "    File {{ name: {name:?}, plain: include_bytes!({path:?}), brotli: {brotli}, gzip: {gzip} }},\n"
        );
    }
    list += "];\n";
    fs::write(out.join("page.rs"), list)
}

/// All files below a folder, in order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() {
            // Trunk's own folders, such as .stage, are no part of the page.
            if !hidden {
                all.extend(files(&path)?);
            }
        } else if !hidden {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = brotli::CompressorWriter::new(&mut out, 1 << 16, 11, 22);
    writer.write_all(bytes)?;
    writer.flush()?;
    drop(writer);
    Ok(out)
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes)?;
    writer.finish()
}
