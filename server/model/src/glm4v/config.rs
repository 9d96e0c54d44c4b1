//! `config.json` of the published folder.

use serde::{Deserialize, Serialize};

use crate::Quantize;
use crate::json;
use crate::network::Shape;

/// The model's sizes and token ids, under the names of the published `config.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Config {
    #[serde(default)]
    pub model_type: Option<String>,
    pub num_layers: usize,
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    /// The size of a head.
    pub kv_channels: usize,
    pub ffn_hidden_size: usize,
    pub padded_vocab_size: usize,
    /// The model's length in positions.
    pub seq_length: usize,
    #[serde(default = "default_layernorm_epsilon")]
    pub layernorm_epsilon: f64,
    #[serde(default = "yes")]
    pub rmsnorm: bool,
    #[serde(default = "yes")]
    pub post_layer_norm: bool,
    #[serde(default = "yes")]
    pub add_qkv_bias: bool,
    #[serde(default)]
    pub add_bias_linear: bool,
    #[serde(default)]
    pub apply_residual_connection_post_layernorm: bool,
    #[serde(default = "yes")]
    pub multi_query_attention: bool,
    /// Key/value heads.
    pub multi_query_group_num: usize,
    #[serde(default = "yes")]
    pub original_rope: bool,
    #[serde(default = "one")]
    pub rope_ratio: f64,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    pub eos_token_id: TokenIds,
    #[serde(default)]
    pub pad_token_id: Option<u32>,
    pub boi_token_id: u32,
    pub eoi_token_id: u32,
    pub vision_config: VisionConfig,
    /// Vectors that tuning put before every layer's keys and values.
    #[serde(default)]
    pub pre_seq_len: Option<usize>,
    /// How weights are kept in blocks, in folders that `glimpse quantize` wrote.
    #[serde(default)]
    pub quantization_config: Option<QuantizationConfig>,
}

/// `quantization_config`: how the folder holds the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizationConfig {
    /// [`QuantizationConfig::METHOD`]; other programs' are not read.
    pub quant_method: String,
    #[serde(default)]
    pub quantize: Option<Quantize>,
}

impl QuantizationConfig {
    pub const METHOD: &str = "glimpse";

    pub fn new(quantize: Quantize) -> Self {
        QuantizationConfig {
            quant_method: Self::METHOD.into(),
            quantize: Some(quantize),
        }
    }
}

/// `vision_config`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct VisionConfig {
    pub image_size: usize,
    pub patch_size: usize,
    #[serde(default = "three")]
    pub in_channels: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_heads: usize,
    pub intermediate_size: usize,
    #[serde(default = "gelu")]
    pub hidden_act: String,
    #[serde(default = "default_layer_norm_eps")]
    pub layer_norm_eps: f64,
    pub num_positions: usize,
    #[serde(default = "default_scaling_factor")]
    pub scaling_factor: f64,
}

/// One id or several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "must be a token id or a list of token ids")]
pub enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

impl TokenIds {
    pub fn as_slice(&self) -> &[u32] {
        match self {
            TokenIds::One(id) => std::slice::from_ref(id),
            TokenIds::Many(ids) => ids,
        }
    }
}

fn default_layernorm_epsilon() -> f64 {
    1.5625e-7
}
fn default_layer_norm_eps() -> f64 {
    1e-6
}
fn default_scaling_factor() -> f64 {
    8.0
}
fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn three() -> usize {
    3
}
fn gelu() -> String {
    "gelu".into()
}

impl Config {
    /// Reads `config.json` and checks that this program can serve what it describes. The error is a sentence.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            json::read(file).map_err(|what| format!("config.json is {what}: download it again"))?;
        let model_type = value.get("model_type").and_then(|v| v.as_str());
        let lacks_vision = value.get("vision_config").is_none_or(|v| v.is_null());
        if model_type.is_some_and(|t| t != "chatglm") || lacks_vision {
            return Err(format!(
                "config.json describes a model of type {:?}{}, but this program serves GLM-4V (type \"chatglm\" with a \
                 vision_config): point --model at a GLM-4V folder",
                model_type.unwrap_or("none"),
                if lacks_vision {
                    " without a vision_config"
                } else {
                    ""
                },
            ));
        }
        let config: Config = json::from_value(value)
            .map_err(|what| format!("config.json: {what}: use the file as published"))?;
        config
            .check()
            .map_err(|what| format!("config.json: {what}"))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let v = &self.vision_config;
        let positive = [
            ("num_layers", self.num_layers),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("kv_channels", self.kv_channels),
            ("ffn_hidden_size", self.ffn_hidden_size),
            ("padded_vocab_size", self.padded_vocab_size),
            ("seq_length", self.seq_length),
            ("multi_query_group_num", self.multi_query_group_num),
            ("vision_config.image_size", v.image_size),
            ("vision_config.patch_size", v.patch_size),
            ("vision_config.hidden_size", v.hidden_size),
            ("vision_config.num_hidden_layers", v.num_hidden_layers),
            ("vision_config.num_heads", v.num_heads),
            ("vision_config.intermediate_size", v.intermediate_size),
        ];
        const MOST: usize = 1 << 24;
        if let Some((name, value)) = positive.iter().find(|(_, n)| *n == 0 || *n > MOST) {
            return Err(format!("{name} is {value}, which can't be"));
        }
        let fixed = [
            ("rmsnorm", self.rmsnorm, true),
            ("post_layer_norm", self.post_layer_norm, true),
            ("add_bias_linear", self.add_bias_linear, false),
            ("multi_query_attention", self.multi_query_attention, true),
            ("original_rope", self.original_rope, true),
            (
                "apply_residual_connection_post_layernorm",
                self.apply_residual_connection_post_layernorm,
                false,
            ),
        ];
        if let Some((name, value, served)) = fixed.iter().find(|(_, value, served)| value != served)
        {
            return Err(format!("{name} is {value}; only {served} is served"));
        }
        if let Some(prefix) = self.pre_seq_len.filter(|len| *len > 0) {
            return Err(format!(
                "pre_seq_len is {prefix}: a prefix that P-tuning made is not served; use a folder whose weights were tuned \
                 themselves"
            ));
        }
        self.check_decoder()?;
        self.vision_config.check()?;
        self.check_ids()
    }

    /// What the decoder's numbers must be.
    fn check_decoder(&self) -> Result<(), String> {
        if !(self.layernorm_epsilon.is_finite() && self.layernorm_epsilon > 0.0) {
            return Err(format!(
                "layernorm_epsilon is {}; it must be over 0",
                self.layernorm_epsilon
            ));
        }
        if let Some(q) = &self.quantization_config
            && (q.quant_method != QuantizationConfig::METHOD || q.quantize.is_none())
        {
            return Err(format!(
                "quantization_config is of the method {:?}; only folders that `glimpse quantize` wrote and the published \
                 bf16 folder are served: use one of them, with --quantize",
                q.quant_method
            ));
        }
        if self.stored_quantize() == Quantize::Fp8 {
            return Err(
                "quantization_config says fp8, which no folder is stored in: use the published bf16 folder, with --quantize fp8".into(),
            );
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.multi_query_group_num)
        {
            return Err(format!(
                "multi_query_group_num {} does not divide num_attention_heads {}",
                self.multi_query_group_num, self.num_attention_heads
            ));
        }
        if !self.kv_channels.is_multiple_of(4) {
            return Err(format!(
                "kv_channels {} is not a multiple of 4",
                self.kv_channels
            ));
        }
        if !(self.rope_ratio.is_finite() && self.rope_ratio > 0.0) {
            return Err("rope_ratio must be over 0".into());
        }
        Ok(())
    }

    /// Every id by its name is a token.
    fn check_ids(&self) -> Result<(), String> {
        let ids = [
            ("boi_token_id", self.boi_token_id),
            ("eoi_token_id", self.eoi_token_id),
        ];
        for (name, id) in ids.into_iter().chain(
            self.eos_token_id
                .as_slice()
                .iter()
                .map(|id| ("eos_token_id", *id)),
        ) {
            if id as usize >= self.padded_vocab_size {
                return Err(format!(
                    "{name} {id} is not below padded_vocab_size {}",
                    self.padded_vocab_size
                ));
            }
        }
        Ok(())
    }

    /// How the folder holds the weights.
    pub fn stored_quantize(&self) -> Quantize {
        let quantization = self.quantization_config.as_ref();
        quantization
            .and_then(|q| q.quantize)
            .unwrap_or(Quantize::None)
    }

    /// The width of the fused query, key and value projection.
    pub fn qkv_size(&self) -> usize {
        (self.num_attention_heads + 2 * self.multi_query_group_num) * self.kv_channels
    }

    /// How many of a head's dimensions rotate.
    pub fn rotary_size(&self) -> usize {
        self.kv_channels / 2
    }

    /// Cache entries that a picture takes: its vectors, with begin and end.
    pub fn image_tokens(&self) -> usize {
        self.vision_config.vectors() + 2
    }

    /// What its sizes come to.
    pub fn shape(&self) -> Shape {
        Shape {
            picture_side: self.vision_config.image_size as u32,
            pictures: 1,
            picture_entries: self.image_tokens(),
            positions: self.seq_length,
            entries: self.max_entries(),
        }
    }

    /// The most cache entries that a conversation can hold: `seq_length` positions, of which a picture uses 3.
    pub fn max_entries(&self) -> usize {
        self.seq_length + self.vision_config.vectors() - 1
    }
}

impl VisionConfig {
    /// What the vision tower's numbers must be.
    fn check(&self) -> Result<(), String> {
        if self.hidden_act != "gelu" {
            return Err(format!(
                "vision_config.hidden_act is {:?}; only \"gelu\" is served",
                self.hidden_act
            ));
        }
        if self.in_channels != 3 {
            return Err(format!(
                "vision_config.in_channels is {}; only 3 is served",
                self.in_channels
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(format!(
                "vision_config.num_heads {} does not divide its hidden_size {}",
                self.num_heads, self.hidden_size
            ));
        }
        if !self.image_size.is_multiple_of(self.patch_size) || !self.grid().is_multiple_of(2) {
            return Err(format!(
                "vision_config.image_size {} is not an even number of patches of {}",
                self.image_size, self.patch_size
            ));
        }
        if self.num_positions != self.positions() {
            return Err(format!(
                "vision_config.num_positions is {}, but {}×{} patches and the class vector make {}",
                self.num_positions,
                self.grid(),
                self.grid(),
                self.positions()
            ));
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor != 0.0) {
            return Err("vision_config.scaling_factor must be a number other than 0".into());
        }
        Ok(())
    }

    /// Patches on a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches and the class vector.
    pub fn positions(&self) -> usize {
        self.grid() * self.grid() + 1
    }

    /// Vectors that the decoder sees between begin and end: one for 2×2 patches.
    pub fn vectors(&self) -> usize {
        self.grid() * self.grid() / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &[u8] = include_bytes!("../../../../tests/data/glm-4v-9b.config.json");

    fn published() -> serde_json::Value {
        serde_json::from_slice(PUBLISHED).unwrap()
    }

    /// The published file has keys that serve transformers alone, or name what this model does anyway.
    #[test]
    fn the_published_file_is_read_whole() {
        let config = Config::parse(PUBLISHED).unwrap();
        let file = published();
        assert_eq!(file["architectures"], serde_json::json!(["ChatGLMModel"]));
        assert!(String::from_utf8_lossy(PUBLISHED).contains("0.00000015625"));
        assert_eq!(config.layernorm_epsilon, 1.5625e-7);
        assert_eq!(config.eos_token_id.as_slice(), [151329, 151336, 151338]);
        assert_eq!((config.rope_ratio, config.add_qkv_bias), (1.0, true));
        assert_eq!(config.vision_config.scaling_factor, 8.0);
        // Keys that other releases of the folder add change nothing.
        let mut more = file;
        more["_name_or_path"] = "THUDM/glm-4v-9b".into();
        more["pre_seq_len"] = serde_json::Value::Null;
        more["some_day"] = serde_json::json!({"new": [1]});
        assert_eq!(Config::parse(more.to_string().as_bytes()), Ok(config));
    }

    #[test]
    fn what_would_change_the_answers_is_refused_by_name() {
        for (key, value) in [
            ("rmsnorm", false.into()),
            ("post_layer_norm", false.into()),
            ("add_bias_linear", true.into()),
            ("multi_query_attention", false.into()),
            ("original_rope", false.into()),
            ("apply_residual_connection_post_layernorm", true.into()),
            ("pre_seq_len", 128.into()),
            ("layernorm_epsilon", 0.into()),
            ("layernorm_epsilon", serde_json::json!(-1e-5)),
            ("rope_ratio", 0.into()),
        ] {
            let mut file = published();
            file[key] = value;
            let problem = Config::parse(file.to_string().as_bytes()).unwrap_err();
            assert!(problem.contains(key), "{problem}");
        }
    }
}
