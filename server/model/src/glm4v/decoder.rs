//! The language model: pre-norm decoder with grouped key/value heads and rotary positions.

use std::ops::Range;

use candle_core::Tensor;

use super::Config;
use crate::LoadError;
use crate::kernels::{self, Arena, Plan, Rotary};
use crate::weights::Loader;
use crate::weights::linear::{Embedding, Linear};

pub struct Decoder {
    heads: usize,
    eps: f64,
    rotary: Rotary,
    embedding: Embedding,
    layers: Vec<Layer>,
    final_norm: Tensor,
    output: Linear,
}

struct Layer {
    attention_norm: Tensor,
    qkv: Linear,
    dense: Linear,
    mlp_norm: Tensor,
    /// The gate half, then the up half.
    gate_up: Linear,
    down: Linear,
}

impl Decoder {
    pub fn load(config: &Config, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let (h, f, v) = (
            config.hidden_size,
            config.ffn_hidden_size,
            config.padded_vocab_size,
        );
        let embedding = loader.embedding("embedding.word_embeddings", v, h)?;
        let layers = (0..config.num_layers)
            .map(|i| {
                let at = format!("encoder.layers.{i}");
                Ok(Layer {
                    attention_norm: loader.get(&format!("{at}.input_layernorm.weight"), &[h])?,
                    qkv: loader.linear(
                        &format!("{at}.self_attention.query_key_value"),
                        config.qkv_size(),
                        h,
                        config.add_qkv_bias,
                    )?,
                    dense: loader.linear(
                        &format!("{at}.self_attention.dense"),
                        h,
                        config.num_attention_heads * config.kv_channels,
                        false,
                    )?,
                    mlp_norm: loader.get(&format!("{at}.post_attention_layernorm.weight"), &[h])?,
                    gate_up: loader.linear(&format!("{at}.mlp.dense_h_to_4h"), 2 * f, h, false)?,
                    down: loader.linear(&format!("{at}.mlp.dense_4h_to_h"), h, f, false)?,
                })
            })
            .collect::<Result<_, LoadError>>()?;
        let final_norm = loader.get("encoder.final_layernorm.weight", &[h])?;
        let output = if config.tie_word_embeddings {
            embedding.tied()
        } else {
            loader.linear("output_layer", v, h, false)?
        };
        Ok(Decoder {
            heads: config.num_attention_heads,
            eps: config.layernorm_epsilon,
            rotary: Rotary::new(config.rotary_size(), 10000.0 * config.rope_ratio),
            embedding,
            layers,
            final_norm,
            output,
        })
    }

    pub fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// The vectors of tokens: [ids, hidden].
    pub fn embed(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        self.embedding.forward(ids)
    }

    /// Runs `x` [rows, hidden] through all layers, its keys and values into `arena`. The result is [rows, hidden], before
    /// the final norm: of all rows, or of those of `wanted`, which has a plan of its own for them; `None` of none.
    pub fn forward(
        &self,
        mut x: Tensor,
        plan: &Plan,
        arena: &Arena,
        mut wanted: Option<(Plan, Vec<u32>)>,
    ) -> candle_core::Result<Option<Tensor>> {
        if x.device().is_cuda() {
            // There the layers add to it in place, and the caller may keep what it gave.
            x = x.copy()?;
        }
        for i in 0..self.layers.len() {
            let mut qkv = self.store(i, &x, plan, arena)?;
            let mut own = None;
            if i + 1 == self.layers.len()
                && let Some((wanted, rows)) = wanted.take()
            {
                // From here on nothing but these rows is asked for.
                if rows.is_empty() {
                    return Ok(None);
                }
                qkv = kernels::gather(&qkv, &rows)?;
                x = kernels::gather(&x, &rows)?;
                own = Some(wanted);
            }
            x = self.attend(i, &qkv, x, own.as_ref().unwrap_or(plan), arena)?;
        }
        Ok(Some(x))
    }

    /// The layers `layers` of a pass that nothing is asked of but its keys and values, which go into `arena`. `x`
    /// [rows, hidden] is what comes before them, the result what comes behind; on a card it may be in `x`'s place.
    pub fn part(
        &self,
        mut x: Tensor,
        plan: &Plan,
        arena: &Arena,
        layers: Range<usize>,
    ) -> candle_core::Result<Tensor> {
        for i in layers {
            let qkv = self.store(i, &x, plan, arena)?;
            if i + 1 < self.layers.len() {
                x = self.attend(i, &qkv, x, plan, arena)?;
            }
        }
        Ok(x)
    }

    /// Queries, keys and values of layer `i`, the latter two stored in `arena`.
    fn store(
        &self,
        i: usize,
        x: &Tensor,
        plan: &Plan,
        arena: &Arena,
    ) -> candle_core::Result<Tensor> {
        let layer = &self.layers[i];
        let normed = kernels::rms_norm(x, &layer.attention_norm, self.eps)?;
        let qkv = layer.qkv.forward(&normed)?;
        kernels::store_kv(arena, i, &qkv, plan)?;
        Ok(qkv)
    }

    /// The rest of layer `i`: x and what attention and MLP add to it.
    fn attend(
        &self,
        i: usize,
        qkv: &Tensor,
        x: Tensor,
        plan: &Plan,
        arena: &Arena,
    ) -> candle_core::Result<Tensor> {
        let layer = &self.layers[i];
        let attention = kernels::paged_attention(qkv, arena, i, self.heads, plan)?;
        let x = layer.dense.forward_onto(&attention, x)?;
        let normed = kernels::rms_norm(&x, &layer.mlp_norm, self.eps)?;
        let mlp = layer.gate_up.forward_swiglu(&normed)?;
        layer.down.forward_onto(&mlp, x)
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The scores of the next token after each row of `hidden`: [rows, vocabulary].
    pub fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        self.output
            .forward(&kernels::rms_norm(hidden, &self.final_norm, self.eps)?)
    }

    /// What a decode step on a card takes; `None` where a part of it is kept otherwise. `most_entries` is how long a
    /// sequence can get in the cache.
    #[cfg(feature = "cuda")]
    pub fn step(&self, most_entries: usize) -> Option<kernels::cuda::StepModel<'_>> {
        use kernels::cuda::{StepLayer, StepModel};
        let layers = self.layers.iter().map(|layer| {
            let (qkv, qkv_bias) = layer.qkv.step()?;
            Some(StepLayer {
                attention_norm: &layer.attention_norm,
                qkv,
                qkv_bias,
                dense: layer.dense.step()?.0,
                mlp_norm: &layer.mlp_norm,
                gate_up: layer.gate_up.step()?.0,
                down: layer.down.step()?.0,
            })
        });
        Some(StepModel {
            embedding: self.embedding.step()?,
            layers: layers.collect::<Option<_>>()?,
            final_norm: &self.final_norm,
            output: self.output.step()?.0,
            heads: self.heads,
            eps: self.eps,
            frequencies: self.rotary.frequencies().collect(),
            most_entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::Quantize;
    use crate::glm4v::Model;
    use crate::kernels::Span;
    use crate::weights::Weights;

    /// Two prompts in one pass: whether the scores of both, of one or of none are asked for, what is asked for and what
    /// stays in the cache is what one entry after the other gives.
    #[test]
    fn what_is_not_asked_for_is_not_missed() {
        let json = include_bytes!("../../../../tests/data/tiny.config.json");
        let config = Config::parse(json).unwrap();
        let (cpu, mut quiet) = (Device::Cpu, |_: u64, _: u64| {});
        let weights = Weights::Random { seed: 3 };
        let quantize = Quantize::None;
        let model = Model::load(config, &weights, DType::F32, quantize, &cpu, &mut quiet).unwrap();
        let prompts: [Vec<u32>; 2] = [(5..17).collect(), (30..35).collect()];
        let span = |slot: usize, start, len| Span {
            start,
            len,
            pages: vec![slot as u32],
        };
        let places = |from: usize, len: usize| from as u32..(from + len) as u32;

        let arena = model.arena(2).unwrap();
        let slow: Vec<Vec<Vec<f32>>> = (0..2)
            .map(|slot| {
                let mut entries = prompts[slot].iter().chain(&[7]).enumerate();
                let step = |(at, id): (usize, &u32)| {
                    let at_once = vec![span(slot, at, 1)];
                    let scores = model.next(&[*id], at_once, &[at as u32], &arena, &[0]);
                    scores.unwrap().remove(0)
                };
                entries.by_ref().map(step).collect()
            })
            .collect();

        let close = |got: &[f32], exact: &[f32]| {
            assert_eq!(got.len(), exact.len());
            let off = got.iter().zip(exact).map(|(g, e)| (g - e).abs());
            let off = off.fold(0.0, f32::max);
            assert!(off < 1e-4, "off by {off}");
        };
        let chosen: [&[usize]; 5] = [&[], &[0], &[1], &[0, 1], &[1, 0]];
        for chosen in chosen {
            let arena = model.arena(2).unwrap();
            let lens = prompts.each_ref().map(Vec::len);
            let spans = vec![span(0, 0, lens[0]), span(1, 0, lens[1])];
            let at: Vec<u32> = places(0, lens[0]).chain(places(0, lens[1])).collect();
            let scores = model
                .next(&prompts.concat(), spans, &at, &arena, chosen)
                .unwrap();
            assert_eq!(scores.len(), chosen.len());
            for (slot, scores) in chosen.iter().zip(&scores) {
                close(scores, &slow[*slot][lens[*slot] - 1]);
            }
            for (slot, len) in lens.into_iter().enumerate() {
                let next = vec![span(slot, len, 1)];
                let scores = model.next(&[7], next, &[len as u32], &arena, &[0]);
                close(&scores.unwrap()[0], &slow[slot][len]);
            }
        }
    }
}
