//! Errors in the shape that the API's clients read.

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use wire::ErrorCode;

use crate::access::Refused;
use api::Failure;

/// Why a request is not answered, or no further.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    code: String,
    message: String,
    /// The field that is to blame, as a path into the request.
    param: Option<String>,
    retry_after_ms: Option<f64>,
}

/// The body of an error.
#[derive(Serialize, JsonSchema)]
pub struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize, JsonSchema)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

impl Refusal {
    /// Something in the request that can't be done. `param` is the path to it, empty where that is the whole; `code` is stable.
    pub fn bad_request(code: &str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Refusal {
            param: Some(param.into()).filter(|param| !param.is_empty()),
            ..Refusal::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Refusal {
            status,
            code: code.to_owned(),
            message: message.into(),
            param: None,
            retry_after_ms: None,
        }
    }

    /// What was refused before any door.
    pub fn before(status: StatusCode, refused: Refused) -> Self {
        Refusal {
            retry_after_ms: refused.retry_after_ms,
            ..Refusal::new(status, refused.code, refused.message)
        }
    }

    /// The field that is to blame.
    pub fn of(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorObject {
                message: &self.message,
                r#type: self.kind(),
                param: self.param.as_deref(),
                code: &self.code,
            },
        }
    }

    /// What there is to say, as the fields of an event.
    pub fn fields(&self) -> Value {
        json!({ "code": self.code, "message": self.message, "param": self.param })
    }

    /// The API's few kinds of errors.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        if let Some(ms) = self.retry_after_ms {
            let seconds = (ms / 1e3).ceil().max(1.0) as u64;
            response.insert_header((RETRY_AFTER, seconds));
            response.insert_header(("retry-after-ms", ms.ceil() as u64));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(self.body())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        if let Some(detail) = &failure.detail {
            tracing::warn!(code = %failure.code, detail, "a request was refused");
        }
        Refusal {
            retry_after_ms: failure.retry_after_ms,
            ..Refusal::new(
                status(failure.code, failure.retry_after_ms.is_some()),
                failure.code.as_str(),
                failure.message,
            )
        }
    }
}

/// The status that says of a failure what HTTP can say. `again`: whether it is to be tried again.
fn status(code: ErrorCode, again: bool) -> StatusCode {
    match code {
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::RateLimited | ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Loading | ErrorCode::Draining | ErrorCode::OutOfMemory => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::WorkerFailed if again => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::WorkerFailed | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::UploadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UploadTimeout => StatusCode::REQUEST_TIMEOUT,
        _ if again => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::BAD_REQUEST,
    }
}
