//! Words to token ids and back: the tokenizer, the conversation's format, sampling, and the answer as text.
//!
//! Plain functions and small state machines; nothing here knows the model, the queue or a socket.

pub mod answer;
mod candidates;
#[cfg(feature = "formats")]
pub mod grammar;
#[cfg(not(feature = "formats"))]
#[path = "no_grammar.rs"]
pub mod grammar;
pub mod sampling;
pub mod stream;
pub mod tokenizer;

pub use answer::{Answer, Step};
pub use grammar::{Grammar, Grammars};
pub use sampling::{LogSoftmax, Sampler, defaults};
pub use stream::AnswerStream;
pub use tokenizer::{ControlTokens, Tokenizer};

/// What can be wrong with the tokenizer's files, the sampling's defaults, or the logits.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of the checkpoint is not what it should be: its name, and what is wrong.
    #[error("{file}: {problem}. Copy the file again from the published checkpoint.")]
    File { file: &'static str, problem: String },
    /// The text could not be split; names the library's reason.
    #[error("the text could not be turned into tokens: {0}. Send a shorter or simpler text.")]
    Encode(String),
    /// The format that the answer was to have, which can't be had; why.
    #[error("the format can't be used: {0}. Change it, or ask without.")]
    Format(String),
    /// The model's output is no distribution: NaN, infinite, empty, or everything ruled out.
    #[error("the model's logits are unusable: {0}. The weights or the computation are broken.")]
    Logits(&'static str),
}

impl TextError {
    fn file(file: &'static str, problem: impl Into<String>) -> Self {
        TextError::File {
            file,
            problem: problem.into(),
        }
    }
}
