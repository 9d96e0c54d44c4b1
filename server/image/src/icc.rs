//! A picture's colour profile: what its numbers mean where they aren't sRGB's.
//!
//! The model has seen sRGB. Colours of a wide or otherwise different profile are converted, after the resize, on the small
//! square. Most profiles are sRGB's own or nearly so: then nothing is done.

use std::borrow::Cow;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

pub(super) use color::MAX_BYTES;
use flate2::read::ZlibDecoder;
use metadata::Tiff;
use moxcms::{CmsError, ColorProfile, DataColorSpace, Layout, TransformOptions};

use super::Format;
use super::heif::{Heif, Property};

/// Steps of 255 by which a profile may differ from sRGB without anybody seeing it.
const NEARLY: u8 = 3;

/// Profiles that turned out to be nearly sRGB: most photos have one of a few, and need not be asked again.
static KNOWN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
const MAX_KNOWN: usize = 4;
const MAX_KNOWN_BYTES: usize = 64 << 10;

/// A profile within a file.
pub(super) enum Found<'a> {
    Plain(Cow<'a, [u8]>),
    /// By zlib.
    Deflated(&'a [u8]),
}

impl<'a> Found<'a> {
    /// Looks at the file's parts only.
    pub fn find(file: &'a [u8], format: Format) -> Option<Self> {
        match format {
            Format::Jpeg => in_jpeg(file).map(|profile| Found::Plain(profile.into())),
            Format::Png => metadata::png_chunks(file)
                .take_while(|(name, _)| name != b"IDAT")
                .find(|(name, _)| name == b"iCCP")
                .and_then(|(_, data)| {
                    let end = data.iter().take(80).position(|&byte| byte == 0)?;
                    match &data[end..] {
                        [0, 0, deflated @ ..] => Some(Found::Deflated(deflated)),
                        _ => None,
                    }
                }),
            Format::WebP => {
                const HAS_PROFILE: u8 = 0x20;
                let is_said = metadata::webp_flags(file) & HAS_PROFILE != 0;
                metadata::webp_chunks(file)
                    .find(|(name, _)| is_said && name == b"ICCP")
                    .map(|(_, data)| Found::Plain(data.into()))
            }
            Format::Tiff => {
                const PROFILE: u16 = 34675;
                let tiff = Tiff::new(file)?;
                let entry = tiff
                    .entries(tiff.main()?)
                    .find(|entry| entry.tag == PROFILE)?;
                tiff.value(&entry).map(|data| Found::Plain(data.into()))
            }
            Format::Heic | Format::Avif => {
                let heif = Heif::read(file).ok()?;
                // A profile says more than numbers do, where there are both.
                let mut numbers = None;
                for property in heif.colors() {
                    match property {
                        Property::Profile(profile) => return Some(Found::Plain(profile.into())),
                        Property::Colors(colors) => numbers = numbers.or(Some(colors)),
                        _ => {}
                    }
                }
                let numbers = numbers?;
                let profile = color::wide(numbers.primaries, numbers.transfer)?;
                let profile = profile.encode().ok()?;
                Some(Found::Plain(profile.into()))
            }
            Format::Gif | Format::Bmp => None,
        }
    }

    /// `None` where it is larger than [`MAX_BYTES`]; of what can't be inflated as much as can.
    fn bytes(self) -> Option<Cow<'a, [u8]>> {
        let bytes = match self {
            Found::Plain(bytes) => bytes,
            Found::Deflated(deflated) => {
                let mut bytes = Vec::new();
                let most = MAX_BYTES as u64 + 1;
                let _ = ZlibDecoder::new(deflated)
                    .take(most)
                    .read_to_end(&mut bytes);
                bytes.into()
            }
        };
        (bytes.len() <= MAX_BYTES).then_some(bytes)
    }
}

/// A JPEG's profile lies in pieces in APP2 segments, each with its number and how many there are.
fn in_jpeg(file: &[u8]) -> Option<Vec<u8>> {
    let mut pieces: [Option<&[u8]>; 256] = [None; 256];
    let mut count = 0;
    for segment in metadata::jpeg_segments(file) {
        if segment.marker == 0xE2
            && let Some([number, of, piece @ ..]) = segment.data.strip_prefix(b"ICC_PROFILE\0")
        {
            count = usize::from(*of);
            pieces[usize::from(*number)].get_or_insert(piece);
        }
    }
    if count == 0 {
        return None;
    }
    let mut profile = Vec::new();
    for piece in &pieces[1..=count] {
        profile.extend_from_slice((*piece)?);
        if profile.len() > MAX_BYTES {
            return None;
        }
    }
    Some(profile)
}

/// Makes sRGB of a square of RGB pixels of `file`, in place; leaves it as it is where the profile is missing, damaged, of
/// other colours than the picture, or nearly sRGB.
pub(super) fn to_srgb(file: &[u8], format: Format, rgb: &mut [u8]) {
    if let Some(bytes) = Found::find(file, format).and_then(Found::bytes) {
        // A profile that can't be used is as none: so do browsers take it.
        let _ = convert(&bytes, rgb);
    }
}

fn convert(bytes: &[u8], rgb: &mut [u8]) -> Result<(), CmsError> {
    if is_known(bytes) {
        return Ok(());
    }
    let profile = color::read(bytes)?;
    let srgb = ColorProfile::new_srgb();
    let to_rgb =
        |from| profile.create_transform_8bit(from, &srgb, Layout::Rgb, TransformOptions::default());
    match profile.color_space {
        DataColorSpace::Rgb => {
            let transform = to_rgb(Layout::Rgb)?;
            let colors = colors();
            let mut shown = vec![0; colors.len()];
            transform.transform(&colors, &mut shown)?;
            if is_nearly(&colors, &shown) {
                remember(bytes);
            } else {
                color::convert(&*transform, rgb, 3)?;
            }
        }
        DataColorSpace::Gray if is_gray(rgb) => {
            let grays: [u8; 256] = std::array::from_fn(|gray| gray as u8);
            let mut shown = [0; 256 * 3];
            to_rgb(Layout::Gray)?.transform(&grays, &mut shown)?;
            let shown = shown.as_chunks::<3>().0;
            if !is_nearly(
                grays.map(|gray| [gray; 3]).as_flattened(),
                shown.as_flattened(),
            ) {
                for pixel in rgb.as_chunks_mut::<3>().0 {
                    *pixel = shown[usize::from(pixel[0])];
                }
            }
        }
        // Four inks are mixed without their profile, as Pillow and browsers do it.
        _ => {}
    }
    Ok(())
}

fn is_known(profile: &[u8]) -> bool {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().any(|known| known == profile)
}

fn remember(profile: &[u8]) {
    if profile.len() <= MAX_KNOWN_BYTES {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(MAX_KNOWN - 1);
        known.insert(0, profile.to_vec());
    }
}

/// Every mixture of six steps of each channel.
fn colors() -> Vec<u8> {
    let steps = || (0..=255).step_by(51);
    steps()
        .flat_map(|red| steps().flat_map(move |green| steps().map(move |blue| [red, green, blue])))
        .flatten()
        .collect()
}

fn is_nearly(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= NEARLY)
}

fn is_gray(rgb: &[u8]) -> bool {
    rgb.as_chunks::<3>()
        .0
        .iter()
        .all(|[r, g, b]| r == g && g == b)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{ImageError, Options, load};

    const WIDTH: usize = 36;
    const HEIGHT: usize = 24;

    /// Soft colours that every profile has.
    fn scene() -> Vec<u8> {
        (0..WIDTH * HEIGHT)
            .flat_map(|at| {
                let (x, y) = (at % WIDTH, at / WIDTH);
                [60 + 4 * x, 190 - 5 * y, 70 + 2 * x + 2 * y].map(|value| value as u8)
            })
            .collect()
    }

    /// `rgb` in the numbers of another profile.
    fn in_profile(rgb: &[u8], profile: &ColorProfile) -> Vec<u8> {
        let srgb = ColorProfile::new_srgb();
        let transform = srgb
            .create_transform_8bit(
                Layout::Rgb,
                profile,
                Layout::Rgb,
                TransformOptions::default(),
            )
            .unwrap();
        let mut out = vec![0; rgb.len()];
        transform.transform(rgb, &mut out).unwrap();
        out
    }

    fn png(rgb: &[u8], profile: Option<&[u8]>) -> Vec<u8> {
        let image = ::image::RgbImage::from_raw(WIDTH as u32, HEIGHT as u32, rgb.to_vec()).unwrap();
        let mut file = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut file, ::image::ImageFormat::Png)
            .unwrap();
        let mut file = file.into_inner();
        if let Some(profile) = profile {
            let mut zlib = Vec::new();
            flate2::read::ZlibEncoder::new(profile, flate2::Compression::best())
                .read_to_end(&mut zlib)
                .unwrap();
            let chunk = [b"iCCPname\0\0", &zlib[..]].concat();
            let mut sum = flate2::Crc::new();
            sum.update(&chunk);
            let length = (chunk.len() as u32 - 4).to_be_bytes();
            let all = [&length, &chunk[..], &sum.sum().to_be_bytes()].concat();
            file.splice(33..33, all);
        }
        file
    }

    fn jpeg(rgb: &[u8], profile: &[u8]) -> Vec<u8> {
        let mut file = crate::to_jpeg(rgb, WIDTH, HEIGHT, 100).unwrap();
        let pieces: Vec<_> = profile.chunks(200).collect();
        // In any order.
        for (index, piece) in pieces.iter().enumerate() {
            let length = (piece.len() as u16 + 16).to_be_bytes();
            let number = [index as u8 + 1, pieces.len() as u8];
            let segment = [&[0xFF, 0xE2], &length[..], b"ICC_PROFILE\0", &number, piece].concat();
            file.splice(2..2, segment);
        }
        file
    }

    fn webp(rgb: &[u8], profile: &[u8]) -> Vec<u8> {
        let image = ::image::RgbImage::from_raw(WIDTH as u32, HEIGHT as u32, rgb.to_vec()).unwrap();
        let mut file = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut file, ::image::ImageFormat::WebP)
            .unwrap();
        let file = file.into_inner();
        let head = [
            b"VP8X\x0A\0\0\0\x20\0\0\0",
            &[WIDTH as u8 - 1, 0, 0, HEIGHT as u8 - 1, 0, 0][..],
        ]
        .concat();
        let length = (profile.len() as u32).to_le_bytes();
        let pad = &[0][..profile.len() % 2];
        let chunks = [
            b"WEBP",
            &head[..],
            b"ICCP",
            &length,
            profile,
            pad,
            &file[12..],
        ]
        .concat();
        [b"RIFF", &(chunks.len() as u32).to_le_bytes()[..], &chunks].concat()
    }

    /// One strip, not packed; gray where there is one channel.
    fn tiff(pixels: &[u8], channels: u16, profile: &[u8]) -> Vec<u8> {
        let data = 8 + 2 + 12 * 9 + 4;
        let mut file = b"II\x2A\0\x08\0\0\0\x09\0".to_vec();
        for (tag, kind, count, value) in [
            (256_u16, 3_u16, 1, WIDTH as u32),
            (257, 3, 1, HEIGHT as u32),
            (258, 3, 1, 8),
            (262, 3, 1, if channels == 1 { 1 } else { 2 }),
            (273, 4, 1, data + profile.len() as u32),
            (277, 3, 1, channels.into()),
            (278, 3, 1, HEIGHT as u32),
            (279, 4, 1, pixels.len() as u32),
            (34675, 7, profile.len() as u32, data),
        ] {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(u32::to_le_bytes(count));
            file.extend(u32::to_le_bytes(value));
        }
        [&file[..], &[0; 4], profile, pixels].concat()
    }

    fn shown(file: &[u8], raw: bool) -> Result<Vec<u8>, ImageError> {
        let options = Options {
            raw,
            ..Options::default()
        };
        load(file, 16, &options).map(|picture| picture.pixels.rgb().to_vec())
    }

    fn most(a: &[u8], b: &[u8]) -> u8 {
        a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn wide_and_swapped_profiles_become_srgb_in_every_format() {
        let mut swapped = ColorProfile::new_srgb();
        std::mem::swap(&mut swapped.red_colorant, &mut swapped.blue_colorant);
        let expected = shown(&png(&scene(), None), false).unwrap();
        for (name, profile) in [
            ("ProPhoto", ColorProfile::new_pro_photo_rgb()),
            ("P3", ColorProfile::new_display_p3()),
            ("Adobe", ColorProfile::new_adobe_rgb()),
            ("swapped", swapped),
        ] {
            let pixels = in_profile(&scene(), &profile);
            let profile = profile.encode().unwrap();
            for (format, file, allowed) in [
                ("PNG", png(&pixels, Some(&profile)), 4),
                ("JPEG", jpeg(&pixels, &profile), 12),
                ("WebP", webp(&pixels, &profile), 4),
                ("TIFF", tiff(&pixels, 3, &profile), 4),
            ] {
                let found = shown(&file, false).unwrap();
                let off = most(&found, &expected);
                assert!(off <= allowed, "{name} {format}: {off} off");
                // The original does not look at profiles.
                let raw = shown(&file, true).unwrap();
                let plain = shown(&png(&pixels, None), true).unwrap();
                assert!(
                    most(&raw, &plain) <= if format == "JPEG" { 8 } else { 0 },
                    "{name} {format}"
                );
                assert!(most(&raw, &expected) > 12, "{name} {format} is no test");
            }
        }
    }

    #[test]
    fn srgb_itself_changes_nothing() {
        let profile = ColorProfile::new_srgb().encode().unwrap();
        let expected = shown(&png(&scene(), None), false).unwrap();
        assert_eq!(
            shown(&png(&scene(), Some(&profile)), false).unwrap(),
            expected
        );
        let mut square = scene();
        let start = Instant::now();
        convert(&profile, &mut square).unwrap();
        println!("sRGB's own profile, once known: {:?}", start.elapsed());
        assert_eq!(square, scene());
        let profile = ColorProfile::new_pro_photo_rgb().encode().unwrap();
        let mut square = vec![100; 1120 * 1120 * 3];
        let start = Instant::now();
        convert(&profile, &mut square).unwrap();
        println!("another, on 1120 × 1120: {:?}", start.elapsed());
    }

    #[test]
    fn a_gray_profile_is_for_gray_pictures() {
        let linear = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
        let file = tiff(&[55; WIDTH * HEIGHT], 1, &linear);
        // A fifth of the light is nearly half of sRGB's numbers.
        let found = shown(&file, false).unwrap();
        assert!(
            found.iter().all(|&value| value.abs_diff(127) <= 2),
            "{}",
            found[0]
        );
        // What has colours has no gray profile.
        let file = tiff(&scene(), 3, &linear);
        assert_eq!(shown(&file, false).unwrap(), shown(&file, true).unwrap());
    }

    #[test]
    fn a_profile_that_is_none_is_passed_over() {
        let profile = ColorProfile::new_pro_photo_rgb().encode().unwrap();
        let expected = shown(&png(&scene(), None), false).unwrap();
        let cut = &profile[..profile.len() / 2];
        let noise: Vec<u8> = (0..3000_u64)
            .map(|at| ((at * at * 7919) >> 5) as u8)
            .collect();
        for bad in [&b""[..], b"icc", &profile[..100], cut, &noise] {
            let found = shown(&tiff(&scene(), 3, bad), false).unwrap();
            assert_eq!(found, expected);
        }
        for at in 0..profile.len() {
            let mut bad = profile.clone();
            bad[at] ^= 0xFF;
            assert!(shown(&tiff(&scene(), 3, &bad), false).is_ok());
        }
    }

    /// It says nothing about how much it is but in the end: so much is inflated and no more.
    #[test]
    fn a_profile_of_many_megabytes_is_not_inflated() {
        let zeros = vec![0; 64 << 20];
        let file = png(&scene(), Some(&zeros));
        assert!(file.len() < 1 << 20);
        let found = Found::find(&file, Format::Png).unwrap();
        assert!(found.bytes().is_none());
        let found = png(&scene(), Some(&zeros[..MAX_BYTES]));
        let found = Found::find(&found, Format::Png).unwrap();
        assert_eq!(found.bytes().unwrap().len(), MAX_BYTES);
    }
}
