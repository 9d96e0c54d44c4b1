//! The vision tower (EVA2-CLIP-E, post-norm) and the adapter that turns its patches into the decoder's vectors.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::{Config, VisionConfig, transform};
use crate::LoadError;
use crate::kernels;
use crate::network::Step;
use crate::weights::Loader;
use crate::weights::linear::{Linear, Weight};
use api::Pixels;

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
    /// [patches, 3 · patch²], until they are in `x`.
    patches: Option<Tensor>,
    /// [positions, hidden]
    x: Tensor,
    stage: Stage,
    /// Rows of the stage that are done.
    row: usize,
    /// What the stage has made so far, in pieces of whole rows.
    made: Vec<Tensor>,
    /// Queries, keys and values of the layer at work: [positions, 3 · hidden].
    qkv: Option<Tensor>,
}

/// Within a stage every row stands alone, so that a slice can be any number of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Rows: patches.
    Patches,
    /// Queries, keys and values of a layer. Rows: positions.
    Qkv(usize),
    /// The rest of that layer. Rows: positions.
    Rest(usize),
    /// Rows: the decoder's vectors.
    Adapter,
}

impl Encoding {
    /// How many kinds of stages there are: a row costs about the same within one kind.
    pub const KINDS: usize = 4;

    /// What the last whole layer made: [positions, hidden].
    pub fn state(&self) -> &Tensor {
        &self.x
    }

    /// The kind of the stage at hand.
    pub fn kind(&self) -> usize {
        match self.stage {
            Stage::Patches => 0,
            Stage::Qkv(_) => 1,
            Stage::Rest(_) => 2,
            Stage::Adapter => 3,
        }
    }
}

impl VisionTower {
    pub fn load(config: &Config, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let v = &config.vision_config;
        let (w, m, p) = (v.hidden_size, v.intermediate_size, v.patch_size);
        let patch = loader.plain(
            "vision.patch_embedding.proj.weight",
            &[w, 3, p, p],
            &[w, 3 * p * p],
        )?;
        let patch = Linear::new(
            Weight::Dense(patch),
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

    /// Starts on a picture.
    pub fn start(&self, pixels: &Pixels) -> candle_core::Result<Encoding> {
        let v = &self.config;
        let patches = patches(pixels, v.image_size, v.patch_size, self.dtype, &self.device)?;
        Ok(Encoding {
            patches: Some(patches),
            x: Tensor::zeros((v.positions(), v.hidden_size), self.dtype, &self.device)?,
            stage: Stage::Patches,
            row: 0,
            made: Vec::new(),
            qkv: None,
        })
    }

    /// Rows of the stage at hand.
    pub fn rows(&self, e: &Encoding) -> usize {
        let v = &self.config;
        match e.stage {
            Stage::Patches => v.positions() - 1,
            Stage::Qkv(_) | Stage::Rest(_) => v.positions(),
            Stage::Adapter => v.vectors(),
        }
    }

    /// Runs the next slice: at most `most` rows of the stage at hand. At the end the vectors, with those of the picture's
    /// begin and end: [vectors + 2, decoder's hidden size].
    pub fn step(&self, e: &mut Encoding, most: usize) -> candle_core::Result<Step> {
        let (v, rows) = (&self.config, self.rows(e));
        let (from, len) = (e.row, most.clamp(1, rows - e.row));
        e.row += len;
        let done = e.row == rows;
        if done {
            e.row = 0;
        }
        match e.stage {
            Stage::Patches => {
                if let Some(patches) = &e.patches {
                    let x = self.patch.forward(&patches.narrow(0, from, len)?)?;
                    let x = (x + self.positions.narrow(0, 1 + from, len)?)?;
                    e.x.slice_set(&x, 0, 1 + from)?;
                }
                if done {
                    e.patches = None;
                    let class = (&self.class + self.positions.narrow(0, 0, 1)?)?;
                    e.x.slice_set(&class, 0, 0)?;
                    e.stage = Stage::Qkv(0);
                }
            }
            Stage::Qkv(layer) => {
                e.made
                    .push(self.layers[layer].qkv.forward(&e.x.narrow(0, from, len)?)?);
                if done {
                    e.qkv = Some(joined(&mut e.made)?);
                    e.stage = Stage::Rest(layer);
                }
            }
            Stage::Rest(layer) => {
                // The last slice holds them alone, and lets them go when it can.
                let qkv = if done { e.qkv.take() } else { e.qkv.clone() };
                if let Some(qkv) = qkv {
                    self.rest(&self.layers[layer], &e.x.narrow(0, from, len)?, qkv, from)?;
                }
                if done {
                    e.stage = match layer + 1 {
                        next if next < self.layers.len() => Stage::Qkv(next),
                        _ => Stage::Adapter,
                    };
                }
            }
            Stage::Adapter => {
                e.made
                    .push(self.adapter.forward(&e.x, v.grid(), from, len)?);
                if done {
                    let vectors = joined(&mut e.made)?;
                    let ends = [&self.adapter.boi, &vectors, &self.adapter.eoi];
                    let vectors = Some(Tensor::cat(&ends, 0)?);
                    return Ok(Step { rows: len, vectors });
                }
            }
        }
        Ok(Step {
            rows: len,
            vectors: None,
        })
    }

    /// All of a layer that follows its queries, keys and values, for the rows `x` of the map that begin at `from`; in
    /// place.
    fn rest(&self, layer: &Layer, x: &Tensor, qkv: Tensor, from: usize) -> candle_core::Result<()> {
        let eps = self.config.layer_norm_eps;
        let rows = from..from + x.dim(0)?;
        let attention = kernels::vision_attention(&qkv, self.config.num_heads, rows)?;
        // Each result goes as soon as it is used: the next layer of the network is the widest.
        drop(qkv);
        let dense = layer.dense.forward(&attention)?;
        drop(attention);
        kernels::add_layer_norm(x, &dense, &layer.attention_norm, eps)?;
        drop(dense);
        let mlp = layer.fc2.forward(&layer.fc1.forward_gelu(x)?)?;
        kernels::add_layer_norm(x, &mlp, &layer.mlp_norm, eps)
    }

    /// All of it at once.
    pub fn encode(&self, pixels: &Pixels) -> candle_core::Result<Tensor> {
        let mut encoding = self.start(pixels)?;
        loop {
            if let Some(vectors) = self.step(&mut encoding, usize::MAX)?.vectors {
                return Ok(vectors);
            }
        }
    }
}

/// The pieces as one tensor, and none left.
fn joined(pieces: &mut Vec<Tensor>) -> candle_core::Result<Tensor> {
    let pieces = std::mem::take(pieces);
    if let [whole] = &pieces[..] {
        return Ok(whole.clone());
    }
    Tensor::cat(&pieces, 0)
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
            let vector = loader.plain(name, &[1, 1, h], &[1, h])?;
            loader.map(vector, |v| v.affine(scale, 0.0))
        };
        let (boi, eoi) = (end("vision.boi")?, end("vision.eoi")?);
        Ok(Adapter {
            conv: Linear::new(
                Weight::Dense(conv),
                Some(loader.get("vision.conv.bias", &[h])?),
            ),
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

    /// `len` of the vectors, from `from` on, of `x` [1 + grid², vision hidden]: [len, hidden].
    fn forward(
        &self,
        x: &Tensor,
        grid: usize,
        from: usize,
        len: usize,
    ) -> candle_core::Result<Tensor> {
        let width = x.dim(1)?;
        let half = grid / 2;
        // The convolution's stride is its size: rows of 2×2 patches times a matrix.
        let x = x
            .narrow(0, 1, grid * grid)?
            .reshape((half, 2, half, 2 * width))?
            .transpose(1, 2)?
            .reshape((half * half, 4 * width))?
            .narrow(0, from, len)?;
        let x = self.proj.forward(&self.conv.forward(&x)?)?;
        // The original's nn.LayerNorm, with its default epsilon.
        let x = kernels::gelu(&kernels::layer_norm(&x, &self.norm, 1e-5)?)?;
        let x = self.down.forward(&self.gate_up.forward_swiglu(&x)?)?;
        x.affine(self.scale, 0.0)
    }
}

/// The rows of [`cut`] in `dtype` on `device`: a card cuts by itself, and makes values of bytes, a quarter of what would go up
/// otherwise.
fn patches(
    pixels: &Pixels,
    size: usize,
    patch: usize,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let (bytes, values) = (pixels.rgb(), transform::values());
        return kernels::cuda::patches(bytes, values, size, patch, dtype, device);
    }
    let shape = ((size / patch).pow(2), 3 * patch.pow(2));
    Tensor::from_vec(
        cut(&transform::to_f32_chw(pixels), size, patch),
        shape,
        device,
    )?
    .to_dtype(dtype)
}

/// Cuts [3, size, size] into rows of a patch each, in the order of the patch convolution's weight: channel, y, x.
fn cut(pixels: &[f32], size: usize, patch: usize) -> Vec<f32> {
    let mut rows = vec![0f32; pixels.len()];
    // A line of patches is as many values as it is of rows of pixels.
    rows.par_chunks_mut(pixels.len() / (size / patch))
        .enumerate()
        .for_each(|(gy, line)| {
            let mut runs = line.chunks_exact_mut(patch);
            for gx in 0..size / patch {
                for channel in pixels.chunks_exact(size * size) {
                    for (y, run) in runs.by_ref().take(patch).enumerate() {
                        let at = (gy * patch + y) * size + gx * patch;
                        run.copy_from_slice(&channel[at..at + patch]);
                    }
                }
            }
        });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quantize;
    use crate::glm4v::Model;
    use crate::weights::Weights;

    #[test]
    fn slices_of_any_size_see_the_same() {
        let json = include_bytes!("../../../../tests/data/tiny.config.json");
        let config = Config::parse(json).unwrap();
        let size = config.vision_config.image_size;
        let weights = Weights::Random { seed: 1 };
        let (cpu, mut quiet) = (Device::Cpu, |_: u64, _: u64| {});
        let model = Model::load(
            config,
            &weights,
            DType::F32,
            Quantize::None,
            &cpu,
            &mut quiet,
        )
        .unwrap();
        let bytes: Vec<u8> = (0..3 * size * size).map(|i| (i % 251) as u8).collect();
        let pixels = Pixels::new(size as u32, bytes);
        let whole = model
            .vision
            .encode(&pixels)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        for most in [1, 37, 100] {
            let mut encoding = model.vision.start(&pixels).unwrap();
            let sliced = loop {
                let step = model.vision.step(&mut encoding, most).unwrap();
                assert!((1..=most).contains(&step.rows));
                if let Some(vectors) = step.vectors {
                    break vectors.to_vec2::<f32>().unwrap();
                }
            };
            for (a, b) in sliced.iter().flatten().zip(whole.iter().flatten()) {
                assert!((a - b).abs() < 1e-4, "slices of {most}: {a} and {b}");
            }
        }
    }
}
