//! Against PNGs of the same pixels (`tests/pixels/make_tiffs.py`), and against files that are made to cost much.

use std::path::{Path, PathBuf};

use crate::{Decoder, ImageError, Options, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pixels/tiff")
}

fn named(ending: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn rgb(file: &[u8], options: &Options) -> Result<Vec<u8>, ImageError> {
    load(file, 32, options).map(|picture| picture.pixels.rgb().to_vec())
}

#[test]
fn every_kind_shows_what_its_twin_shows() {
    let files = named(".tif");
    assert!(files.len() > 80, "{} files", files.len());
    let mut wrong = Vec::new();
    for (name, file) in files {
        let twin = name.split('.').nth(1).unwrap();
        let twin = std::fs::read(folder().join(format!("{twin}.png"))).unwrap();
        let expected = rgb(&twin, &Options::default()).unwrap();
        for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
            if decoder == Decoder::Portable && name == "tiff.jpeg-cmyk.tif" {
                continue; // four inks are beyond it
            }
            let options = Options {
                decoder,
                ..Options::default()
            };
            let found = match rgb(&file, &options) {
                Ok(found) => found,
                Err(error) => {
                    wrong.push(format!("{name} {decoder:?}: {error}"));
                    continue;
                }
            };
            // Colours at fewer points than brightness are spread by each decoder in its way.
            let allowed = match (decoder, name.contains("jpeg") || name.contains("ycbcr")) {
                (_, false) => 1,
                (Decoder::TurboJpeg, true) => 2,
                (Decoder::Portable, true) => 6,
            };
            let most = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            if most.unwrap() > allowed {
                wrong.push(format!("{name} {decoder:?}: {most:?} off"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Makes TIFFs, little endian.
#[derive(Clone)]
struct Maker {
    tags: Vec<(u16, u16, Vec<u32>)>,
    /// What follows the header: offsets begin at 8.
    data: Vec<u8>,
}

impl Maker {
    fn new(width: u32, height: u32) -> Self {
        let tag = |tag, value| (tag, 4, vec![value]);
        Maker {
            tags: vec![tag(256, width), tag(257, height)],
            data: Vec::new(),
        }
    }

    fn with(mut self, tag: u16, kind: u16, values: &[u32]) -> Self {
        self.tags.push((tag, kind, values.to_vec()));
        self
    }

    /// Where `bytes` lie in the file.
    fn add(&mut self, bytes: &[u8]) -> u32 {
        let at = self.data.len() as u32 + 8;
        self.data.extend_from_slice(bytes);
        at
    }

    fn file(mut self) -> Vec<u8> {
        self.tags.sort();
        let mut entries = Vec::new();
        for (tag, kind, values) in std::mem::take(&mut self.tags) {
            let size = [0, 1, 1, 2, 4, 8, 1, 1][usize::from(kind)];
            let mut bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes()[..size.min(4)].to_vec())
                .collect();
            if bytes.len() > 4 {
                bytes = self.add(&bytes).to_le_bytes().to_vec();
            }
            bytes.resize(4, 0);
            entries.extend_from_slice(&tag.to_le_bytes());
            entries.extend_from_slice(&kind.to_le_bytes());
            entries.extend_from_slice(&(values.len() as u32).to_le_bytes());
            entries.extend_from_slice(&bytes);
        }
        let directory = self.data.len() as u32 + 8;
        let count = (entries.len() / 12) as u16;
        [
            b"II\x2A\0",
            &directory.to_le_bytes()[..],
            &self.data,
            &count.to_le_bytes(),
            &entries,
            &[0; 4],
        ]
        .concat()
    }
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    flate2::read::ZlibEncoder::new(bytes, flate2::Compression::best())
        .read_to_end(&mut out)
        .unwrap();
    out
}

/// 60,000 strips of 8 × 1 that are all one JPEG of 4096 × 4096: it is never decoded.
#[test]
fn a_strip_of_jpeg_is_judged_by_its_own_header() {
    let large = crate::to_jpeg(&vec![128; 4096 * 4096 * 3], 4096, 4096, 50).unwrap();
    let strips = 60_000;
    let mut maker = Maker::new(8, strips)
        .with(258, 3, &[8, 8, 8])
        .with(259, 3, &[7])
        .with(262, 3, &[6])
        .with(277, 3, &[3])
        .with(278, 3, &[1]);
    let at = maker.add(&large);
    let file = maker
        .with(273, 4, &vec![at; strips as usize])
        .with(279, 4, &vec![large.len() as u32; strips as usize])
        .file();
    let layout = super::Layout::read(&file, false).unwrap();
    let mut jpeg = super::jpeg::Jpeg::new(&layout, Decoder::TurboJpeg);
    let error = jpeg.decode(&layout, &large, 1).unwrap_err();
    assert!(error.to_string().contains("another size"), "{error}");
    for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
        let options = Options {
            decoder,
            ..Options::default()
        };
        let error = rgb(&file, &options).unwrap_err();
        assert!(matches!(error, ImageError::Broken { .. }), "{error}");
    }
}

/// One strip may stand for all, as long as it costs no more than different ones would.
#[test]
fn equal_strips_may_be_stored_once() {
    let strip = zlib(&[77; 40 * 3]);
    let mut maker = Maker::new(40, 50)
        .with(258, 3, &[8, 8, 8])
        .with(259, 3, &[8])
        .with(262, 3, &[2])
        .with(277, 3, &[3])
        .with(278, 3, &[1]);
    let at = maker.add(&strip);
    let file = maker
        .with(273, 4, &[at; 50])
        .with(279, 4, &[strip.len() as u32; 50])
        .file();
    assert_eq!(rgb(&file, &Options::default()).unwrap(), [77; 32 * 32 * 3]);
}

/// A strip that unpacks to nothing, however much of it there is: it is looked at as far as it could make sense.
#[test]
fn what_unpacks_to_nothing_is_not_read_to_its_end() {
    let mut empty = vec![0x78, 0x9C];
    for _ in 0..1_000_000 {
        empty.extend_from_slice(&[0, 0, 0, 0xFF, 0xFF]);
    }
    let file = |rows: u32| {
        let mut maker = Maker::new(8, rows)
            .with(258, 3, &[8])
            .with(259, 3, &[8])
            .with(262, 3, &[1])
            .with(278, 3, &[1]);
        let at = maker.add(&empty);
        let rows = rows as usize;
        maker
            .with(273, 4, &vec![at; rows])
            .with(279, 4, &vec![empty.len() as u32; rows])
            .file()
    };
    let file = file(60_000);
    let layout = super::Layout::read(&file, false).unwrap();
    assert!(layout.chunk(0, 7, 0, 1).unwrap().len() <= 8192);
    assert!(matches!(
        rgb(&file, &Options::default()),
        Err(ImageError::Broken { .. })
    ));
}

#[test]
fn tiles_must_be_explained_by_the_picture() {
    let file = |width: u32, height: u32, tile_width: u32, tile_height: u32| {
        let mut maker = Maker::new(width, height)
            .with(258, 3, &[8])
            .with(259, 3, &[8])
            .with(262, 3, &[1])
            .with(322, 4, &[tile_width])
            .with(323, 4, &[tile_height]);
        let at = maker.add(&zlib(&[200; 256 * 256]));
        maker.with(324, 4, &[at]).with(325, 4, &[9999]).file()
    };
    assert!(rgb(&file(40, 40, 256, 256), &Options::default()).is_ok());
    for (width, height, tile_width, tile_height) in [
        (8, 8, 1 << 26, 16),
        (8, 8, 16, 1 << 26),
        (8, 8, u32::MAX, u32::MAX),
        (8, 8, 8192, 8192),
        (8, 8, 0, 16),
        (9000, 9000, 1, 1),
    ] {
        let error = rgb(
            &file(width, height, tile_width, tile_height),
            &Options::default(),
        )
        .unwrap_err();
        assert!(matches!(error, ImageError::Broken { .. }), "{error}");
    }
}

/// What says how many it has is believed only as far as it has them.
#[test]
fn directories_that_lie_are_refused() {
    let good = || {
        let mut maker = Maker::new(8, 8).with(258, 3, &[8]).with(262, 3, &[1]);
        let at = maker.add(&[9; 64]);
        maker.with(273, 4, &[at]).with(279, 4, &[64])
    };
    assert_eq!(
        rgb(&good().file(), &Options::default()).unwrap(),
        [9; 32 * 32 * 3]
    );
    for (tag, kind, value) in [
        (258, 3, 0),
        (258, 3, 65_535),
        (277, 3, 0),
        (277, 3, 65_535),
        (278, 4, 0),
        (278, 4, 1),
        (273, 4, u32::MAX),
        (273, 2, 8),
        (262, 3, 3),
        (262, 3, 5),
        (262, 3, 8),
        (262, 3, 99),
        (259, 3, 4),
        (259, 3, 5),
        (259, 3, 6),
        (259, 3, 7),
        (259, 3, 8),
        (259, 3, 34712),
        (259, 3, 50000),
        (339, 3, 3),
        (339, 3, 6),
    ] {
        let mut maker = good();
        maker.tags.retain(|entry| entry.0 != tag);
        let error = rgb(&maker.with(tag, kind, &[value]).file(), &Options::default());
        let error = error.expect_err(&format!("{tag}: {value}")).to_string();
        assert!(error.ends_with('.') && error.contains("TIFF"), "{error}");
    }
}

/// As cameras and scanners write them whose first directory is for a list of pictures.
#[test]
fn smaller_copies_are_passed_over() {
    let picture = |kind: u32, side: u32, value: u8, before: &[u8]| {
        let mut maker = Maker::new(side, side)
            .with(254, 4, &[kind])
            .with(258, 3, &[8])
            .with(262, 3, &[1])
            .with(274, 3, &[if side > 8 { 6 } else { 1 }]);
        // What comes before it lies where it did, for its offsets.
        maker.data.extend(before.iter().skip(8));
        let at = maker.add(&vec![value; (side * side) as usize]);
        maker
            .with(273, 4, &[at])
            .with(279, 4, &[side * side])
            .file()
    };
    let followed = |first: &[u8], kind: u32| {
        let mut both = picture(kind, 16, 200, first);
        // The header leads to the one before, and that one to the last.
        let last = both[4..8].to_vec();
        both[4..8].copy_from_slice(&first[4..8]);
        both[first.len() - 4..first.len()].copy_from_slice(&last);
        both
    };
    let (small, large) = ([7; 32 * 32 * 3], [200; 32 * 32 * 3]);
    for (first, second, expected, side) in [
        (1, 0, large, 16),
        (0, 0, small, 8),
        // Nothing but copies, a mask, and a second page.
        (1, 1, small, 8),
        (1, 4, small, 8),
        (2, 2, small, 8),
        (1, 2, large, 16),
    ] {
        let first = picture(first, 8, 7, &[]);
        let file = followed(&first, second);
        let found = load(&file, 32, &Options::default()).unwrap();
        assert_eq!(found.pixels.rgb(), expected, "{second}");
        assert_eq!(found.width, side);
        let is_turned = metadata::orientation(&file) == Some(6);
        assert_eq!(is_turned, side == 16);
        let raw = Options {
            raw: true,
            ..Options::default()
        };
        assert_eq!(rgb(&file, &raw).unwrap(), small);
        // Whose last directory leads back to the first.
        let mut circle = file.clone();
        let end = circle.len() - 4;
        circle[end..].copy_from_slice(&file[4..8]);
        assert_eq!(rgb(&circle, &Options::default()).unwrap(), expected);
    }
}

/// A frame of Zstandard says itself how far back it refers.
#[test]
fn zstd_windows_have_a_bound() {
    for (window, is_read) in [(0x68, true), (0x69, false), (0xFF, false)] {
        // An empty frame with this window, whose one block is 64 equal bytes.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0, window, 3, 2, 0, 50];
        let mut maker = Maker::new(8, 8)
            .with(258, 3, &[8])
            .with(259, 3, &[50000])
            .with(262, 3, &[1]);
        let at = maker.add(&frame);
        let file = maker.with(273, 4, &[at]).with(279, 4, &[10]).file();
        match rgb(&file, &Options::default()) {
            Ok(pixels) => assert!(is_read && pixels == [50; 32 * 32 * 3]),
            Err(error) => assert!(!is_read && error.to_string().contains("window"), "{error}"),
        }
    }
}

/// What unpacks says it in words of its own, which nobody can do anything with.
#[test]
fn damage_is_told_in_our_words() {
    // A frame of Zstandard whose one block is of a kind that there is none of.
    let zstd = [0x28, 0xB5, 0x2F, 0xFD, 0, 0x50, 7, 2, 0, 50].to_vec();
    let deflate = [&[0x78, 0x9C][..], &[0xFF; 30]].concat();
    let mut jpeg = std::fs::read(folder().join("../fixtures/420.jpg")).unwrap();
    let scan = jpeg.windows(2).position(|two| two == [0xFF, 0xDA]).unwrap();
    jpeg.truncate(scan + 20);
    let (gray, color) = (&[8][..], &[8, 8, 8][..]);
    for (side, bits, packing, strip) in [
        (8, gray, 50000, zstd),
        (8, gray, 8, deflate),
        (47, color, 7, jpeg),
    ] {
        let mut maker = Maker::new(side, side)
            .with(258, 3, bits)
            .with(259, 3, &[packing])
            .with(262, 3, &[if bits.len() == 1 { 1 } else { 6 }])
            .with(277, 3, &[bits.len() as u32]);
        let at = maker.add(&strip);
        let file = maker
            .with(273, 4, &[at])
            .with(279, 4, &[strip.len() as u32])
            .file();
        for decoder in [Decoder::TurboJpeg, Decoder::Portable] {
            let options = Options {
                decoder,
                ..Options::default()
            };
            let error = rgb(&file, &options).map(drop).unwrap_err();
            let words = error.to_string();
            let start = "This TIFF picture is cut off or damaged: ";
            let what = words
                .strip_prefix(start)
                .unwrap_or_else(|| panic!("{words}"));
            let ours = [
                "it is not packed as it says",
                "part of its data is missing",
                "part of its data makes no sense",
            ];
            assert!(
                ours.iter().any(|ours| what.starts_with(ours)),
                "{packing}: {words}"
            );
        }
    }
}

/// The obsolete kind that offices' scanners wrote: a whole JPEG file within the TIFF.
#[test]
fn a_whole_jpeg_inside_is_read() {
    let (_, jpeg) = (
        0,
        std::fs::read(folder().join("../fixtures/420.jpg")).unwrap(),
    );
    let mut maker = Maker::new(47, 47)
        .with(258, 3, &[8, 8, 8])
        .with(259, 3, &[6])
        .with(262, 3, &[6])
        .with(277, 3, &[3]);
    let at = maker.add(&jpeg);
    let length = jpeg.len() as u32;
    let file = maker
        .with(513, 4, &[at])
        .with(514, 4, &[length])
        .with(273, 4, &[at])
        .with(279, 4, &[length])
        .file();
    let options = Options::default();
    assert_eq!(rgb(&file, &options).unwrap(), rgb(&jpeg, &options).unwrap());
}

/// The other obsolete kind: strips that are scans, with the tables apart.
#[test]
fn scans_with_their_tables_apart_are_read() {
    let jpeg = std::fs::read(folder().join("../fixtures/420.jpg")).unwrap();
    let mut maker = Maker::new(47, 47)
        .with(258, 3, &[8, 8, 8])
        .with(259, 3, &[6])
        .with(262, 3, &[6])
        .with(277, 3, &[3])
        .with(512, 3, &[1])
        .with(530, 3, &[2, 2]);
    let (mut quantisation, mut codes) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut scan = 0;
    for segment in metadata::jpeg_segments(&jpeg) {
        let mut data = segment.data;
        match segment.marker {
            0xDB => {
                while let [_, rest @ ..] = data {
                    quantisation.push(maker.add(&rest[..64]));
                    data = &rest[64..];
                }
            }
            0xC4 => {
                while let [kind, rest @ ..] = data {
                    let count: usize = rest[..16].iter().map(|&count| usize::from(count)).sum();
                    codes[usize::from(kind >> 4)].push(maker.add(&rest[..16 + count]));
                    data = &rest[16 + count..];
                }
            }
            _ => {}
        }
        scan = jpeg.len() - segment.rest.len() + segment.data.len();
    }
    // Behind the scan's own header.
    scan += 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]));
    let at = maker.add(&jpeg[scan..jpeg.len() - 2]);
    let of_each = |tables: &[u32]| [tables[0], tables[1], tables[1]];
    maker.add(&[0; 1 << 20]);
    maker = maker
        .with(519, 4, &of_each(&quantisation))
        .with(520, 4, &of_each(&codes[0]))
        .with(521, 4, &of_each(&codes[1]))
        .with(273, 4, &[at]);
    let length = (jpeg.len() - 2 - scan) as u32;
    let file = maker.clone().with(279, 4, &[length]).file();
    // What lies behind it is not copied for each strip, whatever its length says.
    let endless = maker.with(279, 4, &[1 << 20]).file();
    let layout = super::Layout::read(&endless, false).unwrap();
    assert!(layout.chunk(0, 0, 0, 47).unwrap().len() < 1 << 16);
    let options = Options::default();
    assert_eq!(rgb(&file, &options).unwrap(), rgb(&jpeg, &options).unwrap());
}

/// Cut off anywhere, flipped anywhere: an error or a picture, and never less than all its rows.
#[test]
fn what_is_cut_off_is_refused() {
    for (name, file) in named(".tif") {
        for part in [30, 60, 90] {
            // Pillow puts directories first, tifffile too: what is cut off is pixels.
            let cut = &file[..file.len() * part / 100];
            if let Ok(pixels) = rgb(cut, &Options::default()) {
                let whole = rgb(&file, &Options::default()).unwrap();
                assert_eq!(pixels, whole, "{name} {part} %");
            }
        }
        for at in (0..file.len().min(1000)).step_by(7) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            if let Err(error) = rgb(
                &damaged,
                &Options {
                    max_pixels: 1 << 22,
                    ..Options::default()
                },
            ) {
                assert!(error.to_string().ends_with('.'), "{error}");
            }
        }
    }
}
