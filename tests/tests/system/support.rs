//! The checkpoints that `tests/reference` wrote, with what the reference makes of them.
#![allow(dead_code)] // each test file uses its part

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

/// A checkpoint's folder with its goldens.
pub struct Golden {
    pub folder: PathBuf,
    pub conversation: Vec<Turn>,
    tensors: HashMap<String, Tensor>,
}

/// A question of the conversation about the picture, and what the reference answers greedily.
#[derive(Deserialize)]
pub struct Turn {
    pub question: String,
    /// Of the whole conversation so far, with the picture's placeholders.
    pub prompt_ids: Vec<u32>,
    /// With the picture in their place.
    pub position_ids: Vec<u32>,
    pub answer_ids: Vec<u32>,
}

/// A file of tests/data.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(name)
}

/// Those of tests/data, or of the folder that GLIMPSE_CHECKPOINTS names.
pub fn checkpoints() -> Vec<Golden> {
    let folder =
        std::env::var_os("GLIMPSE_CHECKPOINTS").map_or_else(|| data("checkpoints"), PathBuf::from);
    let mut folders: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(folders.len() >= 5, "{} lacks checkpoints", folder.display());
    folders.into_iter().map(Golden::open).collect()
}

impl Golden {
    fn open(folder: PathBuf) -> Self {
        let tensors =
            candle_core::safetensors::load(folder.join("goldens.safetensors"), &Device::Cpu)
                .unwrap();
        let conversation = std::fs::read(folder.join("conversation.json")).unwrap();
        Golden {
            conversation: serde_json::from_slice(&conversation).unwrap(),
            tensors,
            folder,
        }
    }

    pub fn name(&self) -> String {
        self.folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }

    /// The picture's file.
    pub fn picture(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("picture.png")).unwrap()
    }

    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let rows = self.tensors[name].to_dtype(DType::F32).unwrap();
        rows.to_vec2().unwrap()
    }
}

/// GLIMPSE_BIN, or where cargo puts it.
pub fn binary() -> PathBuf {
    let built = || data("../../target/release/glimpse");
    let path = std::env::var_os("GLIMPSE_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no {}: cargo build --release -p glimpse, or set GLIMPSE_BIN",
        path.display()
    );
    path
}

/// The built binary, run to its end without this machine's settings.
pub fn glimpse(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The same, not yet run.
pub fn command(arguments: &[&str]) -> Command {
    let clean = std::env::vars().filter(|(name, _)| !name.starts_with("GLIMPSE_"));
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().envs(clean);
    command
}
