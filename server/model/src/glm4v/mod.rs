//! GLM-4V: vision tower, adapter and decoder, from a folder in the published format.
//!
//! Every size and every token id comes from the folder. Nothing here knows sessions, sockets or an async runtime.

mod config;
mod conversation;
mod decoder;
mod language;
pub mod memory;
mod network;
#[cfg(feature = "cuda")]
mod step;
mod tensors;
pub mod transform;
mod vision;

use candle_core::{DType, Device, Tensor};

pub use config::{Config, QuantizationConfig, TokenIds, VisionConfig};
pub use decoder::Decoder;
pub use language::{Glm4v, expand};
use tensors::PREFIX;
pub use tensors::{Part, inventory};
pub use vision::{Encoding, VisionTower};

#[cfg(feature = "cuda")]
use crate::kernels;
use crate::kernels::{Arena, Plan, Span};
use crate::network::Shape;
use crate::prompt::{Entry, Prompt, tokens};
#[cfg(feature = "cuda")]
use crate::scores::Wanted;
use crate::scores::{Chosen, Scores};
use crate::weights::{Loader, Progress, Weights};
use crate::{LoadError, Quantize};

/// The model on its device.
pub struct Model {
    pub config: Config,
    pub vision: VisionTower,
    pub decoder: Decoder,
    shape: Shape,
    dtype: DType,
    device: Device,
    weight_bytes: u64,
    #[cfg(feature = "cuda")]
    steps: step::Steps,
}

impl Model {
    /// Everything is computed in `dtype`, except on the CPU, which computes in f32 and keeps the weights of products in
    /// `dtype`. `progress` hears bytes loaded, as stored, and bytes in all.
    pub fn load<'a>(
        config: Config,
        weights: &'a Weights,
        dtype: DType,
        quantize: Quantize,
        device: &'a Device,
        progress: &'a mut Progress<'a>,
    ) -> Result<Self, LoadError> {
        let asked = inventory(&config)?;
        let mut loader = Loader::new(PREFIX, &asked, weights, dtype, quantize, device, progress)?;
        let decoder = Decoder::load(&config, &mut loader)?;
        let vision = VisionTower::load(&config, &mut loader)?;
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            kernels::cuda::give_memory_back(device).map_err(|e| {
                LoadError(format!(
                    "the weights could not be put on the device ({e}): is there enough memory?"
                ))
            })?;
        }
        Ok(Model {
            decoder,
            vision,
            weight_bytes: loader.weight_bytes(),
            dtype: loader.dtype(),
            shape: config.shape(),
            #[cfg(feature = "cuda")]
            steps: step::Steps::new(config.max_entries()),
            config,
            device: device.clone(),
        })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What everything is computed in, the KV cache too.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of a page of this model's cache.
    pub fn page_bytes(&self) -> usize {
        let c = &self.config;
        Arena::page_bytes(
            c.num_layers,
            c.multi_query_group_num,
            c.kv_channels,
            self.dtype,
        )
    }

    pub fn arena(&self, pages: usize) -> candle_core::Result<Arena> {
        let c = &self.config;
        Arena::new(
            pages,
            c.num_layers,
            c.multi_query_group_num,
            c.kv_channels,
            self.dtype,
            &self.device,
        )
    }

    /// Takes the memory that encoding a picture takes, so that no gaps come to be between its parts.
    ///
    /// # Errors
    /// The device has not so much.
    pub fn reserve_memory(&self) -> candle_core::Result<()> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            let bytes = memory::work_bytes(&self.config, self.dtype) as usize;
            kernels::cuda::reserve_memory(&self.device, bytes)?;
        }
        Ok(())
    }

    /// Bytes of the weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The decoder's input for a whole prompt: tokens' vectors, and the picture's, with those of its begin and end, in their
    /// place.
    pub fn embed(&self, prompt: &Prompt, vectors: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let entries = prompt.entries();
        let embed = |entries: &[Entry]| match tokens::<Vec<u32>>(entries) {
            Some(ids) => self.decoder.embed(&ids),
            None => candle_core::bail!("a picture's vectors are missing"),
        };
        let is_row = |entry: &Entry| entry.is_row();
        let (Some(vectors), Some(first)) = (vectors, entries.iter().position(is_row)) else {
            return embed(entries);
        };
        let begin = first - 1;
        let before = embed(&entries[..begin])?;
        let after = &entries[begin + vectors.dim(0)?..];
        if after.is_empty() {
            return Tensor::cat(&[&before, vectors], 0);
        }
        Tensor::cat(&[&before, vectors, &embed(after)?], 0)
    }

    /// Runs new entries through the decoder, their keys and values into `arena`: `x` [rows, hidden], as many rows as
    /// `spans` and `positions` say. Of the last layer nothing else is computed but what the scores behind the `chosen`
    /// spans take.
    pub fn forward(
        &self,
        x: Tensor,
        spans: Vec<Span>,
        positions: &[u32],
        arena: &Arena,
        chosen: &[usize],
    ) -> candle_core::Result<Hidden> {
        let rotary = self.decoder.rotary();
        let all = spans.iter().map(|s| s.len).sum::<usize>();
        let end = |span: &Span| Span {
            start: span.start + span.len - 1,
            len: 1,
            pages: span.pages.clone(),
        };
        let ends: Vec<Span> = chosen.iter().map(|s| end(&spans[*s])).collect();
        let plan = Plan::new(spans, positions, rotary)?;
        let last_rows = plan.last_rows();
        let rows: Vec<u32> = chosen.iter().map(|s| last_rows[*s]).collect();
        let places: Vec<u32> = rows.iter().map(|row| positions[*row as usize]).collect();
        let wanted = match rows.iter().copied().eq(0..all as u32) {
            true => None,
            false => Some((Plan::new(ends, &places, rotary)?, rows)),
        };
        self.decoder.forward(x, &plan, arena, wanted).map(Hidden)
    }

    /// Begins a pass like that of [`Model::forward`] of which nothing is chosen, to be computed layer by layer.
    pub fn begin(
        &self,
        x: Tensor,
        spans: Vec<Span>,
        positions: &[u32],
    ) -> candle_core::Result<Pass> {
        let plan = Plan::new(spans, positions, self.decoder.rotary())?;
        // The layers may add to it in place.
        let x = x.copy()?;
        Ok(Pass { x, plan, layer: 0 })
    }

    /// Computes the next layers of a pass, at most so many. Whether it is done.
    pub fn go_on(
        &self,
        pass: Pass,
        layers: usize,
        arena: &Arena,
    ) -> candle_core::Result<(Pass, bool)> {
        let Pass { x, plan, layer } = pass;
        let end = self.decoder.layers().min(layer.saturating_add(layers));
        let x = self.decoder.part(x, &plan, arena, layer..end)?;
        let done = end == self.decoder.layers();
        let layer = end;
        Ok((Pass { x, plan, layer }, done))
    }

    /// The scores of the next token, f32 on the host: one row for each of the chosen spans.
    pub fn logits(&self, hidden: &Hidden) -> candle_core::Result<Vec<Vec<f32>>> {
        let Some(hidden) = &hidden.0 else {
            return Ok(vec![]);
        };
        self.decoder.logits(hidden)?.to_dtype(DType::F32)?.to_vec2()
    }
}

/// A forward pass under way.
pub struct Pass {
    /// [rows, hidden]
    x: Tensor,
    plan: Plan,
    /// The next one.
    layer: usize,
}

impl Pass {
    /// What comes behind those: [rows, hidden]. The last layer adds nothing to it that anything was asked of.
    pub fn state(&self) -> &Tensor {
        &self.x
    }

    /// Layers that are computed.
    pub fn layers(&self) -> usize {
        self.layer
    }
}

impl Model {
    /// Computes the new entries `ids` of some sequences, and for each of the chosen spans the scores of its next token,
    /// f32 on the host. A decode step on a card is one kernel.
    pub fn next(
        &self,
        ids: &[u32],
        spans: Vec<Span>,
        positions: &[u32],
        arena: &Arena,
        chosen: &[usize],
    ) -> candle_core::Result<Vec<Vec<f32>>> {
        let chosen: Vec<Chosen> = chosen.iter().copied().map(Chosen::all).collect();
        let scores = self.next_scores(ids, spans, positions, arena, &chosen)?;
        let all = |scores| match scores {
            Scores::All(scores) => Ok(scores),
            Scores::Largest(_) => candle_core::bail!("some scores are missing"),
        };
        scores.into_iter().map(all).collect()
    }

    /// Computes what [`Model::next`] does; of the scores, those that are wanted at least. A card's others stay there.
    pub fn next_scores(
        &self,
        ids: &[u32],
        spans: Vec<Span>,
        positions: &[u32],
        arena: &Arena,
        chosen: &[Chosen],
    ) -> candle_core::Result<Vec<Scores>> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda()
            && let Some(scores) =
                self.steps
                    .run(&self.decoder, ids, &spans, positions, arena, chosen)?
        {
            return Ok(scores);
        }
        let x = self.decoder.embed(ids)?;
        let of: Vec<usize> = chosen.iter().map(|chosen| chosen.span).collect();
        let hidden = self.forward(x, spans, positions, arena, &of)?;
        if chosen.is_empty() {
            return self.device.synchronize().map(|()| vec![]);
        }
        #[cfg(feature = "cuda")]
        if self.device.is_cuda()
            && let Some(hidden) = &hidden.0
        {
            let table = self.decoder.logits(hidden)?.to_dtype(DType::F32)?;
            let wanted: Vec<Wanted> = chosen.iter().map(|chosen| chosen.wanted).collect();
            return self.steps.read(&table, &wanted);
        }
        let scores = self.logits(&hidden)?;
        Ok(scores.into_iter().map(Scores::All).collect())
    }
}

/// What the decoder made of the last entries of the chosen spans: [spans, hidden]; nothing, where none were.
pub struct Hidden(Option<Tensor>);
