//! Attention: which kernel runs for which shape, and what it is told of the batch.

use std::ops::Range;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{DType, Result, Tensor, bail};

use super::super::cache::{Arena, PAGE};
use super::super::plan::PlanInner;
use super::gpu::{Address, Gpu, Launch, at, params, type_name, unwritten};
use super::ring;

/// `Plan` of plan.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PlanAddresses {
    pub spans: Address,
    pub pages: Address,
    pub positions: Address,
    pub row_spans: Address,
    pub tiles: Address,
    pub frequencies: Address,
    pub pairs: i32,
}

/// `Cache` of plan.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CacheAddress {
    pub data: Address,
    pub layers: i32,
    pub kv_heads: i32,
    pub layer: i32,
}

/// `Shares` of attention.cu.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Shares {
    pub data: Address,
    pub splits: i32,
}

impl CacheAddress {
    pub fn new(arena: &Arena, layer: usize) -> Result<Self> {
        Ok(CacheAddress {
            data: at(&arena.data)?.0,
            layers: arena.dims.layers as i32,
            kv_heads: arena.dims.kv_heads as i32,
            layer: layer as i32,
        })
    }
}

/// Packed rows of a block of `paged_*`.
pub const ROWS: usize = 128;

/// Shared memory of a block: its queries, then two stages of keys and values.
pub fn shared_bytes(rows: usize, head_size: usize) -> usize {
    (rows + 4 * PAGE) * head_size.next_multiple_of(64) * 2
}

/// Floats of a block's share of a tile.
pub fn share_floats(rows: usize, head_size: usize) -> usize {
    rows * (head_size + 2)
}

/// A forward pass's plan in the card's memory.
pub struct DevicePlan {
    /// Spans, pages, positions, spans of rows, tiles, frequencies.
    memory: CudaSlice<u32>,
    parts: [usize; 6],
    pairs: usize,
    tiles: usize,
    /// What the tile that sees most sees.
    most_keys: usize,
}

impl DevicePlan {
    /// The plan in the card's memory, put there at the first use.
    fn of<'a>(plan: &'a PlanInner, group: usize, gpu: &Gpu) -> Result<&'a Self> {
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
            spans.extend([span.start, span.len, *first, pages.len()].map(|n| n as u32));
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

    fn addresses(&self, gpu: &Gpu) -> PlanAddresses {
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

/// Hopper's own kernel, if the binary has it for this size and type.
fn on_hopper(kind: &str, size: usize, dtype: DType, gpu: &Gpu) -> Result<Option<String>> {
    let name = format!("{kind}_hopper_{size}_{}", type_name(dtype)?);
    Ok(gpu.on_hopper(&name).then_some(name))
}

/// Heads of an attention over the cache.
fn heads_of(qkv: &Tensor, arena: &Arena) -> Result<(usize, usize)> {
    let width = qkv.dim(1)?;
    let (size, kv_heads) = (arena.dims.head_size, arena.dims.kv_heads);
    let heads = width / size - 2 * kv_heads;
    Ok((heads, heads / kv_heads))
}

fn check_types(qkv: DType, arena: &Arena) -> Result<()> {
    match arena.data.dtype() == qkv {
        true => Ok(()),
        false => bail!("queries in {qkv:?} for a cache in {:?}", arena.data.dtype()),
    }
}

/// Writes the new entries' keys, rotated, and values into the cache.
pub(in crate::kernels) fn store_kv(
    arena: &Arena,
    layer: usize,
    qkv: &Tensor,
    plan: &PlanInner,
) -> Result<()> {
    let (rows, width) = qkv.dims2()?;
    let (qkv_at, dtype, gpu) = at(qkv)?;
    check_types(dtype, arena)?;
    let plan = DevicePlan::of(plan, heads_of(qkv, arena)?.1, &gpu)?;
    let name = format!("store_kv_{}", type_name(dtype)?);
    // SAFETY: the plan's spans have these rows, and pages of the arena for all their entries.
    unsafe {
        gpu.launch(
            &name,
            Launch::new((rows, 1, 1), 128),
            params![
                CacheAddress::new(arena, layer)?,
                plan.addresses(&gpu),
                qkv_at,
                width as i32,
                arena.dims.head_size as i32,
            ],
        )
    }
}

/// Causal attention over the cache: [rows, heads · head_size].
pub(in crate::kernels) fn paged_attention(
    qkv: &Tensor,
    arena: &Arena,
    layer: usize,
    heads: usize,
    plan: &PlanInner,
) -> Result<Tensor> {
    let (rows, _) = qkv.dims2()?;
    let (qkv_at, dtype, gpu) = at(qkv)?;
    check_types(dtype, arena)?;
    let (size, kv_heads) = (arena.dims.head_size, arena.dims.kv_heads);
    let plan = DevicePlan::of(plan, heads / kv_heads, &gpu)?;
    let out = unwritten(&gpu, (rows, heads * size), dtype)?;
    let out_at = at(&out)?.0;
    let (cache, addresses) = (CacheAddress::new(arena, layer)?, plan.addresses(&gpu));
    let (type_name, shared) = (type_name(dtype)?, shared_bytes(ROWS, size));
    if !matches!(size, 64 | 128) || dtype == DType::F32 || shared > gpu.shared_memory {
        const LARGEST: usize = 256;
        if size > LARGEST {
            bail!("heads of {size}: up to {LARGEST} are served")
        }
        let name = format!("paged_any_{type_name}");
        let launch = Launch::new((rows, heads, 1), 32);
        // SAFETY: as for `store_kv`, and out is [rows, heads · size].
        unsafe {
            gpu.launch(
                &name,
                launch,
                params![cache, addresses, qkv_at, out_at, heads as i32, size as i32],
            )?;
        }
        return Ok(out);
    }
    let hopper = on_hopper("paged", size, dtype, &gpu)?;
    let tile = hopper.as_ref().map_or(PAGE, |_| ring::PAGED_KEYS);
    // Few blocks share the keys between them until there are enough to keep the card busy.
    let blocks = plan.tiles * kv_heads;
    let most_tiles = plan.most_keys.div_ceil(tile);
    let splits = (gpu.processors / blocks.max(1)).clamp(1, most_tiles.max(1));
    let count = match splits {
        1 => 1,
        _ => blocks * splits * share_floats(ROWS, size),
    };
    let shares = unwritten(&gpu, count, DType::F32)?;
    let shares = Shares {
        data: at(&shares)?.0,
        splits: splits as i32,
    };
    let heads = heads as i32;
    // SAFETY: as above; the shares are as large as the kernels take them, and freed behind them on the same stream.
    unsafe {
        match hopper {
            Some(name) => gpu.launch(
                &name,
                ring::launch((kv_heads, plan.tiles, splits), ring::PAGED_KEYS, size),
                params![
                    ring::cache_map(arena)?,
                    cache,
                    addresses,
                    qkv_at,
                    out_at,
                    heads,
                    shares
                ],
            )?,
            None => gpu.launch(
                &format!("paged_{size}_{type_name}"),
                Launch::new((plan.tiles, kv_heads, splits), 128).shared(shared),
                params![cache, addresses, qkv_at, out_at, heads, shares],
            )?,
        }
        if splits > 1 {
            gpu.launch(
                &format!("combine_{size}_{type_name}"),
                Launch::new((plan.tiles, kv_heads, ROWS), size),
                params![addresses, out_at, heads, shares],
            )?;
        }
    }
    Ok(out)
}

/// Full attention of the queries of `rows`: [rows, heads · head_size].
pub(in crate::kernels) fn vision_attention(
    qkv: &Tensor,
    heads: usize,
    rows: Range<usize>,
) -> Result<Tensor> {
    let (n, width) = qkv.dims2()?;
    let size = width / 3 / heads;
    let (qkv_at, dtype, gpu) = at(qkv)?;
    let queries = rows.len();
    let out = unwritten(&gpu, (queries, heads * size), dtype)?;
    let out_at = at(&out)?.0;
    if let Some(name) = on_hopper("vision", size, dtype, &gpu)? {
        ring::vision(&name, qkv, heads, rows, &out)?;
        return Ok(out);
    }
    let type_name = type_name(dtype)?;
    let (n, from, count, heads_) = (n as i32, rows.start as i32, queries as i32, heads as i32);
    let shared = shared_bytes(ROWS, size);
    // SAFETY: qkv is [n, 3 · heads · size], the queries lie in it, and out has a row for each.
    unsafe {
        if matches!(size, 64 | 112) && dtype != DType::F32 && shared <= gpu.shared_memory {
            let launch = Launch::new((queries.div_ceil(ROWS), heads, 1), 128).shared(shared);
            gpu.launch(
                &format!("vision_{size}_{type_name}"),
                launch,
                params![qkv_at, out_at, n, from, count, heads_],
            )?;
        } else {
            let launch = Launch::new((queries, heads, 1), 32);
            gpu.launch(
                &format!("vision_any_{type_name}"),
                launch,
                params![qkv_at, out_at, n, from, heads_, size as i32],
            )?;
        }
    }
    Ok(out)
}
