//! Copies on the CPU.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};

use super::storage::cache_mut;

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
