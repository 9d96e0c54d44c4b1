//! Which tensors a checkpoint holds.

use crate::Quantize;

/// A tensor that a checkpoint must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    /// Whether the tensor may be kept in blocks: a weight that inputs are multiplied with, or a large table.
    pub in_blocks: bool,
}

impl TensorSpec {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All that a model's checkpoint holds.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// What the model is called.
    pub model: &'static str,
    pub specs: Vec<TensorSpec>,
    /// Tensors that some checkpoints hold and nothing needs.
    pub ignored: Vec<String>,
    /// How the configuration says that weights are stored.
    pub stored: Quantize,
}
