//! What the fuzz targets for pictures begin with, have learnt and have found, without a fuzzer.

use std::path::Path;

#[path = "../../../fuzz/checks/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/checks/pictures/mod.rs"]
mod pictures;

/// Calls `check` with every input, whose file's name is there to read if it panics.
fn replay(target: &str, seeds: &[&str], check: fn(&[u8]) -> bool) {
    let is_seed = |path: &Path| {
        !path
            .iter()
            .any(|part| part == "corpus" || part == "artifacts")
    };
    let (mut begun, mut read) = (0, 0);
    for (path, data) in inputs::inputs(target, seeds) {
        println!("{}", path.display());
        let is_picture = check(&data);
        begun += u32::from(is_seed(&path));
        read += u32::from(is_seed(&path) && is_picture);
    }
    // Seeds that nothing reads would teach a fuzzer nothing; a few are wrong on purpose.
    assert!(
        read * 4 > begun * 3,
        "{read} of {begun} {target} seeds are pictures"
    );
}

#[test]
fn pictures_are_pixels_or_errors() {
    let seeds = ["fixtures", "heif", "tiff"].map(|folder| format!("tests/pixels/{folder}"));
    let seeds = seeds.each_ref().map(String::as_str);
    replay("pictures", &seeds, pictures::check);
}

#[test]
fn pngs_by_their_chunks_are_pixels_or_errors() {
    replay("png", &["fuzz/seeds/png"], pictures::png::check);
}

#[test]
fn webps_by_their_chunks_are_pixels_or_errors() {
    replay("webp", &["fuzz/seeds/webp"], pictures::webp::check);
}

#[test]
fn tiffs_by_their_directories_are_pixels_or_errors() {
    replay("tiff", &["fuzz/seeds/tiff"], pictures::tiff::check);
}

#[test]
fn exif_turns_every_kind_of_file_alike() {
    replay("exif", &["fuzz/seeds/exif"], pictures::exif::check);
}
