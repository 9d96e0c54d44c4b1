//! A part of a picture that is looked at alone.

use serde::{Deserialize, Serialize};

/// A model that squeezes to a square still reads what is at most this much longer than it is wide, or the other way round.
const LONGEST: f64 = 2.0;
/// Less than this, in pixels, is a click and no region.
const SMALLEST: f64 = 8.0;

/// A part of a picture, in pixels from its upper left corner, upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Region {
    /// The one between two corners, within a picture of this width and height.
    pub fn between(a: (f64, f64), b: (f64, f64), of: (f64, f64)) -> Self {
        let side = |a: f64, b: f64, of: f64| {
            let (from, to) = (a.min(b).clamp(0.0, of), a.max(b).clamp(0.0, of));
            (from, to - from)
        };
        let (x, width) = side(a.0, b.0, of.0);
        let (y, height) = side(a.1, b.1, of.1);
        Region {
            x,
            y,
            width,
            height,
        }
    }

    /// Whether there is anything to be seen in it.
    pub fn is_seen(&self) -> bool {
        self.width >= SMALLEST && self.height >= SMALLEST
    }

    /// The region that is cut for it: whole pixels, grown by what surrounds it until neither side is longer than twice the
    /// other, as far as the picture goes.
    pub fn grown(&self, of: (u32, u32)) -> Self {
        let (of_width, of_height) = (f64::from(of.0), f64::from(of.1));
        let grow = |from: f64, length: f64, other: f64, of: f64| {
            let wanted = length.max(other / LONGEST).ceil().min(of);
            let begin = (from - (wanted - length) / 2.0).floor();
            (begin.clamp(0.0, of - wanted), wanted)
        };
        let (x, width) = grow(self.x, self.width, self.height, of_width);
        let (y, height) = grow(self.y, self.height, self.width, of_height);
        Region {
            x,
            y,
            width,
            height,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: f64, y: f64, width: f64, height: f64) -> Region {
        Region {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn a_region_lies_between_its_corners_and_in_the_picture() {
        let drawn = Region::between((90.0, 10.0), (-20.0, 40.0), (100.0, 100.0));
        assert_eq!(drawn, region(0.0, 10.0, 90.0, 30.0));
        assert!(drawn.is_seen());
        assert!(!Region::between((5.0, 5.0), (6.0, 60.0), (100.0, 100.0)).is_seen());
    }

    #[test]
    fn a_region_is_grown_to_no_more_than_two_to_one_by_what_surrounds_it() {
        let of = (4000, 3000);
        // A line of print: as much above it as below.
        assert_eq!(
            region(1000.0, 500.0, 800.0, 100.0).grown(of),
            region(1000.0, 350.0, 800.0, 400.0)
        );
        // At the upper edge it grows downwards.
        assert_eq!(
            region(0.0, 0.0, 800.0, 100.0).grown(of),
            region(0.0, 0.0, 800.0, 400.0)
        );
        // At the right edge it grows to the left.
        assert_eq!(
            region(3990.0, 100.0, 10.0, 400.0).grown(of),
            region(3800.0, 100.0, 200.0, 400.0)
        );
        // Between 1:2 and 2:1 already.
        assert_eq!(
            region(10.2, 10.0, 99.5, 60.0).grown(of),
            region(9.0, 10.0, 100.0, 60.0)
        );
    }

    #[test]
    fn a_region_never_leaves_the_picture() {
        let of = (4000, 300);
        assert_eq!(
            region(0.0, 0.0, 4000.0, 300.0).grown(of),
            region(0.0, 0.0, 4000.0, 300.0)
        );
        for x in (0..4000).step_by(37) {
            for width in [8.0, 300.0, 1500.0] {
                let grown = region(f64::from(x), 100.0, width, 9.0).grown(of);
                assert!(
                    grown.x >= 0.0 && grown.x + grown.width <= 4000.0,
                    "{grown:?}"
                );
                assert!(
                    grown.y >= 0.0 && grown.y + grown.height <= 300.0,
                    "{grown:?}"
                );
                assert!(grown.width <= 4000.0 && grown.height >= 9.0);
            }
        }
    }
}
