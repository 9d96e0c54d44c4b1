//! Pictures as requests bring them: data URLs, and addresses.

use wire::ErrorCode;

use super::Api;
use super::messages::{Mention, Reading};
use super::refusal::Refusal;
use crate::doors::body::Body;
use crate::doors::data_url;
use crate::exchange::Picture;
use crate::session::File;

/// What stands in a question instead of a picture that was dropped.
const DROPPED: &str = "\n[a picture that is no longer shown]";

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
            region: None,
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
    let Some(data) = data_url::strip_scheme(&mention.url, "data:") else {
        if !api.fetcher.is_on() {
            let message = "This server fetches no pictures: send it as a data URL, data:image/jpeg;base64,… or have the server started with --fetch-images.";
            return Err(Refusal::bad_request(
                "image_not_fetched",
                &mention.param,
                message,
            ));
        }
        let fetched = api.fetcher.fetch(&mention.url, &body.share, shared);
        return fetched.map_err(|failure| Refusal::from(failure).of(&mention.param));
    };
    let decoded = data_url::decode(data, &body.share, shared);
    decoded.map_err(|failure| Refusal::from(failure).of(&mention.param))
}
