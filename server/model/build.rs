//! Lists the files of the demo checkpoint, which the library holds; compiles the CUDA kernels where they are wanted.

#[cfg(feature = "cuda")]
#[path = "build/cuda.rs"]
mod cuda;

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?);
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::kernels(&here.join("cuda"), &out)?;
    demo(&here.join("../../models/demo"), &out)
}

fn demo(folder: &Path, out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let folder = folder.canonicalize()?;
    let mut list = String::from("static DEMO_FILES: &[(&str, &[u8])] = &[\n");
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
    fs::write(out.join("demo.rs"), list)
}
