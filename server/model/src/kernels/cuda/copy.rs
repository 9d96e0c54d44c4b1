//! Copies on the card.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{PinnedHostSlice, result};
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

/// Elements in the host's memory that the card reads and writes by itself.
pub struct Pinned {
    bytes: PinnedHostSlice<u8>,
    /// Bytes of an element.
    size: usize,
}

/// So many elements of the type of `tensor`, in the host's memory.
pub fn pinned(tensor: &Tensor, elements: usize) -> Result<Pinned> {
    let (_, dtype, gpu) = at(tensor)?;
    let size = dtype.size_in_bytes();
    // The driver allocates no nothing.
    let len = (elements * size).max(1);
    // SAFETY: what is read of it was written before.
    let bytes = unsafe { gpu.stream.context().alloc_pinned(len) }.w()?;
    Ok(Pinned { bytes, size })
}

/// Copies `len` elements of a tensor to the host's memory, in the order of the card's work.
pub fn copy_out(
    tensor: &Tensor,
    from: usize,
    host: &mut Pinned,
    to: usize,
    len: usize,
) -> Result<()> {
    let (base, dtype, gpu) = at(tensor)?;
    let size = dtype.size_in_bytes();
    let bytes = host.bytes.as_mut_slice().w()?;
    if size != host.size || from + len > tensor.elem_count() || (to + len) * size > bytes.len() {
        bail!("{len} elements from {from} to {to} of the host's memory")
    }
    gpu.stream.context().bind_to_thread().w()?;
    // SAFETY: both ranges are there; the host's is read again by the card alone, after this.
    unsafe {
        result::memcpy_dtoh_async(
            &mut bytes[to * size..(to + len) * size],
            base + (from * size) as u64,
            gpu.stream.cu_stream(),
        )
        .w()
    }
}

/// Copies `len` elements from the host's memory into a tensor, in the order of the card's work.
pub fn copy_in(host: &Pinned, from: usize, tensor: &Tensor, to: usize, len: usize) -> Result<()> {
    let (base, dtype, gpu) = at(tensor)?;
    let size = dtype.size_in_bytes();
    let bytes = host.bytes.as_slice().w()?;
    if size != host.size || to + len > tensor.elem_count() || (from + len) * size > bytes.len() {
        bail!("{len} elements from {from} of the host's memory to {to}")
    }
    gpu.stream.context().bind_to_thread().w()?;
    // SAFETY: both ranges are there; the host's is written again by the card alone, after this.
    unsafe {
        result::memcpy_htod_async(
            base + (to * size) as u64,
            &bytes[from * size..(from + len) * size],
            gpu.stream.cu_stream(),
        )
        .w()
    }
}
