//! What an animation's frames leave on its canvas, up to the first frame with anything on it.

use super::slack::at_least;

/// How many frames are looked at for one with anything on it, and how many pixels all of them together may have.
const MAX_FRAMES: u64 = 64;
const MAX_PIXELS: u64 = 400_000_000;

/// How many frames of a canvas of that size are looked at for one with anything on it.
pub(super) fn most_frames((width, height): (u32, u32)) -> u32 {
    let pixels = u64::from(width) * u64::from(height);
    (MAX_PIXELS / pixels.max(1)).clamp(1, MAX_FRAMES) as u32
}

/// The first of at most `most` frames with anything on it, by what `draw` makes of each: whether anything is on it, or
/// nothing if there is no such frame.
pub(super) fn first_shown<E>(
    most: u32,
    mut draw: impl FnMut(u32) -> Result<Option<bool>, E>,
) -> Result<Option<u32>, E> {
    for index in 0..most {
        match draw(index) {
            Ok(Some(true)) => return Ok(Some(index)),
            Ok(Some(false)) => {}
            Ok(None) => break,
            // Only what is shown has to be whole.
            Err(error) if index == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(None)
}

/// Whether a picture of RGBA pixels shows nothing: all is transparent, or all but one pixel of many, which some tools
/// put there to say where a frame begins.
pub(super) fn is_empty(pixels: &[[u8; 4]]) -> bool {
    let mut visible = pixels.iter().filter(|pixel| pixel[3] != 0);
    visible.next().is_none() || (pixels.len() > 1 && visible.next().is_none())
}

/// An animation's canvas, RGBA, transparent at first.
pub(super) struct Canvas<'a> {
    pixels: &'a mut [[u8; 4]],
    width: usize,
    height: usize,
    /// The only pixel that may be seen on it: where, and its colour.
    seen: Option<(usize, [u8; 4])>,
}

impl<'a> Canvas<'a> {
    /// A transparent canvas of `width` × `height` pixels, in `buffer`.
    pub fn new(buffer: &'a mut Vec<u8>, (width, height): (u32, u32)) -> Self {
        let (width, height) = (width as usize, height as usize);
        let buffer = at_least(buffer, 4 * width * height);
        buffer.fill(0);
        Canvas {
            pixels: buffer.as_chunks_mut().0,
            width,
            height,
            seen: None,
        }
    }

    /// Draws a frame at [left, top, width, height], as much of it as lies on the canvas: its visible pixels, or `all`.
    pub fn draw(&mut self, place: [u32; 4], frame: &[[u8; 4]], all: bool) {
        let [left, _, width, _] = place.map(|v| v as usize);
        for (row, from) in rows(place, self.height).zip(frame.chunks_exact(width.max(1))) {
            let to = row * self.width + left.min(self.width)..(row + 1) * self.width;
            for (to, from) in self.pixels[to].iter_mut().zip(from) {
                if all || from[3] != 0 {
                    *to = *from;
                }
            }
        }
    }

    /// Makes a frame's place transparent.
    pub fn clear(&mut self, place: [u32; 4]) {
        let [left, _, width, _] = place.map(|v| v as usize);
        for row in rows(place, self.height) {
            let from = left.min(self.width);
            let to = (left + width).min(self.width);
            self.pixels[row * self.width + from..row * self.width + to].fill([0; 4]);
        }
        self.keep();
    }

    /// Takes a frame off again. What it was drawn over had one pixel at most that could be seen.
    pub fn take_back(&mut self, place: [u32; 4]) {
        let seen = self.seen;
        self.clear(place);
        if let Some((at, color)) = seen {
            self.pixels[at] = color;
        }
        self.seen = seen;
    }

    /// Notes what can be seen, before another frame is drawn.
    pub fn keep(&mut self) {
        let at = self.pixels.iter().position(|pixel| pixel[3] != 0);
        self.seen = at.map(|at| (at, self.pixels[at]));
    }

    /// Whether nothing is on the canvas: [`is_empty`].
    pub fn is_empty(&self) -> bool {
        is_empty(self.pixels)
    }
}

/// The rows of the canvas that a frame covers.
fn rows([_, top, _, height]: [u32; 4], canvas: usize) -> std::ops::Range<usize> {
    let (top, height) = (top as usize, height as usize);
    top.min(canvas)..(top + height).min(canvas)
}
