//! Whether a picture is made smaller before it is sent.

use super::settings::Scaling;

/// Scaling has to be quicker by this to be worth it.
const WORTH_MS: f64 = 100.0;
/// What scaling takes, with room to spare: a decode is the most of it.
const SCALE_MS: f64 = 50.0;
const SCALE_MS_PER_BYTE: f64 = 1e-4;
/// Bytes that a scaled picture takes for each pixel of the square that the model sees.
const BYTES_PER_PIXEL: f64 = 0.5 * 1.4;

/// To how many pixels of its shorter side a picture of so many bytes is scaled, if at all. `seen` is what the model sees,
/// `uplink` the bytes per millisecond that the connection was measured to take.
pub fn side(wanted: Scaling, seen: Option<u32>, bytes: u64, uplink: Option<f64>) -> Option<u32> {
    // Twice what the model sees: its own transform then averages as it would over the original.
    let side = 2 * seen?;
    let quicker = |uplink: f64| {
        let smaller = BYTES_PER_PIXEL * f64::from(side).powi(2);
        let scaling = SCALE_MS + SCALE_MS_PER_BYTE * bytes as f64;
        bytes as f64 / uplink > smaller / uplink + scaling + WORTH_MS
    };
    let scaled = match wanted {
        Scaling::Always => true,
        Scaling::Original => false,
        Scaling::Auto => uplink.is_some_and(quicker),
    };
    scaled.then_some(side)
}

/// Whether a server that reads these formats reads a file of this type; where either is unknown, it may.
pub fn is_read(formats: &[String], kind: &str) -> bool {
    let Some(format) = kind.strip_prefix("image/") else {
        return true;
    };
    let name = match format.strip_prefix("x-").unwrap_or(format) {
        "jpg" | "pjpeg" => "jpeg",
        "heif" | "heic-sequence" | "heif-sequence" => "heic",
        "ms-bmp" => "bmp",
        other => other,
    };
    formats.is_empty() || formats.iter().any(|format| format == name)
}

/// As [`side`], of a picture that is on its way and of which so many bytes are left, by the rate that it has had so far.
pub fn midway(wanted: Scaling, seen: Option<u32>, left: u64, rate: f64) -> Option<u32> {
    (wanted == Scaling::Auto)
        .then(|| side(wanted, seen, left, Some(rate)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_itself_only_where_it_is_quicker() {
        let by_itself = |bytes, uplink| side(Scaling::Auto, Some(384), bytes, uplink);
        // 3 MB at 1 MB a second, at 100 MB a second, and over a connection of which nothing is known.
        assert_eq!(by_itself(3_000_000, Some(1e3)), Some(768));
        assert_eq!(by_itself(3_000_000, Some(1e5)), None);
        assert_eq!(by_itself(3_000_000, None), None);
        assert_eq!(by_itself(300_000, Some(1e3)), None);
    }

    #[test]
    fn what_the_server_does_not_read_is_known_by_its_type() {
        let formats = ["jpeg", "heic", "bmp"].map(str::to_owned);
        for kind in [
            "image/jpeg",
            "image/jpg",
            "image/heif",
            "image/x-ms-bmp",
            "",
            "application/pdf",
        ] {
            assert!(is_read(&formats, kind), "{kind}");
        }
        assert!(!is_read(&formats, "image/jxl") && !is_read(&formats, "image/avif"));
        assert!(is_read(&[], "image/jxl"));
    }

    #[test]
    fn as_the_person_wants_it_where_the_model_is_known() {
        assert_eq!(side(Scaling::Always, Some(1120), 10, None), Some(2240));
        assert_eq!(
            side(Scaling::Original, Some(1120), 1 << 30, Some(1.0)),
            None
        );
        assert_eq!(side(Scaling::Always, None, 10, None), None);
    }
}
