//! What the fuzz target `pictures` begins with, has learnt and has found, without a fuzzer.

#[path = "../../../fuzz/checks/inputs.rs"]
mod inputs;
#[path = "../../../fuzz/checks/pictures.rs"]
mod pictures;

#[test]
fn pictures_are_pixels_or_errors() {
    for (path, data) in inputs::inputs("pictures", &["tests/pixels/fixtures"]) {
        println!("{}", path.display());
        pictures::check(&data);
    }
}
