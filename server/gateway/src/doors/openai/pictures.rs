//! Pictures as requests bring them: data URLs, and addresses.

use std::borrow::Cow;
use std::str;
use std::sync::Arc;

use wire::ErrorCode;

use super::Api;
use super::messages::{Mention, Reading};
use super::refusal::Refusal;
use crate::doors::body::Body;
use crate::doors::data_url;
use crate::exchange::{Namespace, Picture, Source};
use api::Failure;

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
    body: &Arc<Body>,
    api: &Api,
    user: Option<&str>,
) -> Result<(Option<Picture>, usize), Refusal> {
    let namespace = api.exchanges.namespace(body.share.client(), user);
    let mut found: Option<(Picture, &str)> = None;
    let mut dropped = Vec::new();
    for mention in &reading.pictures {
        if found.as_ref().is_some_and(|(_, url)| *url == mention.url) {
            continue;
        }
        let (source, sha256) = source(mention, body, api, namespace)?;
        if found.as_ref().is_some_and(|(one, _)| one.sha256 == sha256) {
            continue;
        }
        let picture = Picture {
            source,
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

/// Where the file of a message's picture is, and its SHA-256.
fn source(
    mention: &Mention<'_>,
    body: &Arc<Body>,
    api: &Api,
    namespace: Namespace,
) -> Result<(Source, [u8; 32]), Refusal> {
    let found = match data_url::strip_scheme(&mention.url, "data:") {
        Some(data) => in_body(mention, data, body, api, namespace),
        None if api.fetcher.is_on() => {
            let shared = &api.exchanges.hub.shared;
            let fetched = api.fetcher.fetch(&mention.url, &body.share, shared);
            fetched.map(|(file, sha256)| (Source::File(file), sha256))
        }
        None => {
            let message = "This server fetches no pictures: send it as a data URL, data:image/jpeg;base64,… or have the server started with --fetch-images.";
            return Err(Refusal::bad_request(
                "image_not_fetched",
                &mention.param,
                message,
            ));
        }
    };
    found.map_err(|failure| Refusal::from(failure).of(&mention.param))
}

/// The file that stands in the request itself: read, unless a session has it from the last time.
fn in_body(
    mention: &Mention<'_>,
    data: &str,
    body: &Arc<Body>,
    api: &Api,
    namespace: Namespace,
) -> Result<(Source, [u8; 32]), Failure> {
    let exchanges = &api.exchanges;
    let text = *blake3::hash(data.as_bytes()).as_bytes();
    if let Cow::Borrowed(_) = mention.url
        && let Some(sha256) = exchanges.recall(namespace, &text)
    {
        // Where it stands in the body, which lives on.
        let start = (data.as_ptr() as usize).wrapping_sub(body.bytes.as_ptr() as usize);
        let (place, body) = (start..start.wrapping_add(data.len()), body.clone());
        let hub = exchanges.hub.clone();
        let read = move || {
            let data = body
                .bytes
                .get(place)
                .and_then(|data| str::from_utf8(data).ok());
            let (file, _) = data_url::decode(data.unwrap_or_default(), &body.share, &hub.shared)?;
            Ok(file)
        };
        return Ok((Source::Known(Box::new(read)), sha256));
    }
    let (file, sha256) = data_url::decode(data, &body.share, &exchanges.hub.shared)?;
    exchanges.remember(namespace, text, sha256);
    Ok((Source::File(file), sha256))
}
