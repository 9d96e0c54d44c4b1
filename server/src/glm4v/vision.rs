//! The vision tower (EVA2-CLIP-E, post-norm) and the adapter that turns its patches into the decoder's vectors.

use candle_core::{DType, Device, Tensor};

use super::linear::Linear;
use super::loader::Loader;
use super::{Config, LoadError, VisionConfig};
use crate::kernels;

pub struct VisionTower {
    config: VisionConfig,
    patch: Linear,
    /// [1, hidden]
    class: Tensor,
    /// [positions, hidden]
    positions: Tensor,
    layers: Vec<Layer>,
    adapter: Adapter,
    device: Device,
    dtype: DType,
}

struct Layer {
    qkv: Linear,
    dense: Linear,
    /// [2, hidden]: scale, shift.
    attention_norm: Tensor,
    fc1: Linear,
    fc2: Linear,
    mlp_norm: Tensor,
}

/// The 2×2 convolution, the gated MLP, and the vectors for begin and end.
struct Adapter {
    conv: Linear,
    proj: Linear,
    norm: Tensor,
    gate_up: Linear,
    down: Linear,
    /// [1, hidden], divided by the scaling factor as all vectors are.
    boi: Tensor,
    eoi: Tensor,
    scale: f64,
}

/// A picture on its way through the tower: each [`VisionTower::step`] is one slice, between which the device can serve
/// others.
pub struct Encoding {
    /// [positions, hidden]
    x: Tensor,
    /// Half layers done.
    done: usize,
}

impl VisionTower {
    pub fn load(config: &Config, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let v = &config.vision_config;
        let (w, m, p) = (v.hidden_size, v.intermediate_size, v.patch_size);
        let patch = loader.get("vision.patch_embedding.proj.weight", &[w, 3, p, p])?;
        let patch = Linear::new(
            loader.reshape(patch, &[w, 3 * p * p])?,
            Some(loader.get("vision.patch_embedding.proj.bias", &[w])?),
        );
        let class = loader.get("vision.patch_embedding.cls_embedding", &[1, w])?;
        let positions = loader.get(
            "vision.patch_embedding.position_embedding.weight",
            &[v.num_positions, w],
        )?;
        let layers = (0..v.num_hidden_layers)
            .map(|i| {
                let at = format!("vision.transformer.layers.{i}");
                Ok(Layer {
                    qkv: loader.linear(
                        &format!("{at}.attention.query_key_value"),
                        3 * w,
                        w,
                        true,
                    )?,
                    dense: loader.linear(&format!("{at}.attention.dense"), w, w, true)?,
                    attention_norm: loader.layer_norm(&format!("{at}.input_layernorm"), w)?,
                    fc1: loader.linear(&format!("{at}.mlp.fc1"), m, w, true)?,
                    fc2: loader.linear(&format!("{at}.mlp.fc2"), w, m, true)?,
                    mlp_norm: loader.layer_norm(&format!("{at}.post_attention_layernorm"), w)?,
                })
            })
            .collect::<Result<_, LoadError>>()?;
        Ok(VisionTower {
            config: v.clone(),
            patch,
            class,
            positions,
            layers,
            adapter: Adapter::load(config, loader)?,
            device: loader.device().clone(),
            dtype: loader.dtype(),
        })
    }

    /// Starts on a picture: `pixels` are [3 · size · size] normalised values, channels first.
    pub fn start(&self, pixels: &[f32]) -> candle_core::Result<Encoding> {
        let patches = patches(pixels, self.config.image_size, self.config.patch_size);
        let n = self.config.positions() - 1;
        let patches = Tensor::from_vec(
            patches,
            (n, 3 * self.config.patch_size.pow(2)),
            &Device::Cpu,
        )?
        .to_dtype(self.dtype)?
        .to_device(&self.device)?;
        let x = Tensor::cat(&[&self.class, &self.patch.forward(&patches)?], 0)?;
        Ok(Encoding {
            x: (x + &self.positions)?,
            done: 0,
        })
    }

    /// How many [`VisionTower::step`]s a picture takes.
    pub fn steps(&self) -> usize {
        2 * self.layers.len() + 1
    }

    /// Runs the next slice: half a layer, or at the end the adapter. The result of the last is
    /// [vectors + 2, decoder's hidden size]: what stands in the place of the picture's placeholders.
    pub fn step(&self, encoding: &mut Encoding) -> candle_core::Result<Option<Tensor>> {
        let Some(layer) = self.layers.get(encoding.done / 2) else {
            return self
                .adapter
                .forward(&encoding.x, self.config.grid())
                .map(Some);
        };
        let x = &encoding.x;
        let eps = self.config.layer_norm_eps;
        if encoding.done % 2 == 0 {
            let attention =
                kernels::vision_attention(&layer.qkv.forward(x)?, self.config.num_heads)?;
            kernels::add_layer_norm(
                x,
                &layer.dense.forward(&attention)?,
                &layer.attention_norm,
                eps,
            )?;
        } else {
            let mlp = layer.fc2.forward(&layer.fc1.forward_gelu(x)?)?;
            kernels::add_layer_norm(x, &mlp, &layer.mlp_norm, eps)?;
        }
        encoding.done += 1;
        Ok(None)
    }

    /// All of it at once.
    pub fn encode(&self, pixels: &[f32]) -> candle_core::Result<Tensor> {
        let mut encoding = self.start(pixels)?;
        loop {
            if let Some(vectors) = self.step(&mut encoding)? {
                return Ok(vectors);
            }
        }
    }
}

impl Adapter {
    fn load(config: &Config, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let (h, f) = (config.hidden_size, config.ffn_hidden_size);
        let w = config.vision_config.hidden_size;
        let scale = 1.0 / config.vision_config.scaling_factor;
        let conv = loader.get("vision.conv.weight", &[h, w, 2, 2])?;
        let conv = loader.map(conv, |c| {
            c.permute((0, 2, 3, 1))?.contiguous()?.reshape((h, 4 * w))
        })?;
        let mut end = |name| {
            let vector = loader.get(name, &[1, 1, h])?;
            loader.map(vector, |v| v.reshape((1, h))?.affine(scale, 0.0))
        };
        let (boi, eoi) = (end("vision.boi")?, end("vision.eoi")?);
        Ok(Adapter {
            conv: Linear::new(conv, Some(loader.get("vision.conv.bias", &[h])?)),
            proj: loader.linear("vision.linear_proj.linear_proj", h, h, false)?,
            norm: loader.layer_norm("vision.linear_proj.norm1", h)?,
            gate_up: loader.linears(
                &[
                    "vision.linear_proj.gate_proj",
                    "vision.linear_proj.dense_h_to_4h",
                ],
                f,
                h,
            )?,
            down: loader.linear("vision.linear_proj.dense_4h_to_h", h, f, false)?,
            boi,
            eoi,
            scale,
        })
    }

    /// `x` [1 + grid², vision hidden] → [grid²/4 + 2, hidden].
    fn forward(&self, x: &Tensor, grid: usize) -> candle_core::Result<Tensor> {
        let width = x.dim(1)?;
        let half = grid / 2;
        // The convolution's stride is its size: rows of 2×2 patches times a matrix.
        let x = x
            .narrow(0, 1, grid * grid)?
            .reshape((half, 2, half, 2 * width))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((half * half, 4 * width))?;
        let x = self.proj.forward(&self.conv.forward(&x)?)?;
        // The original's nn.LayerNorm, with its default epsilon.
        let x = kernels::gelu(&kernels::layer_norm(&x, &self.norm, 1e-5)?)?;
        let x = self
            .down
            .forward(&kernels::swiglu(&self.gate_up.forward(&x)?)?)?;
        Tensor::cat(&[&self.boi, &x.affine(self.scale, 0.0)?, &self.eoi], 0)
    }
}

/// Cuts [3, size, size] into rows of a patch each, in the order of the patch convolution's weight: channel, y, x.
fn patches(pixels: &[f32], size: usize, patch: usize) -> Vec<f32> {
    let grid = size / patch;
    let mut rows = Vec::with_capacity(pixels.len());
    for gy in 0..grid {
        for gx in 0..grid {
            for channel in pixels.chunks_exact(size * size) {
                for y in 0..patch {
                    let at = (gy * patch + y) * size + gx * patch;
                    rows.extend_from_slice(&channel[at..at + patch]);
                }
            }
        }
    }
    rows
}
