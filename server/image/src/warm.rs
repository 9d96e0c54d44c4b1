//! Before the first picture.

use super::to_jpeg;

/// The size that most screens and many cameras' previews have.
const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

/// A JPEG of a common size. Whatever reads it before the first user's finds its buffers and tables there.
pub fn common_picture() -> Option<Vec<u8>> {
    let pixels = vec![128_u8; WIDTH * HEIGHT * 3];
    to_jpeg(&pixels, WIDTH, HEIGHT, 90).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, load};

    #[test]
    fn it_leaves_no_trace_but_its_buffers() {
        for decoder in [crate::Decoder::TurboJpeg, crate::Decoder::Portable] {
            let options = Options {
                decoder,
                ..Options::default()
            };
            let file = include_bytes!("../../../public/samples/shapes.jpg");
            let before = load(file, 64, &options).unwrap();
            assert!(load(&common_picture().unwrap(), 64, &options).is_ok());
            let after = load(file, 64, &options).unwrap();
            assert_eq!(before.pixels.rgb(), after.pixels.rgb());
        }
    }
}
