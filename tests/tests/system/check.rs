//! `glimpse check`: what a sound checkpoint gets told, and one that is not.

use std::fs;
use std::path::PathBuf;

use crate::support::{data, glimpse};

#[test]
fn the_demo_computes_as_it_should() {
    let output = glimpse(&["check", "--device", "cpu"]);
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    for line in [
        "must   ok       files",
        "must   ok       numbers of the vision tower",
        "must   ok       numbers of the decoder",
        "usual  ok       How many circles are there?",
        "usual  ok       有几个圆？",
        "usual  ok       圆是什么颜色？",
        "all of it holds",
    ] {
        assert!(report.contains(line), "{line:?} is not in\n{report}");
    }
}

/// A folder of its own, removed at the end.
struct Copy(PathBuf);

impl Copy {
    fn of(name: &str) -> Self {
        let copy = std::env::temp_dir().join(format!("glimpse-check-{}", std::process::id()));
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir_all(&copy).unwrap();
        for entry in fs::read_dir(data(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
        Copy(copy)
    }

    fn check(&self) -> (bool, String) {
        let output = glimpse(&[
            "check",
            "--device",
            "cpu",
            "--model",
            self.0.to_str().unwrap(),
        ]);
        let report = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), report)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn weights_that_are_no_numbers_and_files_that_are_cut_fail() {
    let copy = Copy::of("checkpoints/wide-heads-mixed");
    let (holds, report) = copy.check();
    assert!(holds, "{report}");
    // Random weights say nothing that is usual.
    assert!(report.contains("unusual") && report.contains("all holds that must"));
    assert!(!report.contains(&*copy.0.to_string_lossy()), "{report}");

    let shard = fs::read_dir(&copy.0)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.extension().is_some_and(|it| it == "safetensors"));
    let shard = shard.max().unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let whole = bytes.clone();
    // Behind the header, whatever the type: all bits set is no number.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].fill(0xff);
    fs::write(&shard, &bytes).unwrap();
    let (holds, report) = copy.check();
    assert!(
        !holds && report.contains("must   FAILED   numbers of"),
        "{report}"
    );

    fs::write(&shard, &whole[..whole.len() - 4]).unwrap();
    let (holds, report) = copy.check();
    assert!(
        !holds && report.contains("must   FAILED   files"),
        "{report}"
    );
}
