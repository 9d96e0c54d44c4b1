//! Every tensor of the published format: its name, its shape, the part it belongs to. The one list behind loading,
//! random weights and `inspect`.

use super::Config;

/// A part of the model, as its parameters are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    DecoderLayers,
    VisionLayers,
    /// Embeddings, output layer, final norm, patch embedding, adapter.
    Rest,
}

/// A tensor that the checkpoint must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub part: Part,
}

impl TensorSpec {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Derived from the configuration, so ignored where a checkpoint holds it.
pub const IGNORED: &str = "transformer.rotary_pos_emb.inv_freq";

/// All tensors of `config`'s checkpoint, `output_layer.weight` left out where it is tied to the embedding.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let mut list = Vec::new();
    let mut push = |part, name: String, shape: &[usize]| {
        list.push(TensorSpec {
            name: format!("transformer.{name}"),
            shape: shape.to_vec(),
            part,
        })
    };
    let (h, f, v) = (
        config.hidden_size,
        config.ffn_hidden_size,
        config.padded_vocab_size,
    );
    let heads = config.num_attention_heads * config.kv_channels;
    push(
        Part::Rest,
        "embedding.word_embeddings.weight".into(),
        &[v, h],
    );
    for layer in 0..config.num_layers {
        let mut push = |name: &str, shape: &[usize]| {
            push(
                Part::DecoderLayers,
                format!("encoder.layers.{layer}.{name}"),
                shape,
            )
        };
        push("input_layernorm.weight", &[h]);
        push(
            "self_attention.query_key_value.weight",
            &[config.qkv_size(), h],
        );
        if config.add_qkv_bias {
            push("self_attention.query_key_value.bias", &[config.qkv_size()]);
        }
        push("self_attention.dense.weight", &[h, heads]);
        push("post_attention_layernorm.weight", &[h]);
        push("mlp.dense_h_to_4h.weight", &[2 * f, h]);
        push("mlp.dense_4h_to_h.weight", &[h, f]);
    }
    push(Part::Rest, "encoder.final_layernorm.weight".into(), &[h]);
    if !config.tie_word_embeddings {
        push(Part::Rest, "output_layer.weight".into(), &[v, h]);
    }

    let vision = &config.vision_config;
    let (w, m, p) = (
        vision.hidden_size,
        vision.intermediate_size,
        vision.patch_size,
    );
    let rest: [(&str, &[usize]); 14] = [
        (
            "patch_embedding.proj.weight",
            &[w, vision.in_channels, p, p],
        ),
        ("patch_embedding.proj.bias", &[w]),
        ("patch_embedding.cls_embedding", &[1, w]),
        (
            "patch_embedding.position_embedding.weight",
            &[vision.num_positions, w],
        ),
        ("conv.weight", &[h, w, 2, 2]),
        ("conv.bias", &[h]),
        ("linear_proj.linear_proj.weight", &[h, h]),
        ("linear_proj.norm1.weight", &[h]),
        ("linear_proj.norm1.bias", &[h]),
        ("linear_proj.dense_h_to_4h.weight", &[f, h]),
        ("linear_proj.gate_proj.weight", &[f, h]),
        ("linear_proj.dense_4h_to_h.weight", &[h, f]),
        ("boi", &[1, 1, h]),
        ("eoi", &[1, 1, h]),
    ];
    for (name, shape) in rest {
        push(Part::Rest, format!("vision.{name}"), shape);
    }
    for layer in 0..vision.num_hidden_layers {
        let linears: [(&str, usize, usize); 4] = [
            ("attention.query_key_value", 3 * w, w),
            ("attention.dense", w, w),
            ("mlp.fc1", m, w),
            ("mlp.fc2", w, m),
        ];
        let mut push = |name: String, shape: &[usize]| {
            push(
                Part::VisionLayers,
                format!("vision.transformer.layers.{layer}.{name}"),
                shape,
            )
        };
        for (name, out, inp) in linears {
            push(format!("{name}.weight"), &[out, inp]);
            push(format!("{name}.bias"), &[out]);
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            push(format!("{norm}.weight"), &[w]);
            push(format!("{norm}.bias"), &[w]);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts that users of the published checkpoint report.
    #[test]
    fn published_counts() {
        let config = Config::parse(include_bytes!(
            "../../../../tests/data/glm-4v-9b.config.json"
        ))
        .unwrap();
        let count = |part| -> usize {
            tensors(&config)
                .iter()
                .filter(|t| t.part == part)
                .map(TensorSpec::elements)
                .sum()
        };
        assert_eq!(count(Part::DecoderLayers), 8_158_433_280);
        assert_eq!(count(Part::VisionLayers), 4_279_387_392);
        assert_eq!(count(Part::Rest), 1_468_500_224);
        assert_eq!(config.image_tokens(), 1602);
        assert_eq!(config.max_entries(), 8192 + 1599);
    }
}
