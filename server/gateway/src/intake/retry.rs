//! What a client is told to wait before it tries again, in milliseconds, where nothing tells how long it will take.

/// The model loads.
pub const LOADING: f64 = 1000.0;
/// The server shuts down: the next one may be up by then.
pub const DRAINING: f64 = 3000.0;
/// The memory that all files on their way may take is taken.
pub const UPLOADS: f64 = 1000.0;
/// No decoder can be had.
pub const DECODERS: f64 = 1000.0;
/// All pictures are asked about that could go for another.
pub const PICTURE_MEMORY: f64 = 2000.0;
/// The session has too many questions open.
pub const OPEN_QUESTIONS: f64 = 500.0;
/// The server has no memory for questions that wait, and this client has most of it.
pub const QUESTION_MEMORY: f64 = 2000.0;
/// The session ended since it took too much of the server's memory.
pub const EVICTED: f64 = 5000.0;
/// The client has as many connections as it may.
pub const CONNECTIONS: f64 = 5000.0;
