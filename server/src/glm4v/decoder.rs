//! The language model: pre-norm decoder with grouped key/value heads and rotary positions.

use candle_core::Tensor;

use super::linear::{Embedding, Linear};
use super::loader::Loader;
use super::{Config, LoadError};
use crate::kernels::{self, Arena, Plan, Rotary};

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

    /// Runs `x` [rows, hidden] through all layers, its keys and values into `arena`; the result is [rows, hidden],
    /// before the final norm.
    pub fn forward(
        &self,
        mut x: Tensor,
        plan: &Plan,
        arena: &Arena,
    ) -> candle_core::Result<Tensor> {
        if x.device().is_cuda() {
            // There the layers add to it in place, and the caller may keep what it gave.
            x = x.copy()?;
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let normed = kernels::rms_norm(&x, &layer.attention_norm, self.eps)?;
            let qkv = layer.qkv.forward(&normed)?;
            kernels::store_kv(arena, i, &qkv, plan)?;
            let attention = kernels::paged_attention(&qkv, arena, i, self.heads, plan)?;
            x = layer.dense.forward_onto(&attention, x)?;
            let normed = kernels::rms_norm(&x, &layer.mlp_norm, self.eps)?;
            let mlp = kernels::swiglu(&layer.gate_up.forward(&normed)?)?;
            x = layer.down.forward_onto(&mlp, x)?;
        }
        Ok(x)
    }

    /// The scores of the next token after each of `rows` of `hidden`: [rows, vocabulary].
    pub fn logits(&self, hidden: &Tensor, rows: &[u32]) -> candle_core::Result<Tensor> {
        let last = kernels::gather(hidden, rows)?;
        self.output
            .forward(&kernels::rms_norm(&last, &self.final_norm, self.eps)?)
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
