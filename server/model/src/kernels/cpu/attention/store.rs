//! New entries on their way into the cache.

use std::sync::Arc;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use crate::kernels::cache::{Arena, ArenaDims, PAGE};
use crate::kernels::cpu::rotary::rotate;
use crate::kernels::cpu::storage::{as_f32, cache_mut};
use crate::kernels::plan::PlanInner;

/// Writes the new entries' keys, rotated, and values into the cache.
pub fn store_kv(arena: &Arena, layer: usize, qkv: &Tensor, plan: &Arc<PlanInner>) -> Result<()> {
    let op = StoreKv {
        dims: arena.dims,
        layer,
        plan: plan.clone(),
    };
    arena.data.inplace_op2(qkv, &op)
}

struct StoreKv {
    dims: ArenaDims,
    layer: usize,
    plan: Arc<PlanInner>,
}

impl InplaceOp2 for StoreKv {
    fn name(&self) -> &'static str {
        "store-kv"
    }

    fn cpu_fwd(
        &self,
        arena: &mut CpuStorage,
        al: &Layout,
        qkv: &CpuStorage,
        ql: &Layout,
    ) -> Result<()> {
        let (_, width) = ql.shape().dims2()?;
        let dims = self.dims;
        let (size, kv_heads) = (dims.head_size, dims.kv_heads);
        let data = as_f32(qkv, ql)?;
        let arena = cache_mut(arena)?;
        if !al.is_contiguous() || al.start_offset() != 0 {
            bail!("the KV cache must be contiguous")
        }
        let keys_at = width - 2 * kv_heads * size;
        for (span, first) in self.plan.spans.iter().zip(&self.plan.first_rows) {
            for i in 0..span.len {
                let row = first + i;
                let (page, slot) = ((span.start + i) / PAGE, (span.start + i) % PAGE);
                let angles = &self.plan.angles()[row * self.plan.pairs..][..self.plan.pairs];
                let source = &data[row * width + keys_at..][..2 * kv_heads * size];
                for (j, head) in source.chunks_exact(size).enumerate() {
                    let (value, h) = (j / kv_heads, j % kv_heads);
                    let at = dims.offset(span.pages[page], self.layer, value, h) + slot * size;
                    let target = &mut arena[at..at + size];
                    target.copy_from_slice(head);
                    if value == 0 {
                        rotate(target, angles);
                    }
                }
            }
        }
        Ok(())
    }
}
