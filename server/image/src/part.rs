//! The part of a picture that is looked at alone: cut from what was decoded, before it is resized.

use metadata::Region;

use super::ImageError;
use super::orient::Orientation;
use super::others::Decoded;

/// Bytes of an RGB pixel.
const PIXEL: usize = 3;

/// A rectangle of a picture as it is stored, in pixels of its full size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    /// Width and height of the whole picture, as stored.
    of: (u32, u32),
}

impl Part {
    /// What is cut for a region of the upright picture: that much of it as lies in the picture, grown by what surrounds it.
    /// `of` is the picture's width and height, as stored.
    ///
    /// # Errors
    /// [`ImageError::Outside`], if nothing of it lies in the picture.
    pub fn of(
        region: Region,
        orientation: Orientation,
        of: (u32, u32),
    ) -> Result<Self, ImageError> {
        let upright = orientation.upright(of.0, of.1);
        let (width, height) = (f64::from(upright.0), f64::from(upright.1));
        let from = (region.x, region.y);
        let to = (region.x + region.width, region.y + region.height);
        let within = Region::between(from, to, (width, height));
        if within.width <= 0.0 || within.height <= 0.0 {
            return Err(ImageError::Outside {
                width: upright.0,
                height: upright.1,
            });
        }
        let region = within.grown(upright);
        let (is_transposed, sideways, upside_down) = orientation.parts();
        let mirrored = |from: f64, length: f64, of: f64, is_mirrored: bool| {
            if is_mirrored {
                of - from - length
            } else {
                from
            }
        };
        let x = mirrored(region.x, region.width, width, sideways);
        let y = mirrored(region.y, region.height, height, upside_down);
        let (left, top, width, height) = if is_transposed {
            (y, x, region.height, region.width)
        } else {
            (x, y, region.width, region.height)
        };
        Ok(Part {
            left,
            top,
            width,
            height,
            of,
        })
    }

    /// The size that the whole picture would be resized to if this part of it is to have `size` on either side.
    pub fn size_of_whole(&self, size: u32) -> u32 {
        let wide = f64::from(self.of.0) / self.width;
        let high = f64::from(self.of.1) / self.height;
        (f64::from(size) * wide.max(high)).ceil() as u32
    }

    /// Leaves of `pixels`, RGB of a picture that may have been made smaller while it was decoded, this part alone.
    pub fn cut(&self, pixels: &mut [u8], picture: &mut Decoded) {
        let range = |from: f64, length: f64, of: u32, extent: f64, side: u32| {
            let scale = extent / f64::from(of);
            let first = ((from * scale).floor() as u32).min(side - 1);
            let end = ((from + length) * scale).ceil() as u32;
            (first, end.clamp(first + 1, side) - first)
        };
        let (left, width) = range(
            self.left,
            self.width,
            self.of.0,
            picture.extent.0,
            picture.width,
        );
        let (top, height) = range(
            self.top,
            self.height,
            self.of.1,
            picture.extent.1,
            picture.height,
        );
        let (stride, row) = (picture.width as usize * PIXEL, width as usize * PIXEL);
        let first = top as usize * stride + left as usize * PIXEL;
        for y in 0..height as usize {
            let from = first + y * stride;
            pixels.copy_within(from..from + row, y * row);
        }
        (picture.width, picture.height) = (width, height);
        picture.extent = (width.into(), height.into());
    }
}

#[cfg(test)]
mod tests {
    use ::image::ColorType;

    use super::*;

    fn region(x: f64, y: f64, width: f64, height: f64) -> Region {
        Region {
            x,
            y,
            width,
            height,
        }
    }

    /// Whichever way a picture is stored, the part is the one that is meant of the upright one.
    #[test]
    fn a_part_is_meant_upright() {
        let (width, height) = (6u32, 5u32);
        for number in 1..=8 {
            let orientation = Orientation::numbered(number);
            // A square, so that it can be turned as pictures are, whose first channel counts its pixels as stored.
            let mut square: Vec<u8> = (0..36).flat_map(|i| [i, 0, 0]).collect();
            orientation.apply(&mut square, 6);
            let upright = |x: usize, y: usize| square[(y * 6 + x) * PIXEL];
            let part = Part::of(region(1.0, 2.0, 2.0, 3.0), orientation, (6, 6)).unwrap();
            let mut stored: Vec<u8> = (0..36).flat_map(|i| [i, 0, 0]).collect();
            let mut picture = Decoded::whole(6, 6, ColorType::Rgb8);
            part.cut(&mut stored, &mut picture);
            let count = (picture.width * picture.height) as usize;
            let mut cut: Vec<u8> = stored[..count * PIXEL].iter().step_by(3).copied().collect();
            let mut meant: Vec<u8> = (2..5)
                .flat_map(|y| (1..3).map(move |x| (x, y)))
                .map(|(x, y)| upright(x, y))
                .collect();
            cut.sort_unstable();
            meant.sort_unstable();
            assert_eq!(cut, meant, "orientation {number}");
        }
        let part = Part::of(
            region(0.0, 0.0, 6.0, 5.0),
            Orientation::UPRIGHT,
            (width, height),
        );
        assert_eq!(part.unwrap().size_of_whole(40), 40);
    }

    #[test]
    fn a_part_of_a_smaller_copy_is_smaller() {
        let mut pixels: Vec<u8> = (0..8 * 4).flat_map(|i| [i, i, i]).collect();
        let mut picture = Decoded::whole(8, 4, ColorType::Rgb8);
        let part = Part::of(
            region(32.0, 16.0, 16.0, 16.0),
            Orientation::UPRIGHT,
            (64, 32),
        );
        let part = part.unwrap();
        assert_eq!(part.size_of_whole(10), 40);
        part.cut(&mut pixels, &mut picture);
        assert_eq!((picture.width, picture.height), (2, 2));
        assert_eq!(
            pixels[..12],
            [20, 20, 20, 21, 21, 21, 28, 28, 28, 29, 29, 29]
        );
    }

    #[test]
    fn what_lies_outside_is_no_part() {
        for (x, y, width, height) in [
            (100.0, 0.0, 9.0, 9.0),
            (0.0, 50.0, 9.0, 9.0),
            (3.0, 3.0, 0.0, 9.0),
            (1e30, 1e30, 1e30, 1e30),
        ] {
            let part = Part::of(region(x, y, width, height), Orientation::UPRIGHT, (100, 50));
            let outside = ImageError::Outside {
                width: 100,
                height: 50,
            };
            assert_eq!(part, Err(outside));
        }
        let part = Part::of(
            region(90.0, 40.0, 1e9, 1e9),
            Orientation::UPRIGHT,
            (100, 50),
        );
        assert!(part.is_ok());
    }
}
