//! What answers, and how it stands.

use serde::{Deserialize, Serialize};

/// What the server is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    Loading,
    Warming,
    Ready,
    Draining,
    Failed,
}

/// What answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Model {
    pub name: String,
    /// The embedded demo checkpoint: it knows generated scenes, not photographs.
    pub demo: bool,
    /// Pictures are seen at `image_size` × `image_size` pixels.
    pub image_size: u32,
    /// The model's length in positions; a picture takes 3 of them.
    pub max_positions: u32,
    pub device: String,
    pub dtype: String,
    pub quantization: String,
}

/// How much of a model has come from its hub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Download {
    /// Bytes that are here, those of earlier downloads among them.
    pub bytes: u64,
    pub total: u64,
    /// What came in the last seconds.
    pub bytes_per_second: f64,
    /// Why no more comes: a code of docs/operations.md. The server has failed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
