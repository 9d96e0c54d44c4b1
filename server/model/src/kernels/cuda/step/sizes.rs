//! How much of everything a block has, and the shared memory that this takes.

use candle_core::Result;

use super::factors::{Factor, Kind};
use super::model::Dims;
use crate::kernels::PAGE;
use crate::kernels::cuda::card::BUILT_FOR;
use crate::kernels::cuda::layout::SLICE;
use crate::kernels::cuda::layout::step::{
    BATCH, GROUPS, HEADS, JOINED, LOCATION, MOST, READING, SPLITS, TASK, WARPS,
};

/// Bytes of shared memory that the kernel has without asking for them, and those for the scales of 8-bit floats.
const STATIC: usize = 3072;
const SCALES: usize = 32 * WARPS * 8;

/// What a block's shared memory depends on.
pub struct Sizes {
    rows: usize,
    /// Some weights are not in blocks.
    plain: bool,
    pub kind: Kind,
    /// Tiles of a product's part that a block has at most, of weights in blocks.
    pub most_tiles: usize,
    /// Parts of products, and how many of them differ in what they read.
    pub products: usize,
    pub readings: usize,
    /// Floats that are found of one.
    pub found: usize,
    /// A block's tasks of attention, and heads that it joins.
    pub tasks: usize,
    pub joined: usize,
    /// Inputs of a product at most.
    longest: usize,
    head_size: usize,
}

impl Sizes {
    /// The sizes with which a block's shared memory is no more than `shared_memory`, in bytes, if there are any; otherwise the
    /// smallest.
    pub fn fitting(
        factors: &[Factor<'_>],
        kind: Kind,
        dims: &Dims,
        shared_memory: usize,
    ) -> Result<Self> {
        // The more a block has of a product, the more it has to keep until all have met again, and the fewer are the parts.
        let mut most_tiles = 64;
        loop {
            let sizes = Sizes::with(factors, kind, dims, most_tiles)?;
            if sizes.fit(shared_memory) || most_tiles <= 8 {
                return Ok(sizes);
            }
            most_tiles /= 2;
        }
    }

    /// The sizes where a block has `most_tiles` tiles of a product's part at most.
    fn with(factors: &[Factor<'_>], kind: Kind, dims: &Dims, most_tiles: usize) -> Result<Self> {
        let tiles = dims.tiles() * dims.kv_heads;
        let mut sizes = Sizes {
            rows: dims.rows,
            plain: factors.iter().any(Factor::plain),
            kind,
            most_tiles,
            products: 0,
            readings: 0,
            found: 0,
            tasks: (tiles * SPLITS).div_ceil(dims.processors),
            joined: (tiles * HEADS).div_ceil(dims.processors),
            longest: dims.longest(),
            head_size: dims.head_size,
        };
        let mut readings = Vec::new();
        for factor in factors {
            for part in factor.parts(most_tiles, dims.processors)? {
                let reading = factor.reading(&part)?;
                let found = factor.found(&part, dims.rows, dims.processors);
                sizes.found = sizes.found.max(found.next_multiple_of(4));
                sizes.products += 1;
                if !readings.contains(&reading) {
                    readings.push(reading);
                }
            }
        }
        sizes.readings = readings.len();
        Ok(sizes)
    }

    /// Whether blocks that may have so many bytes of shared memory have enough.
    pub fn fit(&self, shared_memory: usize) -> bool {
        let scales = match self.kind {
            Kind::Fp8 => SCALES,
            _ => 0,
        };
        self.shared_bytes() + STATIC + scales <= shared_memory
    }

    /// Shared memory of a block: the weights that are under way, the positions' cosines and sines, how the products are read,
    /// what a block does of attention, and then what the warps found of a product and its inputs (see `Inputs` of
    /// decode_product.cuh) or, in turn with these, what attention works in. See `step` of decode.cu.
    pub fn shared_bytes(&self) -> usize {
        // `DEPTH` of decode_weights.cuh, which goes by what the kernel was built for: code for 8.0 has its own on 8.6 too.
        let depth = match BUILT_FOR.0 {
            90 | 100..110 => 6,
            80 | 87 => 4,
            _ => 2,
        };
        let slot = match self.kind {
            Kind::Blocks => SLICE,
            Kind::Plain | Kind::Fp8 => BATCH,
        };
        let whole = self.longest.next_multiple_of(512);
        let rows = if self.plain { MOST } else { self.rows };
        let inputs = rows * (2 * whole + whole / 32 * 4);
        WARPS * depth * slot
            + MOST * self.head_size / 2 * 8
            + self.readings * READING
            + self.products.next_multiple_of(2) * LOCATION
            + self.tasks * TASK
            + self.joined * JOINED
            + attention_bytes(self.head_size).max(self.found * 4 + inputs)
    }
}

/// Bytes of `Attention` of decode_attention.cuh.
const fn attention_bytes(head_size: usize) -> usize {
    let groups = PAGE / HEADS;
    HEADS * (head_size + 8) * 2
        + 4 * head_size
        + 2 * groups * HEADS * 4
        + groups * HEADS * head_size * 4
}

const _: () = assert!(attention_bytes(64) == 19_456 && attention_bytes(128) == 38_144);
const _: () = assert!(PAGE / HEADS == GROUPS);
