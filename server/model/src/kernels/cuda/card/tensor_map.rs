//! What Hopper's bulk copies go by: where a tensor lies, and the box of it that a copy takes.

use std::ffi::c_void;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle, cuTensorMapEncodeTiled,
};
use candle_core::{DType, Result, bail};

use crate::kernels::cuda::layout::Address;

/// Columns of a box.
pub const PANEL: usize = 64;

/// The map of 16-bit elements at `address`, one behind the other, seen as `dims`, outermost first; the box has [`PANEL`] columns
/// and `rows` of the other two dimensions.
pub fn tensor_map(
    address: Address,
    dtype: DType,
    dims: [usize; 3],
    rows: [usize; 2],
) -> Result<CUtensorMap> {
    let [_, middle, inner] = dims;
    encode(address, dtype, dims, [inner * middle, inner], rows)
}

/// The map of `rows` rows of so many panels of [`PANEL`] columns, 16-bit elements one behind the other; the box has some of the
/// panels, of each so many rows.
pub fn panels_map(
    address: Address,
    dtype: DType,
    [panels, rows]: [usize; 2],
    taken: [usize; 2],
) -> Result<CUtensorMap> {
    let dims = [panels, rows, PANEL];
    encode(address, dtype, dims, [PANEL, panels * PANEL], taken)
}

/// The map of `dims` elements, outermost first, of which the outer two lie so many elements apart.
fn encode(
    address: Address,
    dtype: DType,
    dims: [usize; 3],
    apart: [usize; 2],
    taken: [usize; 2],
) -> Result<CUtensorMap> {
    let kind = match dtype {
        DType::BF16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DType::F16 => CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        other => bail!("no tensor map for {other:?}"),
    };
    // The driver counts from the innermost dimension, and strides in bytes.
    let [outer, middle, inner] = dims.map(|n| n as u64);
    let strides = [2 * apart[1] as u64, 2 * apart[0] as u64];
    let taken = [taken[1], taken[0]].map(|n| n as u32);
    let mut map = CUtensorMap { opaque: [0; 16] };
    // SAFETY: three dimensions, two strides, and three sizes of the box; the driver refuses what is out of range.
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
