//! What whoever computes is asked for. All of it could cross a wire, and each may come twice.

use serde::{Deserialize, Serialize};

use crate::{
    AnswerFormat, Asker, ConversationId, Pixels, RequestId, SamplingParams, SessionId, Turn,
};

/// Names a picture's encoding. Sessions never share one unless the operator says so (`--share-pictures`), since the
/// time to the first token would tell one user what another looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PictureKey {
    /// The session that the picture is of; `None` where pictures are shared.
    pub session: Option<SessionId>,
    /// SHA-256 of the file's bytes.
    #[serde(with = "serde_bytes")]
    pub sha256: [u8; 32],
}

/// A picture to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    pub asker: Asker,
    pub key: PictureKey,
    pub pixels: Pixels,
    /// The system turn of the first question that will be asked about it: what stands before the picture is computed with
    /// it. Empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// What the pixels are sealed with where they are kept outside of processes, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<[u8; 32]>,
    /// The span that looking at it is a part of, where there is a trace: `traceparent` of W3C Trace Context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A picture of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Given before, by [`Command::Picture`].
    pub key: PictureKey,
    /// Width and height in pixels, as the model is to see the picture.
    pub shape: (u32, u32),
    /// The turn that it came with, from 0: one of the history's, or the question itself.
    pub turn: u32,
}

/// A question to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub asker: Asker,
    pub conversation: ConversationId,
    pub request: RequestId,
    /// Counts how often it was given to somebody: what an earlier attempt tells is nobody's concern any more.
    pub attempt: u32,
    /// The system turn, before all others; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// The conversation's pictures, in the order of their turns.
    pub pictures: Vec<Shown>,
    pub history: Vec<Turn>,
    pub question: String,
    pub sampling: SamplingParams,
    /// The format that the answer has to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<AnswerFormat>,
    /// Tells how probable each token was, beside so many others in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u32>,
    /// Somebody else's first word comes before any of it: it runs while nobody else waits for the slot, as an answer does whose
    /// reader is [`Presence::Away`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// The answer's ids, as far as an earlier attempt came: it goes on behind them, exactly as that one would have.
    #[serde(default)]
    pub so_far: Vec<u32>,
    /// How many [`Event::Tokens`](crate::Event::Tokens) may be told before the answer pauses until [`Command::Credit`]
    /// brings more.
    pub credit: u32,
    /// How long ago the client's question was read.
    pub waited_ms: f64,
    /// When the answer must be over, from now.
    pub left_ms: f64,
    /// The span that computing the answer is a part of, where there is a trace: `traceparent` of W3C Trace Context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Whether somebody reads what a session is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Here,
    /// Nobody is connected: its answers go on while nobody else waits for the slot, and otherwise later.
    Away,
}

/// What whoever computes is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Gives it a picture, which may be looked at before any question; [`Event::Encoded`](crate::Event::Encoded) follows,
    /// at once where it was looked at before. While the model loads it waits.
    Picture(Picture),
    /// Queues a question. Events follow: [`Event::Queued`](crate::Event::Queued), or
    /// [`Event::Failed`](crate::Event::Failed) where there is no room (`busy`, with an honest `retry_after_ms`) or no model
    /// (`loading`, `worker_failed`). A repetition changes nothing; a later attempt replaces an earlier one, which ends
    /// without a word.
    Ask(Box<Ask>),
    /// So many more [`Event::Tokens`](crate::Event::Tokens) may be told. One that comes twice grants twice, which is safe:
    /// it bounds memory, no more.
    Credit {
        session: SessionId,
        request: RequestId,
        events: u32,
    },
    /// A session is taken to be here until it is told to be away.
    Presence {
        session: SessionId,
        presence: Presence,
    },
    /// Ends a request wherever it is; it answers with [`FinishReason::Cancelled`](crate::FinishReason::Cancelled).
    Cancel {
        session: SessionId,
        request: RequestId,
    },
    /// Frees what the session has of a picture, and the picture itself once no session has it;
    /// [`Event::Freed`](crate::Event::Freed) follows, in any case.
    Forget {
        session: SessionId,
        picture: PictureKey,
    },
    /// Frees what is kept of a conversation, whose open questions are cancelled before;
    /// [`Event::Freed`](crate::Event::Freed) follows, in any case.
    ForgetConversation {
        session: SessionId,
        conversation: ConversationId,
    },
    /// Cancels everything of the session and frees all it has; [`Event::Freed`](crate::Event::Freed) is the last that
    /// is told of it.
    EndSession { session: SessionId },
}

impl Command {
    /// The session that the command is about.
    pub fn session(&self) -> SessionId {
        match self {
            Command::Picture(picture) => picture.asker.session,
            Command::Ask(ask) => ask.asker.session,
            Command::Credit { session, .. }
            | Command::Presence { session, .. }
            | Command::Cancel { session, .. }
            | Command::Forget { session, .. }
            | Command::ForgetConversation { session, .. }
            | Command::EndSession { session } => *session,
        }
    }
}
