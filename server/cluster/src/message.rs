//! What gateways and workers say to each other, beside commands and reports.

use api::{
    Asker, Command, Counted, Defaults, Gauges, Health, Model, PictureKey, Report, SessionId,
};
use serde::{Deserialize, Serialize};

/// A worker, as it stands in the registry under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    pub name: String,
    /// Of this one process: subjects have it, so that nothing meant for an earlier one of the name comes to it.
    pub instance: String,
    /// The version of the messages that it writes and reads.
    pub api: u32,
    /// The model's fingerprint: workers of the same one give the same answers.
    pub fingerprint: String,
    pub model: Model,
    pub sampling: Defaults,
    /// Pages of the KV cache, of all its devices together.
    pub pages: u64,
    /// Its half of the keys that it has in common with gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half: Option<[u8; 32]>,
    /// It finishes what it has, and takes nothing new.
    #[serde(default)]
    pub draining: bool,
}

/// A gateway, as it stands in the registry under its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    pub instance: String,
    /// What `welcome` tells clients: all gateways have to tell the same.
    pub limits: String,
}

/// A worker is alive: every half second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    pub instance: String,
    /// Milliseconds by the worker's own clock: a beat may be late.
    #[serde(default)]
    pub at_ms: f64,
    /// How each of its devices stands.
    pub devices: Vec<Health>,
    pub gauges: Vec<(u32, Gauges)>,
    /// Each device's forward passes since the worker's start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passes: Vec<(u32, Counted)>,
    /// Sessions of all gateways that are at home there.
    pub sessions: u64,
    /// Why what it would tell can't be told, if so.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// What a worker is told by a gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// Any but [`Command::Picture`].
    Command(Command),
    Picture(Given),
    /// The session is this gateway's from now on, if no other one has said so with a higher epoch.
    Taken {
        session: SessionId,
        epoch: u64,
    },
}

/// A picture whose pixels come another way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    pub asker: Asker,
    pub key: PictureKey,
    #[serde(default)]
    pub system: String,
    /// What it is sealed with in the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<[u8; 32]>,
    /// The square's side, in pixels.
    pub side: u32,
    /// Its name in the object store.
    pub object: String,
    /// The pixels are on their way; else, or if they don't come, they are in the store.
    pub straight: bool,
    /// The span that looking at it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What a gateway is told by a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToGateway {
    Report(Report),
    /// Its device is lost: nothing more comes.
    Lost,
}

/// What a worker is asked about the model's tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokensAsked {
    Encode {
        text: String,
        begins: bool,
    },
    Prompt {
        system: String,
        history: Vec<api::Turn>,
        question: String,
        picture: Option<u32>,
    },
    Bytes {
        ids: Vec<u32>,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokensTold {
    Ids(Vec<u32>),
    Bytes(Vec<Vec<u8>>),
    Failed(api::Failure),
}

/// How a worker that was asked to drain stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draining {
    /// Questions accepted and not yet answered.
    pub open: u64,
    pub sessions: u64,
}

#[cfg(test)]
mod tests;
