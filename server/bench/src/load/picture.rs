//! The pictures that are sent: each different from all before, so that none is answered from a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use glimpse_image::to_jpeg;

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

/// The pictures of a benchmark.
#[derive(Clone)]
pub struct Pictures {
    files: Arc<[Vec<u8>]>,
    /// What they are, in words.
    pub what: String,
}

impl Pictures {
    /// The file, or every file of the folder, or else the standard picture.
    ///
    /// # Errors
    /// If there is nothing to be read.
    pub fn choose(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else {
            let file = standard()?;
            let what = format!(
                "a generated {WIDTH}×{HEIGHT} JPEG of {:.1} MB",
                file.len() as f64 / 1e6
            );
            return Ok(Pictures {
                files: [file].into(),
                what,
            });
        };
        let cannot = |e: std::io::Error| format!("--image {}: {e}", path.display());
        let mut paths: Vec<PathBuf> = if path.is_dir() {
            let entries = fs::read_dir(path).map_err(cannot)?;
            let files = entries.filter_map(Result::ok).map(|entry| entry.path());
            files.filter(|path| path.is_file()).collect()
        } else {
            vec![path.to_owned()]
        };
        paths.sort();
        let files: Vec<Vec<u8>> = paths
            .iter()
            .map(fs::read)
            .collect::<Result<_, _>>()
            .map_err(cannot)?;
        let bytes: usize = files.iter().map(Vec::len).sum();
        let name = path.file_name().unwrap_or(path.as_os_str());
        let what = match files.len() {
            0 => return Err(format!("--image {}: no file is in it", path.display())),
            1 => format!("{} ({:.2} MB)", name.display(), bytes as f64 / 1e6),
            n => format!(
                "{n} pictures of {} ({:.2} MB on average)",
                name.display(),
                bytes as f64 / 1e6 / n as f64
            ),
        };
        Ok(Pictures {
            files: files.into(),
            what,
        })
    }

    /// The `number`th picture: the files in turn, each time with other bytes. Pixels stay as they are, so that every
    /// round computes the same.
    pub fn nth(&self, number: u64) -> Vec<u8> {
        let file = &self.files[(number % self.files.len() as u64) as usize];
        let mark = number.to_be_bytes();
        if let Some(rest) = file.strip_prefix(&[0xff, 0xd8]) {
            // JPEG: a comment after the start of the image.
            let mut marked = vec![0xff, 0xd8, 0xff, 0xfe, 0, 2 + mark.len() as u8];
            marked.extend_from_slice(&mark);
            marked.extend_from_slice(rest);
            marked
        } else {
            // Elsewhere: after the end, which no decoder reads.
            [&file[..], &mark].concat()
        }
    }
}

/// Three shapes on a ground as coarse as a photograph's, which is what makes a JPEG large.
fn standard() -> Result<Vec<u8>, String> {
    let mut random = StdRng::seed_from_u64(1920);
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let noise: i16 = random.random_range(-20..=20);
            let colour = shape(x as f32, y as f32).unwrap_or([236, 232, 222]);
            pixels.extend(colour.map(|c| (i16::from(c) + noise).clamp(0, 255) as u8));
        }
    }
    to_jpeg(&pixels, WIDTH, HEIGHT, 96)
        .map_err(|e| format!("the standard picture could not be made: {e}"))
}

/// The colour of the shape at a point.
fn shape(x: f32, y: f32) -> Option<[u8; 3]> {
    let middle = HEIGHT as f32 / 2.0;
    let (circle, square, triangle) = (420.0, 960.0, 1500.0);
    if (x - circle).hypot(y - middle) < 210.0 {
        Some([214, 40, 40])
    } else if (x - square).abs() < 190.0 && (y - middle).abs() < 190.0 {
        Some([37, 99, 214])
    } else if (y - middle).abs() < 200.0 && (x - triangle).abs() < (y - middle + 200.0) * 0.56 {
        Some([34, 150, 70])
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glimpse_image::{self as image, Options};

    #[test]
    fn the_standard_picture_is_as_it_says() {
        let pictures = Pictures::choose(None).unwrap();
        let file = pictures.nth(0);
        assert!(
            (1_100_000..1_300_000).contains(&file.len()),
            "{}",
            file.len()
        );
        let header = image::probe(&file, &Options::default()).unwrap();
        assert_eq!(
            (header.width as usize, header.height as usize),
            (WIDTH, HEIGHT)
        );
    }

    #[test]
    fn marked_pictures_differ_in_bytes_alone() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../public/samples");
        let pictures = Pictures::choose(Some(&folder.join("shapes.jpg"))).unwrap();
        let [a, b] = [1, 2].map(|n| pictures.nth(n));
        assert_ne!(a, b);
        let [a, b] = [a, b].map(|file| image::load(&file, 64, &Options::default()).unwrap());
        assert_eq!(a.pixels, b.pixels);
    }
}
