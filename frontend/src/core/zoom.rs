//! A picture seen through a window: how large it is there, and where.

use super::crop::Region;

/// A picture's pixel takes at most so many of the window's, or as many as it takes where the whole picture fits in.
const CLOSEST: f64 = 8.0;

/// How a picture lies in a window, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zoom {
    /// Width and height of the picture, in its own pixels.
    pub picture: (f64, f64),
    /// Width and height of the window.
    pub window: (f64, f64),
    /// CSS pixels for each pixel of the picture.
    pub scale: f64,
    /// Where the picture's upper left corner lies in the window.
    pub left: f64,
    pub top: f64,
}

impl Zoom {
    /// The whole picture, as large as the window takes it.
    pub fn fit(picture: (f64, f64), window: (f64, f64)) -> Self {
        let zoom = Zoom {
            picture,
            window,
            scale: 0.0,
            left: 0.0,
            top: 0.0,
        };
        Zoom {
            scale: zoom.least(),
            ..zoom
        }
        .settled()
    }

    fn least(&self) -> f64 {
        let ratio = |window: f64, picture: f64| window / picture.max(1.0);
        ratio(self.window.0, self.picture.0).min(ratio(self.window.1, self.picture.1))
    }

    /// Whether the whole picture is in the window.
    pub fn is_fit(&self) -> bool {
        self.scale <= self.least() * 1.001
    }

    /// Closer by `factor`; the point of the picture that lies at `at` in the window stays there.
    pub fn by(self, factor: f64, at: (f64, f64)) -> Self {
        let least = self.least();
        let scale = (self.scale * factor).clamp(least, CLOSEST.max(least));
        let factor = scale / self.scale;
        Zoom {
            scale,
            left: at.0 - (at.0 - self.left) * factor,
            top: at.1 - (at.1 - self.top) * factor,
            ..self
        }
        .settled()
    }

    /// A pixel for a pixel, or the whole picture where that is what is seen already; around `at` in the window.
    pub fn toggled(self, at: (f64, f64)) -> Self {
        if self.is_fit() {
            let closer = (1.0 / self.scale).max(2.5);
            self.by(closer, at)
        } else {
            Zoom::fit(self.picture, self.window)
        }
    }

    pub fn moved(self, right: f64, down: f64) -> Self {
        Zoom {
            left: self.left + right,
            top: self.top + down,
            ..self
        }
        .settled()
    }

    /// This part of the picture, in a window of another size.
    pub fn resized(self, window: (f64, f64)) -> Self {
        if self.is_fit() {
            return Zoom::fit(self.picture, window);
        }
        let (right, down) = (window.0 - self.window.0, window.1 - self.window.1);
        Zoom { window, ..self }
            .moved(right / 2.0, down / 2.0)
            .by(1.0, (0.0, 0.0))
    }

    /// Without a gap where the picture could fill it: in the middle where it is smaller than the window.
    fn settled(self) -> Self {
        let place = |at: f64, picture: f64, window: f64| {
            let length = picture * self.scale;
            if length <= window {
                (window - length) / 2.0
            } else {
                at.clamp(window - length, 0.0)
            }
        };
        Zoom {
            left: place(self.left, self.picture.0, self.window.0),
            top: place(self.top, self.picture.1, self.window.1),
            ..self
        }
    }

    /// The point of the picture that lies there in the window.
    pub fn at(&self, window: (f64, f64)) -> (f64, f64) {
        let scale = self.scale.max(f64::MIN_POSITIVE);
        (
            (window.0 - self.left) / scale,
            (window.1 - self.top) / scale,
        )
    }

    /// The region between two points of the window.
    pub fn between(&self, a: (f64, f64), b: (f64, f64)) -> Region {
        Region::between(self.at(a), self.at(b), self.picture)
    }

    /// What of the picture is in the window.
    pub fn seen(&self) -> Region {
        self.between((0.0, 0.0), self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: (f64, f64) = (4000.0, 3000.0);
    const WINDOW: (f64, f64) = (800.0, 800.0);

    #[test]
    fn the_whole_picture_stands_in_the_middle() {
        let zoom = Zoom::fit(PICTURE, WINDOW);
        assert_eq!((zoom.scale, zoom.left, zoom.top), (0.2, 0.0, 100.0));
        assert!(zoom.is_fit());
        let seen = zoom.seen();
        assert_eq!(
            (seen.x, seen.y, seen.width, seen.height),
            (0.0, 0.0, 4000.0, 3000.0)
        );
        // A small picture is made larger.
        assert_eq!(Zoom::fit((40.0, 40.0), WINDOW).scale, 20.0);
    }

    #[test]
    fn what_is_pointed_at_stays_where_it_is() {
        let zoom = Zoom::fit(PICTURE, WINDOW).by(2.0, (400.0, 400.0));
        assert_eq!(zoom.at((400.0, 400.0)), (2000.0, 1500.0));
        let closer = zoom.by(3.0, (100.0, 700.0));
        let (before, after) = (zoom.at((100.0, 700.0)), closer.at((100.0, 700.0)));
        assert!((before.0 - after.0).abs() < 1e-6 && (before.1 - after.1).abs() < 1e-6);
        assert!(!closer.is_fit());
    }

    #[test]
    fn it_gets_no_closer_than_sense_and_no_further_than_the_whole() {
        let zoom = Zoom::fit(PICTURE, WINDOW);
        assert_eq!(zoom.by(1e9, (0.0, 0.0)).scale, CLOSEST);
        assert_eq!(zoom.by(1e-9, (0.0, 0.0)), zoom);
        assert_eq!(zoom.toggled((400.0, 400.0)).scale, 1.0);
        assert_eq!(zoom.toggled((400.0, 400.0)).toggled((0.0, 0.0)), zoom);
    }

    #[test]
    fn no_gap_is_left_at_an_edge() {
        let zoom = Zoom::fit(PICTURE, WINDOW).by(10.0, (400.0, 400.0));
        let far = zoom.moved(1e9, -1e9);
        assert_eq!(far.seen().x, 0.0);
        let seen = far.seen();
        assert!((seen.y + seen.height - 3000.0).abs() < 1e-6);
        let wide = zoom.resized((1600.0, 400.0));
        assert!(wide.scale == zoom.scale && wide.left <= 0.0);
        assert_eq!(
            Zoom::fit(PICTURE, WINDOW).resized((400.0, 400.0)),
            Zoom::fit(PICTURE, (400.0, 400.0))
        );
    }

    #[test]
    fn a_box_in_the_window_is_a_region_of_the_picture() {
        let region = Zoom::fit(PICTURE, WINDOW).between((500.0, 300.0), (100.0, 200.0));
        assert_eq!(
            (region.x, region.y, region.width, region.height),
            (500.0, 500.0, 2000.0, 500.0)
        );
    }
}
