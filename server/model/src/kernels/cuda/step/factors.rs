//! What a step multiplies with, and in which parts.

use std::ops::Range;

use candle_core::{Error, Result};

use super::model::{StepModel, StepWeight};
use crate::kernels::cuda::layout::step::{MOST, WARPS};
use crate::kernels::cuda::layout::{Mode, TILE, WeightAddress};
use crate::weights::Format;

/// A weight, and the mode in which the step multiplies with it.
pub struct Factor<'a> {
    pub weight: &'a StepWeight<'a>,
    pub mode: Mode,
}

/// What a step's weights are, beside plain ones: `Kind` of decode_product.cuh, each with a kernel of its own.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Plain,
    Blocks,
    Fp8,
}

impl Kind {
    /// That of all of `factors`; `None` where no kernel knows all of them.
    pub fn of(factors: &[Factor<'_>]) -> Option<Self> {
        let mut all = Kind::Plain;
        for factor in factors {
            let kind = match factor.weight {
                StepWeight::Dense(_) => continue,
                StepWeight::Blocks(blocks) if blocks.format() == Format::Fp8 => Kind::Fp8,
                StepWeight::Blocks(_) => Kind::Blocks,
            };
            if all != Kind::Plain && all != kind {
                return None;
            }
            all = kind;
        }
        Some(all)
    }
}

/// Factors of a layer: qkv, dense, gate and up, down.
pub const OF_A_LAYER: usize = 4;

/// All factors in their order: those of each layer, and the output's.
pub fn factors<'a>(model: &'a StepModel<'a>) -> Vec<Factor<'a>> {
    let mut factors = Vec::with_capacity(OF_A_LAYER * model.layers.len() + 1);
    for layer in &model.layers {
        let in_order: [_; OF_A_LAYER] = [
            (&layer.qkv, Mode::NormBias),
            (&layer.dense, Mode::Add),
            (&layer.gate_up, Mode::NormGated),
            (&layer.down, Mode::Add),
        ];
        factors.extend(in_order.map(|(weight, mode)| Factor { weight, mode }));
    }
    factors.push(Factor {
        weight: &model.output,
        mode: Mode::NormF32,
    });
    factors
}

/// Whether all are small enough: `Reading` of decode_weights.cuh counts bytes in 32 bits.
pub fn all_small(factors: &[Factor<'_>]) -> Result<bool> {
    factors.iter().try_fold(true, |small, factor| {
        let WeightAddress { rows, k, .. } = factor.weight.address()?;
        Ok::<_, Error>(small && 2 * rows as u64 * k as u64 <= u64::from(u32::MAX))
    })
}

/// What a `Reading` of decode_weights.cuh depends on: parts that have the same share one.
#[derive(Clone, Copy, PartialEq)]
pub struct Reading {
    format: i32,
    halves: usize,
    rows: usize,
    width: usize,
    k: i32,
}

impl Factor<'_> {
    /// Rows that make one output.
    pub fn halves(&self) -> usize {
        match self.mode {
            Mode::NormGated => 2,
            _ => 1,
        }
    }

    /// Outputs for each row of inputs.
    pub fn outputs(&self) -> Result<usize> {
        Ok(self.weight.address()?.rows as usize / self.halves())
    }

    /// Whether the weight is not in blocks.
    pub fn plain(&self) -> bool {
        matches!(self.weight, StepWeight::Dense(_))
    }

    /// The parts of its outputs, of which a block is to have `tiles` at most; of a plain weight it may have any number.
    pub fn parts(&self, tiles: usize, processors: usize) -> Result<Vec<Range<usize>>> {
        let outputs = self.outputs()?;
        let part = match self.weight {
            StepWeight::Dense(_) => outputs,
            StepWeight::Blocks(_) => tiles / self.halves() * processors * TILE,
        };
        let part = |first| first..outputs.min(first + part);
        Ok((0..outputs)
            .step_by(part(0).len().max(1))
            .map(part)
            .collect())
    }

    /// How a part is read.
    pub fn reading(&self, part: &Range<usize>) -> Result<Reading> {
        Ok(Reading {
            format: self.weight.format(),
            halves: self.halves(),
            rows: part.len(),
            width: self.outputs()?,
            k: self.weight.address()?.k,
        })
    }

    /// Floats that the warps of a block find of a part: see `sum_plain`, `sum_blocks` and `sum_fp8` of decode_product.cuh.
    pub fn found(&self, part: &Range<usize>, rows: usize, processors: usize) -> usize {
        let height = if self.plain() { 1 } else { TILE };
        let tiles = part.len().div_ceil(height).div_ceil(processors) * self.halves();
        match self.plain() {
            true => (tiles + WARPS) * MOST,
            false => WARPS * tiles * rows * TILE,
        }
    }
}
