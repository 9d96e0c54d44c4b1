//! Copies on the CPU.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

use super::storage::{cache, cache_mut};

/// The rows `ids` of `table`.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    table.index_select(&Tensor::new(ids, table.device())?, 0)
}

/// Copies `len` elements within the KV cache. (candle's own copy of a part clones the whole storage first.)
pub fn copy_within(cache: &Tensor, from: usize, to: usize, len: usize) -> Result<()> {
    cache.inplace_op1(&CopyWithin { from, to, len })
}

struct CopyWithin {
    from: usize,
    to: usize,
    len: usize,
}

impl InplaceOp1 for CopyWithin {
    fn name(&self) -> &'static str {
        "copy-within"
    }

    fn cpu_fwd(&self, cache: &mut CpuStorage, _: &Layout) -> Result<()> {
        cache_mut(cache)?.copy_within(self.from..self.from + self.len, self.to);
        Ok(())
    }
}

/// Copies elements of the KV cache, from `from` on, to `to`.
pub fn copy_out(tensor: &Tensor, from: usize, to: &mut [f32]) -> Result<()> {
    let (storage, _) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!("the cache is not in the host's memory")
    };
    to.copy_from_slice(&cache(storage)?[from..from + to.len()]);
    Ok(())
}

/// Copies `from` into the KV cache, to `to` and on.
pub fn copy_in(from: &[f32], tensor: &Tensor, to: usize) -> Result<()> {
    tensor.inplace_op1(&CopyIn { from, to })
}

struct CopyIn<'a> {
    from: &'a [f32],
    to: usize,
}

impl InplaceOp1 for CopyIn<'_> {
    fn name(&self) -> &'static str {
        "copy-in"
    }

    fn cpu_fwd(&self, cache: &mut CpuStorage, _: &Layout) -> Result<()> {
        cache_mut(cache)?[self.to..self.to + self.from.len()].copy_from_slice(self.from);
        Ok(())
    }
}
