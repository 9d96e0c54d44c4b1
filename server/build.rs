//! Lists the demo checkpoint's files, so that the binary holds them, and watches the page, which it holds too.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    watch_page(&Path::new(&root).join("../dist"))?;
    let folder = Path::new(&root).join("../models/demo");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut list = String::from("const DEMO_FILES: &[(&str, &[u8])] = &[\n");
    let folder = folder.canonicalize()?;
    let mut names: Vec<String> = fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            [".json", ".model", ".safetensors"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        println!("cargo::rerun-if-changed={}", path.display());
        list += &format!("    ({name:?}, include_bytes!({path:?})),\n");
    }
    list += "];\n";
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("demo.rs"), list)
}

/// A page that is built after the server was must get into the next build. Cargo takes a watched folder that is missing
/// for one that always changed, so there is an empty one until then.
fn watch_page(dist: &Path) -> io::Result<()> {
    fs::create_dir_all(dist)?;
    println!("cargo::rerun-if-changed={}", dist.display());
    Ok(())
}
