//! What a session's answers and pictures came to, for whoever runs the server: nothing of what was asked, said or shown.

use wire::ErrorCode;

use super::Session;
use api::{Event, RequestId};

impl Session {
    /// How each answer ended.
    pub(super) fn log(&self, event: &Event) {
        let session = &self.tag;
        // The client chose the id: quoted, so that it can't pretend to be a line of its own.
        let name = |request: RequestId, attempt: u32| {
            let inner = self.inner.lock();
            let ask = inner.state.asked(request, attempt);
            ask.map(|ask| ask.request.clone())
        };
        match event {
            Event::Done {
                request,
                attempt,
                finish_reason,
                usage,
                timings,
            } => {
                if let Some(request) = name(*request, *attempt) {
                    tracing::info!(
                        session,
                        ?request,
                        ?finish_reason,
                        prompt_tokens = usage.prompt_tokens,
                        cached_tokens = usage.cached_tokens,
                        completion_tokens = usage.completion_tokens,
                        first_token_ms = timings.first_token_ms,
                        total_ms = timings.total_ms,
                        "answered"
                    );
                }
            }
            Event::Failed {
                request,
                attempt,
                failure,
            } => {
                let Some(request) = name(*request, *attempt) else {
                    return;
                };
                let code = failure.code;
                match &failure.detail {
                    Some(detail) => {
                        tracing::error!(session, ?request, %code, detail, "a question failed");
                    }
                    // Nothing is wrong: there is no room, or no model yet.
                    None if matches!(code, ErrorCode::Busy | ErrorCode::Loading) => {
                        tracing::debug!(session, ?request, %code, "a question was refused");
                    }
                    None => tracing::warn!(session, ?request, %code, "a question failed"),
                }
            }
            Event::Moved {
                request,
                attempt,
                so_far,
            } => {
                if let Some(request) = name(*request, *attempt) {
                    tracing::info!(session, ?request, so_far, "an answer moves");
                }
            }
            Event::PictureFailed { failure, .. } => {
                let (code, detail) = (failure.code, failure.detail.as_deref().unwrap_or_default());
                tracing::warn!(session, %code, detail, "a picture could not be looked at");
            }
            Event::Encoded {
                timings, cached, ..
            } => tracing::debug!(
                session,
                cached,
                vision_ms = timings.vision_ms,
                prefill_ms = timings.prefill_ms,
                "looked at a picture"
            ),
            Event::Queued { .. }
            | Event::Started { .. }
            | Event::Tokens { .. }
            | Event::Freed(_) => {}
        }
    }
}
