//! Pictures that stand in the request itself, as data URLs.

use base64_simd::{Out, STANDARD};
use wire::ErrorCode;

use super::incoming::Share;
use crate::session::{File, Shared};
use api::Failure;

/// Base64 that is decoded at once: a whole number of groups of four characters, for 48 KiB.
const GROUPS: usize = 64 << 10;

/// What follows a URL's scheme, which may be in capitals.
pub fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The file in what follows `data:`, and its SHA-256.
///
/// # Errors
/// `bad_message` where it is not in base64, `upload_too_large`, `busy`.
pub fn decode(data: &str, share: &Share, shared: &Shared) -> Result<(File, [u8; 32]), Failure> {
    let broken = |message: &str| Failure::new(ErrorCode::BadMessage, message);
    let Some((_, base64)) = data.split_once(";base64,") else {
        return Err(broken(
            "The data URL is not in base64: write data:image/jpeg;base64,…",
        ));
    };
    let most = shared.limits.upload_bytes;
    let announced = base64.len() as u64 / 4 * 3;
    if announced > most.saturating_add(3) {
        let message = format!(
            "The picture's file has some {announced} bytes, but at most {most} are taken: send a smaller one."
        );
        return Err(Failure::new(ErrorCode::UploadTooLarge, message));
    }
    let mut incoming = share.receive(announced + 3, shared);
    let text = base64.as_bytes();
    let damaged = || broken("The data URL's base64 is damaged: encode the file again.");
    if STANDARD.check(text).is_ok() {
        let mut room = vec![0u8; GROUPS / 4 * 3];
        for groups in text.chunks(GROUPS) {
            let piece = STANDARD.decode(groups, Out::from_slice(&mut room));
            incoming.push(piece.map_err(|_| damaged())?)?;
        }
    } else {
        // With line ends in it, or without padding.
        incoming.push(&base64_simd::forgiving_decode_to_vec(text).map_err(|_| damaged())?)?;
    }
    if text.is_empty() {
        return Err(broken("The data URL has no bytes in it."));
    }
    Ok(incoming.finish())
}
