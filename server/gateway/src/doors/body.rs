//! A request's body, held to the limits of files on their way.

use std::time::{Duration, Instant};

use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use tokio::time::timeout;
use wire::{ErrorCode, Limits};

use super::incoming::{Share, short_of_memory, with_memory};
use crate::intake::Reservation;
use crate::session::{Sender, Shared, seconds};
use api::Failure;

/// A request's body, counted among the files on their way as long as this lives.
pub struct Body {
    pub bytes: Vec<u8>,
    /// When the first of it was waited for.
    pub started: Instant,
    pub share: Share,
    _place: Reservation<Sender>,
}

impl Body {
    /// One without bytes, of a request that came otherwise.
    pub fn empty(shared: &Shared, client: u128) -> Self {
        let share = Share::of(client);
        Body {
            bytes: Vec::new(),
            started: Instant::now(),
            _place: share.place(shared),
            share,
        }
    }
}

/// The longest body that is read, in bytes: base64 takes four characters for three bytes, and the rest is text.
pub fn longest(limits: &Limits) -> u64 {
    limits.upload_bytes / 3 * 4 + limits.message_bytes
}

/// Reads all of it. `client` is whose share of the server it takes.
///
/// # Errors
/// `upload_too_large`, `upload_timeout`, `busy`; `bad_message` if the connection breaks.
pub async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    shared: &Shared,
    client: u128,
) -> Result<Body, Failure> {
    let most = longest(&shared.limits);
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0u64);
    if announced > most {
        return Err(too_large(most));
    }
    let started = Instant::now();
    let share = Share::of(client);
    let place = share.place(shared);
    let mut bytes = Vec::new();
    // The system gives memory only for pages that are written: a lie about the length costs nothing.
    let _ = bytes.try_reserve_exact(usize::try_from(announced).unwrap_or(0));
    let idle = seconds(shared.limits.upload_idle_seconds);
    loop {
        let next = tokio::select! {
            next = timeout(idle.max(Duration::from_millis(1)), payload.next()) => next,
            () = share.eviction.asked() => return Err(short_of_memory()),
        };
        let piece = match next {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => break,
            Ok(Some(Err(problem))) => {
                let message = "The request's body broke off: send it again.";
                return Err(
                    Failure::new(ErrorCode::BadMessage, message).detail(problem.to_string())
                );
            }
            Err(_) => {
                let message = "No byte of the request's body came for too long: send it again.";
                return Err(Failure::new(ErrorCode::UploadTimeout, message));
            }
        };
        if bytes.len() as u64 + piece.len() as u64 > most {
            return Err(too_large(most));
        }
        place.touch(Instant::now());
        with_memory(piece.len(), shared, || place.try_grow(piece.len() as u64))?;
        bytes.extend_from_slice(&piece);
    }
    Ok(Body {
        bytes,
        started,
        share,
        _place: place,
    })
}

/// Does what takes a body apart beside what serves the network.
///
/// # Errors
/// The work's own; `internal` if it broke off.
pub async fn apart<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Failure> + Send + 'static,
{
    web::block(work).await.map_err(|problem| {
        let message = "The server could not read the request: send it again.";
        Failure::new(ErrorCode::Internal, message).detail(problem.to_string())
    })?
}

fn too_large(most: u64) -> Failure {
    let message = format!(
        "The request's body has more than the {most} bytes that are taken: send a smaller picture, or less text."
    );
    Failure::new(ErrorCode::UploadTooLarge, message)
}
