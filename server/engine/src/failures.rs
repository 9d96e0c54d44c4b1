//! What a question is told that can't be answered.

use api::{ErrorCode, Failure};

/// The device, or the cache on it, has no room for a job.
pub fn out_of_memory(what: String) -> Failure {
    let message = "The device has no memory left for this: try again when others are done, or serve with a smaller --cache-bytes.";
    Failure::new(ErrorCode::OutOfMemory, message)
        .retry_after(1000.0)
        .detail(what)
}

/// The failure of a request for a reason of its own.
pub fn failed(what: String) -> Failure {
    let message = "The worker failed in the middle of this; it goes on with the next. Try again.";
    Failure::new(ErrorCode::WorkerFailed, message)
        .retry_after(0.0)
        .detail(what)
}

/// The failure of a request whose computation panicked.
pub fn panicked() -> Failure {
    Failure::new(
        ErrorCode::WorkerFailed,
        "The worker failed in the middle of this and has recovered. Try again.",
    )
    .retry_after(0.0)
}

/// The failure of every request that was open when the device was lost.
pub fn lost() -> Failure {
    Failure::new(
        ErrorCode::WorkerFailed,
        "The device failed and the server has to start anew: ask again when it is back.",
    )
    .retry_after(5000.0)
}

/// The failure of a question whose picture is nobody's any more.
pub fn gone() -> Failure {
    Failure::new(
        ErrorCode::ImageGone,
        "The picture was forgotten before the answer: send it again.",
    )
}

/// What the model saw of the picture left the cache, and there was no page to keep it for the question.
pub fn picture_left() -> Failure {
    let message = "The picture left the cache while it was needed: ask again.";
    Failure::new(ErrorCode::Internal, message).retry_after(0.0)
}
