//! What an engine asks of a model: the seam behind which there may be another.

use std::sync::Arc;

use api::{Conversation, Pixels};
use candle_core::{Device, Result, Tensor};

use crate::kernels::{Arena, Span};
use crate::prompt::Prompt;
use crate::scores::{Chosen, Scores};
use crate::text::{Grammars, TextError, Tokenizer};

/// What a model's sizes come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pictures are seen as squares of so many pixels a side.
    pub picture_side: u32,
    /// Pictures that a conversation may have.
    pub pictures: usize,
    /// Entries of the cache that a picture takes.
    pub picture_entries: usize,
    /// The model's length.
    pub positions: usize,
    /// The most entries that a conversation can have.
    pub entries: usize,
}

/// A question with what was said before it, as the model takes it.
pub struct Planned {
    /// The question as token ids: what counts for the repetition penalty.
    pub ids: Vec<u32>,
    pub prompt: Prompt,
}

/// How a model writes conversations down. On any thread: it needs no device.
pub trait Language: Send + Sync {
    fn shape(&self) -> &Shape;

    fn tokenizer(&self) -> &Arc<Tokenizer>;

    /// Ids that end an answer.
    fn ends(&self) -> &[u32];

    /// What holds answers to formats. It comes to be when it is first asked for, which takes a while.
    ///
    /// # Errors
    /// Those of [`Grammars::new`].
    fn grammars(&self) -> std::result::Result<&Grammars, TextError>;

    /// The prompt that asks for a conversation's next answer.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    fn plan(&self, conversation: &Conversation<'_>) -> std::result::Result<Planned, TextError>;

    /// What every conversation begins with that has this system turn (none if it is empty) and a picture in its first
    /// question: up to the picture's end.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    fn opening(&self, system: &str) -> std::result::Result<Prompt, TextError>;
}

/// What a step of encoding a picture did.
pub struct Step {
    pub rows: usize,
    /// When that was all: what the decoder takes in the place of the picture, [entries of it, hidden].
    pub vectors: Option<Tensor>,
}

/// A model on its device.
pub trait Network {
    /// A picture that is being encoded.
    type Encoding;
    /// A forward pass under way.
    type Pass;

    /// Looking at a picture goes through stages of so many kinds.
    const ENCODE_STAGES: usize;

    fn shape(&self) -> &Shape;

    fn device(&self) -> &Device;

    /// Bytes of the weights on the device.
    fn weight_bytes(&self) -> u64;

    /// Bytes of a page of this model's cache.
    fn page_bytes(&self) -> usize;

    /// A cache of so many pages.
    fn arena(&self, pages: usize) -> Result<Arena>;

    /// Takes the memory that encoding a picture takes, so that no gaps come to be between its parts.
    ///
    /// # Errors
    /// The device has not so much.
    fn reserve_memory(&self) -> Result<()>;

    /// Begins to encode a picture.
    fn start_encode(&self, pixels: &Pixels) -> Result<Self::Encoding>;

    /// The kind of the stage at hand, below [`Network::ENCODE_STAGES`]: rows of one kind take equally long.
    fn encode_stage(&self, encoding: &Self::Encoding) -> usize;

    /// Rows of the stage at hand.
    fn encode_rows(&self, encoding: &Self::Encoding) -> usize;

    /// Computes the next rows of the stage at hand, `most` at most.
    fn encode_chunk(&self, encoding: &mut Self::Encoding, most: usize) -> Result<Step>;

    /// The decoder's input for a whole prompt, [entries, hidden]: `vectors` stand in the place of its picture.
    fn embed(&self, prompt: &Prompt, vectors: Option<&Tensor>) -> Result<Tensor>;

    /// Layers of the decoder.
    fn layers(&self) -> usize;

    /// Begins a pass of `x` [rows, hidden], as many rows as `spans` and `positions` say, whose keys and values go into the
    /// cache; no scores come of it.
    fn begin(&self, x: Tensor, spans: Vec<Span>, positions: &[u32]) -> Result<Self::Pass>;

    /// Layers of a pass that are computed.
    fn computed(&self, pass: &Self::Pass) -> usize;

    /// Computes the next layers of a pass, at most so many. Whether it is done.
    fn go_on(&self, pass: Self::Pass, layers: usize, arena: &Arena) -> Result<(Self::Pass, bool)>;

    /// Computes the new tokens `ids` of some sequences, and for each of the chosen spans the scores of its next token, on the
    /// host: at least those that are wanted.
    fn next(
        &self,
        ids: &[u32],
        spans: Vec<Span>,
        positions: &[u32],
        arena: &Arena,
        chosen: &[Chosen],
    ) -> Result<Vec<Scores>>;

    /// Ends the measuring of kernels: no later pass waits for it.
    fn settle(&self) -> Result<()>;
}
