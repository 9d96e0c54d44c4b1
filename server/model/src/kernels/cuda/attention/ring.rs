//! Hopper's attention, ring.cuh: the tensors that it copies from, and the cut of the vision tower's grid.

use std::ops::Range;

use candle_core::cuda_backend::cudarc::driver::sys::CUtensorMap;
use candle_core::{DType, Result, Tensor};

use super::sizes::{ROWS, share_floats};
use crate::kernels::cache::{Arena, PAGE};
use crate::kernels::cuda::card::{Launch, PANEL, at, params, tensor_map, type_name, unwritten};
use crate::kernels::cuda::layout::ring::{PAGED_128, PAGED_KEYS, STAGES, VISION_112, VISION_KEYS};
use crate::kernels::cuda::layout::{Cut, WARP_GROUP};

/// Rows that a warp group multiplies.
const GROUP_ROWS: usize = 64;

/// Bytes of `Ring` of ring.cuh, whose tiles have so many keys: queries, keys, values, and the barriers.
const fn bytes(keys: usize, head_size: usize) -> usize {
    const BARRIERS: usize = 8 * (1 + 4 * STAGES);
    (ROWS + 2 * STAGES * keys) * head_size.next_multiple_of(PANEL) * 2 + BARRIERS
}

const _: () = assert!(bytes(VISION_KEYS, 112) == VISION_112 && bytes(PAGED_KEYS, 128) == PAGED_128);

/// A launch of blocks whose ring has tiles of `keys`.
pub fn launch(grid: (usize, usize, usize), keys: usize, head_size: usize) -> Launch {
    Launch::new(grid, (ROWS / GROUP_ROWS + 1) * WARP_GROUP).shared(bytes(keys, head_size))
}

/// The map of a cache whose boxes are pages of a head.
pub fn cache_map(arena: &Arena) -> Result<CUtensorMap> {
    let (address, dtype, _) = at(&arena.data)?;
    let (dims, pages) = (arena.dims, arena.pages());
    let heads = pages * dims.layers * 2 * dims.kv_heads;
    tensor_map(address, dtype, [heads, PAGE, dims.head_size], [1, PAGE])
}

/// How many blocks see all keys, and in how many parts the others are cut that would not fill the card once more.
fn cut(blocks: usize, tiles: usize, processors: usize) -> Cut {
    /// Each part costs another read of what the others left.
    const MOST_PARTS: usize = 8;
    let left = blocks % processors;
    let parts = match left {
        0 => 1,
        _ => (processors / left).min(tiles).min(MOST_PARTS),
    };
    let whole = if parts == 1 { blocks } else { blocks - left };
    Cut {
        whole: whole as i32,
        parts: parts as i32,
    }
}

/// Launches `vision_hopper_*`, called `name`, from `qkv` [n, 3 · heads · size] into `out` [rows, heads · size].
pub fn vision(
    name: &str,
    qkv: &Tensor,
    heads: usize,
    rows: Range<usize>,
    out: &Tensor,
) -> Result<()> {
    let (n, width) = qkv.dims2()?;
    let size = width / 3 / heads;
    let (qkv_at, dtype, gpu) = at(qkv)?;
    let map = |rows| tensor_map(qkv_at, dtype, [n, 3 * heads, size], [rows, 1]);
    let (queries, keys) = (map(GROUP_ROWS)?, map(VISION_KEYS)?);
    let blocks = rows.len().div_ceil(ROWS) * heads;
    let cut = cut(blocks, n.div_ceil(VISION_KEYS), gpu.processors);
    let left = blocks - cut.whole as usize;
    let cut_blocks = left * cut.parts as usize;
    let shares = unwritten(
        &gpu,
        (cut_blocks * share_floats(ROWS, size)).max(1),
        DType::F32,
    )?;
    let (shares_at, out_at) = (at(&shares)?.0, at(out)?.0);
    let (n, from, count, heads) = (n as i32, rows.start as i32, rows.len() as i32, heads as i32);
    // SAFETY: qkv has the maps' sizes, the queries lie in it, and out has a row for each; every block that is cut has its
    // share, freed behind the kernels on the same stream.
    unsafe {
        gpu.launch(
            name,
            launch((blocks - left + cut_blocks, 1, 1), VISION_KEYS, size),
            params![queries, keys, out_at, shares_at, n, from, count, heads, cut],
        )?;
        gpu.launch(
            &format!("join_parts_{size}_{}", type_name(dtype)?),
            Launch::new((left, ROWS, 1), size),
            params![shares_at, out_at, count, heads, cut],
        )
    }
}
