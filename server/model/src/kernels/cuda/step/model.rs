//! What a step is made from.

use candle_core::{Result, Tensor};

use crate::kernels::cache::Arena;
use crate::kernels::cuda::blocks::Blocks;
use crate::kernels::cuda::card::at;
use crate::kernels::cuda::layout::step::HEADS;
use crate::kernels::cuda::layout::{Address, WeightAddress};

/// A weight of the step, wherever it is kept.
pub enum StepWeight<'a> {
    /// [out, in]
    Dense(&'a Tensor),
    Blocks(&'a Blocks),
}

/// A decoder layer.
pub struct StepLayer<'a> {
    pub attention_norm: &'a Tensor,
    pub qkv: StepWeight<'a>,
    pub qkv_bias: Option<&'a Tensor>,
    pub dense: StepWeight<'a>,
    pub mlp_norm: &'a Tensor,
    pub gate_up: StepWeight<'a>,
    pub down: StepWeight<'a>,
}

/// The decoder, borrowed while a step is made; the step keeps addresses, so whoever holds it holds the weights too.
pub struct StepModel<'a> {
    pub embedding: StepWeight<'a>,
    pub layers: Vec<StepLayer<'a>>,
    pub final_norm: &'a Tensor,
    pub output: StepWeight<'a>,
    pub heads: usize,
    pub eps: f64,
    pub frequencies: Vec<f32>,
    /// Cache entries that a sequence can have.
    pub most_entries: usize,
}

impl StepWeight<'_> {
    /// Where all of it lies.
    pub fn address(&self) -> Result<WeightAddress> {
        Ok(match self {
            StepWeight::Blocks(blocks) => blocks.address(),
            StepWeight::Dense(weight) => {
                let (rows, k) = weight.dims2()?;
                WeightAddress {
                    data: at(weight)?.0,
                    scales: 0,
                    rows: rows as i32,
                    k: k as i32,
                }
            }
        })
    }

    /// `rows` rows from `first` on, as a weight; of blocks `first` is the first of a tile.
    pub fn rows_from(&self, first: usize, rows: usize) -> Result<WeightAddress> {
        match self {
            StepWeight::Blocks(blocks) => blocks.rows_from(first, rows),
            StepWeight::Dense(weight) => {
                let all = self.address()?;
                let before = first * weight.dim(1)? * weight.dtype().size_in_bytes();
                Ok(WeightAddress {
                    data: all.data + before as Address,
                    rows: rows as i32,
                    ..all
                })
            }
        }
    }

    /// The format's number in `Format` of formats.cuh.
    pub fn format(&self) -> i32 {
        match self {
            StepWeight::Blocks(blocks) => blocks.format_number(),
            StepWeight::Dense(_) => 0,
        }
    }
}

/// The numbers that a step's work and memory go by.
#[derive(Clone, Copy)]
pub struct Dims {
    /// Sequences, each with one token.
    pub rows: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    /// Rows of the output.
    pub vocabulary: usize,
    /// Multiprocessors of the card, each with a block.
    pub processors: usize,
}

impl Dims {
    /// The numbers of a step for `rows` sequences with their cache in `arena`; `None` where the model has no layers.
    pub fn of(
        model: &StepModel<'_>,
        rows: usize,
        arena: &Arena,
        processors: usize,
    ) -> Result<Option<Self>> {
        let Some(layer) = model.layers.first() else {
            return Ok(None);
        };
        Ok(Some(Dims {
            rows,
            hidden: model.final_norm.dim(0)?,
            ffn: layer.down.address()?.k as usize,
            heads: model.heads,
            kv_heads: arena.dims.kv_heads,
            head_size: arena.dims.head_size,
            vocabulary: model.output.address()?.rows as usize,
            processors,
        }))
    }

    /// Tiles of query heads that share a key/value head, of one row.
    pub fn row_tiles(&self) -> usize {
        (self.heads / self.kv_heads).div_ceil(HEADS)
    }

    /// Tiles of all rows.
    pub fn tiles(&self) -> usize {
        self.rows * self.row_tiles()
    }

    /// What attention gives for a row.
    pub fn attention(&self) -> usize {
        self.heads * self.head_size
    }

    /// A row's queries, keys and values.
    pub fn qkv(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_size
    }

    /// Inputs of a product at most.
    pub fn longest(&self) -> usize {
        self.hidden.max(self.ffn).max(self.attention())
    }
}
