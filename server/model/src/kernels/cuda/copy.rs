//! Copies on the card.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{Result, Tensor, bail};

use super::card::{at, params, type_name, unwritten};
use super::rows::{over_rows, width};

/// The rows `ids` of `table`.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (tokens, n) = table.dims2()?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= tokens) {
        bail!("token {id} of {tokens}")
    }
    let (table_at, dtype, gpu) = at(table)?;
    let out = unwritten(&gpu, (ids.len(), n), dtype)?;
    let out_at = at(&out)?.0;
    let ids = Tensor::new(ids, table.device())?;
    let (name, width) = width(dtype, n, &[table_at, out_at]);
    let (name, rows) = (
        format!("gather_{}_{name}", type_name(dtype)?),
        ids.elem_count(),
    );
    // SAFETY: every id is a row of the table, and out is [ids, n].
    unsafe {
        gpu.launch(
            &name,
            over_rows(rows, n, width),
            params![table_at, at(&ids)?.0, out_at, rows as i32, n as i32],
        )?;
    }
    Ok(out)
}

/// Copies `len` elements within a tensor, which must not overlap.
pub fn copy_within(tensor: &Tensor, from: usize, to: usize, len: usize) -> Result<()> {
    if from.max(to) + len > tensor.elem_count() || from.abs_diff(to) < len {
        bail!(
            "{len} elements from {from} to {to} of {}",
            tensor.elem_count()
        )
    }
    let (base, dtype, gpu) = at(tensor)?;
    let size = dtype.size_in_bytes();
    let address = |element: usize| base + (element * size) as u64;
    gpu.stream.context().bind_to_thread().w()?;
    // SAFETY: both ranges lie in the tensor.
    unsafe {
        result::memcpy_dtod_async(
            address(to),
            address(from),
            len * size,
            gpu.stream.cu_stream(),
        )
        .w()
    }
}
