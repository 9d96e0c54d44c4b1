//! How a connection ends: for which reason, with which close code, and what its client is told.

use std::time::Duration;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseReason, ProtocolError};
use tokio::time::timeout;
use wire::{ErrorCode, ServerMessage, close};

use crate::access::unauthorized;
use crate::intake::retry;
use api::Failure;

/// How long a close frame may take to leave, and then the client's to come.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug, PartialEq)]
pub enum End {
    /// The connection broke, or the client closed it in a way that leaves the session.
    Lost,
    /// The client closed it with 1000: the session is over.
    Finished,
    /// We close it with this code, for this reason.
    Close(u16, &'static str),
    /// We close it with this code, after this one error.
    Refuse(Failure, u16),
    /// Memory is short, and its client has most of it.
    Evict,
}

pub fn without_key() -> End {
    refused(unauthorized())
}

/// The end of a connection that is refused before it has a session.
pub fn refused(refusal: Failure) -> End {
    let code = match refusal.code {
        ErrorCode::Unauthorized => close::UNAUTHORIZED,
        ErrorCode::RateLimited | ErrorCode::Busy => close::RATE_LIMITED,
        _ => 1011,
    };
    End::Refuse(refusal, code)
}

pub fn too_slow() -> End {
    End::Close(close::TOO_SLOW, "the client does not read")
}

pub fn locked_out() -> End {
    let message = "The API key is no longer one that this server takes.";
    End::Refuse(
        Failure::new(ErrorCode::Unauthorized, message),
        close::UNAUTHORIZED,
    )
}

pub fn draining() -> End {
    End::Close(close::DRAINING, "the server is shutting down")
}

/// Whether the session can be resumed is not known now.
pub fn again() -> End {
    End::Close(close::DRAINING, "connect again in a moment")
}

fn evicted() -> Failure {
    let message = "The server has no memory left, and this client takes the most of it: connect again in a moment, and keep less on its way at once.";
    Failure::new(ErrorCode::Busy, message).retry_after(retry::EVICTED)
}

pub fn taken_over() -> End {
    End::Close(close::TAKEN_OVER, "another connection resumed the session")
}

pub fn too_big() -> End {
    End::Close(1009, "the message is too big")
}

pub fn bad_frame() -> End {
    End::Close(1002, "a frame broke RFC 6455")
}

/// The end of a connection whose bytes the decoder behind the guard could not read: the guard has seen to all but text that is no UTF-8 and close frames that
/// make no sense.
pub fn broken(problem: &ProtocolError) -> End {
    match problem {
        ProtocolError::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            End::Close(1007, "a text frame is not UTF-8")
        }
        ProtocolError::Io(_) => End::Lost,
        ProtocolError::Overflow => too_big(),
        _ => bad_frame(),
    }
}

/// Says the last words, and waits a moment for the client's.
pub async fn leave(ws: actix_ws::Session, stream: &mut AggregatedMessageStream, end: End) {
    if !last_words(ws, end).await {
        return;
    }
    let closed = async {
        while let Some(Ok(message)) = stream.recv().await {
            if matches!(message, AggregatedMessage::Close(_)) {
                break;
            }
        }
    };
    let _ = timeout(CLOSE_PATIENCE, closed).await;
}

/// Says the last words; whether the client has still to answer them.
pub async fn last_words(mut ws: actix_ws::Session, end: End) -> bool {
    let end = match end {
        End::Evict => End::Refuse(evicted(), close::RATE_LIMITED),
        end => end,
    };
    let (code, reason, answered) = match end {
        // A close frame is answered in kind.
        End::Finished | End::Lost | End::Evict => (1000, "", true),
        End::Close(code, reason) => (code, reason, false),
        End::Refuse(refusal, code) => {
            let reason = refusal.code.as_str();
            let text = serde_json::to_string(&wire::ServerEnvelope {
                at: 0.0,
                event: None,
                message: ServerMessage::Error(refusal.into()),
            });
            if let Ok(text) = text {
                let _ = timeout(CLOSE_PATIENCE, ws.text(text)).await;
            }
            (code, reason, false)
        }
    };
    let reason = CloseReason {
        code: code.into(),
        description: (!reason.is_empty()).then(|| reason.into()),
    };
    let sent = timeout(CLOSE_PATIENCE, ws.close(Some(reason))).await;
    !answered && matches!(sent, Ok(Ok(())))
}
