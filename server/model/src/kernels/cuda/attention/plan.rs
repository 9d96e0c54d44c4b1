//! What the kernels are told of the batch and of the cache.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{Result, bail};

use super::sizes::ROWS;
use crate::kernels::cache::Arena;
use crate::kernels::cuda::card::{Gpu, at};
use crate::kernels::cuda::layout::{CacheAddress, PlanAddresses, SpanWords};
use crate::kernels::plan::PlanInner;

impl CacheAddress {
    /// A layer of the cache, where it lies.
    pub fn new(arena: &Arena, layer: usize) -> Result<Self> {
        Ok(CacheAddress {
            data: at(&arena.data)?.0,
            layers: arena.dims.layers as i32,
            kv_heads: arena.dims.kv_heads as i32,
            layer: layer as i32,
        })
    }
}

/// A forward pass's plan in the card's memory.
pub struct DevicePlan {
    /// Spans, pages, positions, spans of rows, tiles, frequencies.
    memory: CudaSlice<u32>,
    parts: [usize; 6],
    pairs: usize,
    /// Tiles of [`ROWS`] packed rows.
    pub tiles: usize,
    /// What the tile that sees most sees.
    pub most_keys: usize,
}

impl DevicePlan {
    /// The plan in the card's memory, put there at the first use.
    pub fn of<'a>(plan: &'a PlanInner, group: usize, gpu: &Gpu) -> Result<&'a Self> {
        if plan.on_card.get().is_none() {
            let made = DevicePlan::new(plan, group, gpu)?;
            plan.on_card.get_or_init(|| Box::new(made));
        }
        match plan.on_card.get().and_then(|made| made.downcast_ref()) {
            Some(made) => Ok(made),
            None => bail!("the plan was made for another kind of card"),
        }
    }

    /// `group` query heads share a key/value head.
    fn new(plan: &PlanInner, group: usize, gpu: &Gpu) -> Result<Self> {
        let (mut spans, mut pages, mut row_spans, mut tiles) = (vec![], vec![], vec![], vec![]);
        let mut most_keys = 0;
        for (i, (span, first)) in plan.spans.iter().zip(&plan.first_rows).enumerate() {
            let told = SpanWords {
                start: span.start as u32,
                len: span.len as u32,
                first_row: *first as u32,
                pages_at: pages.len() as u32,
            };
            spans.extend(told.words());
            pages.extend_from_slice(&span.pages);
            row_spans.extend(std::iter::repeat_n(i as u32, span.len));
            // The last see most, and so begin first.
            let rows = (0..span.len * group).step_by(ROWS).rev();
            tiles.extend(rows.flat_map(|row| [i as u32, row as u32]));
            most_keys = most_keys.max(span.start + span.len);
        }
        let tile_count = tiles.len() / 2;
        let frequencies = plan.frequencies.iter().map(|f| (*f as f32).to_bits());
        let mut all = spans;
        let mut parts = [0; 6];
        for (i, part) in [
            pages,
            plan.positions.clone(),
            row_spans,
            tiles,
            frequencies.collect(),
        ]
        .into_iter()
        .enumerate()
        {
            parts[i + 1] = all.len();
            all.extend(part);
        }
        Ok(DevicePlan {
            memory: gpu.stream.clone_htod(&all).w()?,
            parts,
            pairs: plan.frequencies.len(),
            tiles: tile_count,
            most_keys,
        })
    }

    /// Where the plan's parts lie.
    pub fn addresses(&self, gpu: &Gpu) -> PlanAddresses {
        let base = self.memory.device_ptr(&gpu.stream).0;
        let part = |i: usize| base + 4 * self.parts[i] as u64;
        PlanAddresses {
            spans: part(0),
            pages: part(1),
            positions: part(2),
            row_spans: part(3),
            tiles: part(4),
            frequencies: part(5),
            pairs: self.pairs as i32,
        }
    }
}
