//! Attention on the card: which kernel runs for which shape.

mod plan;
mod ring;
mod sizes;

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

use self::plan::DevicePlan;
use self::sizes::{ROWS, share_floats, shared_bytes};
use super::card::{Gpu, Launch, at, params, type_name, unwritten};
use super::layout::ring::PAGED_KEYS;
use super::layout::{Address, CacheAddress, Shares};
use crate::kernels::cache::{Arena, PAGE};
use crate::kernels::plan::PlanInner;

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

/// An attention over the cache, ready to be launched.
struct Paged<'a> {
    gpu: &'a Gpu,
    arena: &'a Arena,
    plan: &'a DevicePlan,
    cache: CacheAddress,
    qkv: Address,
    out: Address,
    rows: usize,
    heads: usize,
    dtype: DType,
}

impl Paged<'_> {
    /// For every size of heads up to 256 and every type: a warp a row and head.
    ///
    /// # Safety
    /// The plan's spans have the rows of qkv, and pages of the arena for all their entries; out is [rows, heads · size].
    unsafe fn any(&self) -> Result<()> {
        const LARGEST: usize = 256;
        let size = self.arena.dims.head_size;
        if size > LARGEST {
            bail!("heads of {size}: up to {LARGEST} are served")
        }
        let name = format!("paged_any_{}", type_name(self.dtype)?);
        let (heads, addresses) = (self.heads, self.plan.addresses(self.gpu));
        // SAFETY: the caller's.
        unsafe {
            self.gpu.launch(
                &name,
                Launch::new((self.rows, heads, 1), 32),
                params![
                    self.cache,
                    addresses,
                    self.qkv,
                    self.out,
                    heads as i32,
                    size as i32
                ],
            )
        }
    }

    /// On the tensor cores, for heads of 64 and 128 in 16 bits; blocks have `shared` bytes of shared memory.
    ///
    /// # Safety
    /// The plan's spans have the rows of qkv, and pages of the arena for all their entries; out is [rows, heads · size].
    unsafe fn tiled(&self, shared: usize) -> Result<()> {
        let (gpu, tiles, type_name) = (self.gpu, self.plan.tiles, type_name(self.dtype)?);
        let (size, kv_heads) = (self.arena.dims.head_size, self.arena.dims.kv_heads);
        let (cache, addresses) = (self.cache, self.plan.addresses(gpu));
        let (qkv, out) = (self.qkv, self.out);
        let hopper = on_hopper("paged", size, self.dtype, gpu)?;
        let tile = hopper.as_ref().map_or(PAGE, |_| PAGED_KEYS);
        // Few blocks share the keys between them until there are enough to keep the card busy.
        let blocks = tiles * kv_heads;
        let most_tiles = self.plan.most_keys.div_ceil(tile);
        let splits = (gpu.processors / blocks.max(1)).clamp(1, most_tiles.max(1));
        let count = match splits {
            1 => 1,
            _ => blocks * splits * share_floats(ROWS, size),
        };
        let shares = unwritten(gpu, count, DType::F32)?;
        let shares = Shares {
            data: at(&shares)?.0,
            splits: splits as i32,
        };
        let heads = self.heads as i32;
        // SAFETY: the caller's; the shares are as large as the kernels take them, and freed behind them on the same stream.
        unsafe {
            match hopper {
                Some(name) => gpu.launch(
                    &name,
                    ring::launch((kv_heads, tiles, splits), PAGED_KEYS, size),
                    params![
                        ring::cache_map(self.arena)?,
                        cache,
                        addresses,
                        qkv,
                        out,
                        heads,
                        shares
                    ],
                )?,
                None => gpu.launch(
                    &format!("paged_{size}_{type_name}"),
                    Launch::new((tiles, kv_heads, splits), 128).shared(shared),
                    params![cache, addresses, qkv, out, heads, shares],
                )?,
            }
            if splits > 1 {
                gpu.launch(
                    &format!("combine_{size}_{type_name}"),
                    Launch::new((tiles, kv_heads, ROWS), size),
                    params![addresses, out, heads, shares],
                )?;
            }
        }
        Ok(())
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
    let paged = Paged {
        gpu: &gpu,
        arena,
        plan,
        cache: CacheAddress::new(arena, layer)?,
        qkv: qkv_at,
        out: at(&out)?.0,
        rows,
        heads,
        dtype,
    };
    let shared = shared_bytes(ROWS, size);
    let tiled = matches!(size, 64 | 128) && dtype != DType::F32 && shared <= gpu.shared_memory;
    // SAFETY: the plan's spans have these rows, and pages of the arena for all their entries; out has a row for each.
    unsafe {
        match tiled {
            true => paged.tiled(shared)?,
            false => paged.any()?,
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
