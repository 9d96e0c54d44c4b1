//! Before the first picture.

use super::scratch::{KEPT, Scratch};
use super::{Options, load, to_jpeg};

/// The size that most screens and many cameras' previews have.
const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

/// Reads a picture of a common size, for a model that sees `size` × `size`, so that the first user's finds its buffers
/// and tables there: sets of them for as many pictures as are read `at_once`.
pub fn warm_up(size: u32, options: &Options, at_once: usize) {
    let pixels = vec![128_u8; WIDTH * HEIGHT * 3];
    if let Ok(file) = to_jpeg(&pixels, WIDTH, HEIGHT, 90) {
        let mut sets = Vec::new();
        while sets.len() < at_once.min(KEPT) {
            // Nobody waits for it; what would fail here fails with its reason at the first picture.
            let _ = load(&file, size, options);
            sets.push(Scratch::take());
        }
        sets.into_iter().for_each(Scratch::give_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leaves_no_trace_but_its_buffers() {
        for decoder in [crate::Decoder::TurboJpeg, crate::Decoder::Portable] {
            let options = Options {
                decoder,
                ..Options::default()
            };
            let file = include_bytes!("../../../public/samples/shapes.jpg");
            let before = load(file, 64, &options).unwrap();
            warm_up(64, &options, 2);
            let after = load(file, 64, &options).unwrap();
            assert_eq!(before.pixels.rgb(), after.pixels.rgb());
        }
    }
}
