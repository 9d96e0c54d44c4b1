//! Pictures as requests bring them: data URLs, and addresses.

use actix_web::http::StatusCode;
use base64_simd::{Out, STANDARD};
use sha2::{Digest, Sha256};
use wire::ErrorCode;

use super::Api;
use super::messages::{Mention, Reading};
use super::refusal::Refusal;
use crate::doors::body::{Body, short_of_memory};
use crate::exchange::Picture;
use crate::session::File;
use api::Failure;

/// What stands in a question instead of a picture that was dropped.
const DROPPED: &str = "\n[a picture that is no longer shown]";

/// Base64 that is decoded at once: a whole number of groups of four characters, for 48 KiB.
const GROUPS: usize = 64 << 10;

/// What becomes of pictures when a conversation has different ones, of which the model sees one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlierPictures {
    /// The request is refused.
    #[default]
    Refuse,
    /// The last one stands.
    Drop,
}

/// The one picture that a conversation is about, from where its messages name it. The same one again counts once. Where
/// earlier ones are dropped, a line of text in their places says so; how many these were is told too.
///
/// # Errors
/// `conversation_has_image` for a second one; what is no picture that can be had, by its place.
pub fn find(
    reading: &mut Reading<'_>,
    body: &Body,
    api: &Api,
) -> Result<(Option<Picture>, usize), Refusal> {
    let mut found: Option<(Picture, &str)> = None;
    let mut dropped = Vec::new();
    for mention in &reading.pictures {
        if found.as_ref().is_some_and(|(_, url)| *url == mention.url) {
            continue;
        }
        let (file, sha256) = file(mention, body, api)?;
        if found.as_ref().is_some_and(|(one, _)| one.sha256 == sha256) {
            continue;
        }
        let picture = Picture {
            file,
            sha256,
            turn: mention.turn,
            upload_ms: body.started.elapsed().as_secs_f64() * 1e3,
        };
        if let Some((before, _)) = found.replace((picture, &mention.url)) {
            if api.options.earlier_pictures == EarlierPictures::Refuse {
                let message = "A conversation is about one picture, and this is another: begin a new conversation with it, or have the server started with --earlier-pictures drop.";
                return Err(Refusal::bad_request(
                    ErrorCode::ConversationHasImage.as_str(),
                    &mention.param,
                    message,
                ));
            }
            dropped.push(before.turn);
        }
    }
    let picture = found.map(|(picture, _)| picture);
    for turn in &dropped {
        let question = match reading.history.get_mut(*turn) {
            Some(turn) => &mut turn.question,
            None => &mut reading.question,
        };
        question.push_str(DROPPED);
    }
    Ok((picture, dropped.len()))
}

/// The file that a message's picture is, and its SHA-256.
fn file(mention: &Mention<'_>, body: &Body, api: &Api) -> Result<(File, [u8; 32]), Refusal> {
    let shared = &api.exchanges.hub.shared;
    let broken = |message: &str| {
        Refusal::bad_request(ErrorCode::BadMessage.as_str(), &mention.param, message)
    };
    let Some(data) = strip_scheme(&mention.url, "data:") else {
        if !api.fetcher.is_on() {
            let message = "This server fetches no pictures: send it as a data URL, data:image/jpeg;base64,… or have the server started with --fetch-images.";
            return Err(Refusal::bad_request(
                "image_not_fetched",
                &mention.param,
                message,
            ));
        }
        let fetched = api.fetcher.fetch(&mention.url, body, shared);
        return fetched.map_err(|failure| Refusal::from(failure).of(&mention.param));
    };
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
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::UploadTooLarge.as_str(),
            message,
        )
        .of(&mention.param));
    }
    let (mut file, mut hash) = (body.file(shared), Sha256::new());
    let mut push = |piece: &[u8]| -> Result<(), Failure> {
        hash.update(piece);
        shared.reclaim_memory(piece.len() as u64);
        let pushed = file.push(piece, announced + 3);
        pushed.then_some(()).ok_or_else(short_of_memory)
    };
    let text = base64.as_bytes();
    if STANDARD.check(text).is_ok() {
        let mut room = vec![0u8; GROUPS / 4 * 3];
        for groups in text.chunks(GROUPS) {
            let piece = STANDARD.decode(groups, Out::from_slice(&mut room));
            push(piece.map_err(|_| {
                broken("The data URL's base64 is damaged: encode the file again.")
            })?)?;
        }
    } else {
        // With line ends in it, or without padding.
        let whole = base64_simd::forgiving_decode_to_vec(text);
        let whole = whole
            .map_err(|_| broken("The data URL's base64 is damaged: encode the file again."))?;
        push(&whole)?;
    }
    if text.is_empty() {
        return Err(broken("The data URL has no bytes in it."));
    }
    let sha256 = hash.finalize().into();
    Ok((file, sha256))
}

/// What follows a URL's scheme, which may be in capitals.
fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}
