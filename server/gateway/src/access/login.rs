//! Showing an API key: in a request's header, or later in a first message.

use std::sync::Arc;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpMessage, HttpRequest};
use api::Failure;
use wire::ErrorCode;

use super::caller::Caller;
use super::guest::{Guest, Visit};
use super::guests::Guests;
use super::permit::ConnectionPermit;
use crate::intake::KeyId;

/// How far somebody has come in.
pub enum Login {
    /// With the right key, or none is needed.
    Open(Guest, Option<KeyId>),
    /// The first message must have the key; until then nothing is said.
    NeedsKey(Guest),
    /// Told why, then closed.
    Refused(Failure),
}

impl Login {
    /// How far the connection and the `Authorization` header of a request let it in.
    pub fn of(
        request: &HttpRequest,
        guests: &Arc<Guests>,
        place: Option<Arc<ConnectionPermit>>,
        visit: Visit,
    ) -> Self {
        let caller = request.extensions().get::<Caller>().cloned();
        let Some(caller) = caller else {
            return Login::Refused(Failure::new(
                ErrorCode::Internal,
                "The connection has no address: connect over TCP.",
            ));
        };
        if let Some(refusal) = caller.refusal {
            return Login::Refused(refusal);
        }
        match guests.enter(caller.client, caller.limited, place, visit) {
            Err(refusal) => Login::Refused(refusal),
            Ok(guest) if !guests.needs_key() => Login::Open(guest, None),
            Ok(guest) => match bearer(request) {
                None => Login::NeedsKey(guest),
                token => Login::with(guest, token),
            },
        }
    }

    /// How far the API key `token` lets a guest in.
    pub fn with(mut guest: Guest, token: Option<&str>) -> Self {
        let owner = token.and_then(|token| guest.guests().owner(token));
        let Some(owner) = owner else {
            return Login::Refused(unauthorized());
        };
        match guest.identify(owner) {
            Ok(()) => Login::Open(guest, Some(owner)),
            Err(refusal) => Login::Refused(refusal),
        }
    }

    /// Lets in whoever comes with a request, which has no later moment to show a key.
    ///
    /// # Errors
    /// `unauthorized`, or why nobody is let in.
    pub fn admit(self) -> Result<(Guest, Option<KeyId>), Failure> {
        match self {
            Login::Open(guest, owner) => {
                guest.settle();
                Ok((guest, owner))
            }
            Login::NeedsKey(_) => Err(unauthorized()),
            Login::Refused(refusal) => Err(refusal),
        }
    }

    /// [`Client::number`](crate::intake::Client::number), as far as it is known; 0 of one that is refused.
    pub fn client(&self) -> u128 {
        match self {
            Login::Open(guest, _) | Login::NeedsKey(guest) => guest.client().number(),
            Login::Refused(_) => 0,
        }
    }
}

/// Whether a request that takes no place of its own brings a key, if one is needed.
pub fn has_key(request: &HttpRequest, guests: &Guests) -> bool {
    !guests.needs_key()
        || bearer(request)
            .and_then(|token| guests.owner(token))
            .is_some()
}

/// What somebody without the right key is told.
pub fn unauthorized() -> Failure {
    Failure::new(
        ErrorCode::Unauthorized,
        "This server takes an API key: send it as the token of a hello, or as Authorization: Bearer.",
    )
}

/// The API key of an `Authorization: Bearer` header.
fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
