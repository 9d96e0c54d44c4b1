//! Hopper's attention, ring.cuh: the tensor maps that its copies go by, and the cut of the vision tower's grid.

use std::ffi::c_void;
use std::ops::Range;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle, cuTensorMapEncodeTiled,
};
use candle_core::{DType, Result, Tensor, bail};

use super::super::attention::{Arena, PAGE};
use super::attention::{ROWS, share_floats};
use super::gpu::{Address, Launch, at, params, type_name, unwritten};

/// Keys of a tile, as hopper.cu has them.
const VISION_KEYS: usize = 176;
pub const PAGED_KEYS: usize = 128;

/// Tiles of keys, and of values, in a block's ring.
const STAGES: usize = 2;

/// Rows that a warp group multiplies, and columns that a copy takes.
const GROUP_ROWS: usize = 64;
const PANEL: usize = 64;

/// `Cut` of ring.cuh.
#[repr(C)]
#[derive(Clone, Copy)]
struct Cut {
    whole: i32,
    parts: i32,
}

/// A launch of blocks whose ring has tiles of `keys`.
pub fn launch(grid: (usize, usize, usize), keys: usize, head_size: usize) -> Launch {
    const WARP_GROUP: usize = 128;
    const BARRIERS: usize = 8 * (1 + 4 * STAGES);
    let matrices = (ROWS + 2 * STAGES * keys) * head_size.next_multiple_of(PANEL) * 2;
    Launch::new(grid, (ROWS / GROUP_ROWS + 1) * WARP_GROUP).shared(matrices + BARRIERS)
}

/// The map of a contiguous tensor of 16-bit elements, seen as `dims`; the box has 64 of its columns and `rows` of the
/// other two dimensions.
fn tensor_map(
    address: Address,
    dtype: DType,
    dims: [usize; 3],
    rows: [usize; 2],
) -> Result<CUtensorMap> {
    let kind = match dtype {
        DType::BF16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DType::F16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        other => bail!("no tensor map for {other:?}"),
    };
    // The driver counts from the innermost dimension.
    let [outer, middle, inner] = dims.map(|n| n as u64);
    let strides = [2 * inner, 2 * inner * middle];
    let taken = [rows[1], rows[0]].map(|n| n as u32);
    let mut map = CUtensorMap { opaque: [0; 16] };
    // SAFETY: three dimensions, two strides in bytes, and three sizes of the box; the driver refuses what is out of range.
    unsafe {
        cuTensorMapEncodeTiled(
            &mut map,
            kind,
            3,
            address as *mut c_void,
            [inner, middle, outer].as_ptr(),
            strides.as_ptr(),
            [PANEL as u32, taken[0], taken[1]].as_ptr(),
            [1; 3].as_ptr(),
            CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
    .result()
    .w()?;
    Ok(map)
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
