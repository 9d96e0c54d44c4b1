//! Compiles the CUDA kernels for one kind of card: that of `CUDA_COMPUTE_CAP`, or the one in this machine.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

use cudaforge::{CudaToolkit, detect_compute_cap};

/// The oldest cards with bf16 products and copies in the background.
const OLDEST: usize = 80;

/// Writes a cubin for each source in `sources`, and `cuda.rs`, which lists them and says what they are for. With
/// `GLIMPSE_CUBINS=none` there are no cubins: enough for clippy, and nothing runs. With `GLIMPSE_CUBINS=ptx` it is PTX, which the
/// driver of a newer card compiles for that: so the tests of what older cards run can run where there is none of them.
pub fn kernels(sources: &Path, out: &Path) -> Result<()> {
    println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
    println!("cargo::rerun-if-env-changed=NVCC");
    println!("cargo::rerun-if-env-changed=GLIMPSE_CUBINS");
    let arch = detect_compute_cap().map_err(|e| {
        Error::other(format!(
            "for which card? Set CUDA_COMPUTE_CAP, 80 for an A100, 86 for a 3060, 89 for a 4090, 90 for an H100 ({e})"
        ))
    })?;
    if arch.base() < OLDEST {
        return Err(Error::other(format!(
            "CUDA_COMPUTE_CAP={arch}: cards before 80 are not served"
        )));
    }
    let toolkit = CudaToolkit::detect().map_err(|e| {
        Error::other(format!(
            "the feature cuda needs NVIDIA's CUDA toolkit with nvcc ({e})"
        ))
    })?;
    let cubins = env::var_os("GLIMPSE_CUBINS");
    let ptx = cubins.as_deref().is_some_and(|how| how == "ptx");
    let compiler = Compiler {
        nvcc: toolkit.nvcc_path,
        ptx,
        base: arch.base(),
        name: match ptx {
            true => format!("compute_{}", arch.base()),
            false => arch.to_nvcc_arch(),
        },
        out: out.into(),
    };
    let files = files(sources)?;
    let kernels: Vec<&PathBuf> = files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "cu") && (ptx || cubins.is_none()))
        // Hopper's instructions are its own.
        .filter(|f| arch.base() == 90 || !of_hopper(f))
        .collect();
    thread::scope(|scope| {
        let tasks: Vec<_> = kernels
            .iter()
            .map(|source| scope.spawn(|| compiler.compile(source)))
            .collect();
        tasks.into_iter().try_for_each(|task| {
            task.join()
                .unwrap_or_else(|_| Err(Error::other("nvcc could not be run")))
        })
    })?;
    fs::write(out.join("cuda.rs"), compiler.list(&kernels)?)
}

/// Whether a source is for Hopper alone.
fn of_hopper(source: &Path) -> bool {
    let name = source.file_stem().map(|stem| stem.to_string_lossy());
    name.is_some_and(|name| name.starts_with("hopper"))
}

/// The files of a folder, whose changes make the kernels anew.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    println!("cargo::rerun-if-changed={}", folder.display());
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    Ok(files)
}

/// nvcc, and what it is to make.
struct Compiler {
    nvcc: PathBuf,
    /// PTX instead of cubins.
    ptx: bool,
    /// The compute capability, times ten, and nvcc's name of it.
    base: usize,
    name: String,
    /// Where the cubins go.
    out: PathBuf,
}

impl Compiler {
    /// The cubin of a source.
    fn cubin(&self, source: &Path) -> PathBuf {
        let file = source.with_extension("cubin");
        self.out.join(file.file_name().unwrap_or_default())
    }

    fn compile(&self, source: &Path) -> Result<()> {
        let flag = if self.ptx { "-ptx" } else { "-cubin" };
        let result = Command::new(&self.nvcc)
            .args([flag, "-O3", "-std=c++17"])
            .arg(format!("-arch={}", self.name))
            .arg("-o")
            .arg(self.cubin(source))
            .arg(source)
            .output()?;
        match result.status.success() {
            true => Ok(()),
            false => Err(Error::other(format!(
                "nvcc failed on {}:\n{}",
                source.display(),
                String::from_utf8_lossy(&result.stderr)
            ))),
        }
    }

    /// Rust's list of what was compiled.
    fn list(&self, kernels: &[&PathBuf]) -> Result<String> {
        let mut list = format!(
            "/// The compute capability that this was built for, times ten, and nvcc's name of it.\n\
             pub const BUILT_FOR: (u32, &str) = ({}, {:?});\n\
             /// Cubins, each with the names of its kernels.\n\
             pub const CUBINS: &[(&[u8], &[&str])] = &[\n",
            self.base, self.name
        );
        for source in kernels {
            let cubin = self.cubin(source);
            let mut code = fs::read(&cubin)?;
            let names = match self.ptx {
                true => ptx_names(&code),
                false => kernel_names(&code),
            };
            if self.ptx {
                // A text that the driver reads to its end.
                code.push(0);
                fs::write(&cubin, code)?;
            }
            list += &format!("    (include_bytes!({cubin:?}), &{names:?}),\n");
        }
        list += "];\n";
        Ok(list)
    }
}

/// PTX says `.entry NAME(` of each kernel.
fn ptx_names(ptx: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(ptx);
    let entries = text.split(".entry ").skip(1);
    entries
        .filter_map(|rest| Some(rest.split_once('(')?.0.trim().to_string()))
        .collect()
}

/// A cubin is an ELF file, with a section `.text.NAME` for each kernel; their names lie in a table, each ended by a zero.
fn kernel_names(cubin: &[u8]) -> Vec<String> {
    const SECTION: &[u8] = b"\0.text.";
    let starts = (0..cubin.len()).filter(|at| cubin[*at..].starts_with(SECTION));
    let names = starts.map(|at| {
        let name = cubin[at + SECTION.len()..].split(|byte| *byte == 0).next();
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}
