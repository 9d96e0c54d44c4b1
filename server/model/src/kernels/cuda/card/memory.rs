//! The driver's pool, which the card's memory is taken from and given back to.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
use candle_core::{Device, Result};

use super::gpu::Gpu;

/// Lets the driver keep freed memory for the next allocation instead of giving it back at every synchronisation.
pub fn keep_memory(device: &Device) -> Result<()> {
    let mut most = u64::MAX;
    let pool = pool(device)?;
    // SAFETY: the attribute takes a u64, which outlives the call.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut most).cast(),
        )
        .w()
    }
}

/// Gives freed memory back once.
pub fn give_memory_back(device: &Device) -> Result<()> {
    let pool = pool(device)?;
    device.synchronize()?;
    // SAFETY: only what is free in the pool leaves it.
    unsafe { result::mem_pool::trim_to(pool, 0).w() }
}

/// Takes so many bytes in one piece for whatever comes: taken bit by bit as it comes, they would be more. Before them what
/// stays for ever, so that it doesn't lie among them.
pub fn reserve_memory(device: &Device, bytes: usize) -> Result<()> {
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    gpu.scratch.lock().take(&gpu.stream)?;
    // SAFETY: nobody reads it; the pool keeps what is freed here.
    unsafe { gpu.stream.alloc::<u8>(bytes) }.w().map(drop)
}

/// Bytes that the driver's pool holds.
#[derive(Clone, Copy, Debug)]
pub struct PoolUse {
    /// Bytes taken from the card.
    pub reserved: u64,
    /// Bytes in use, of those taken.
    pub used: u64,
    /// Bytes in use at most since this was last asked.
    pub most_used: u64,
}

/// What the pool holds once everything that is under way is done.
pub fn pool_use(device: &Device) -> Result<PoolUse> {
    use CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
        CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    };
    let pool = pool(device)?;
    device.synchronize()?;
    let read = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: these attributes are a u64, which outlives the call.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }
            .w()
            .map(|()| bytes)
    };
    let told = PoolUse {
        reserved: read(CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        used: read(CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        most_used: read(CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
    };
    let mut anew = 0u64;
    // SAFETY: as above; setting it to zero begins anew.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            CU_MEMPOOL_ATTR_USED_MEM_HIGH,
            (&raw mut anew).cast(),
        )
        .w()?;
    }
    Ok(told)
}

/// Where the device's memory comes from.
fn pool(device: &Device) -> Result<CUmemoryPool> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    context.bind_to_thread().w()?;
    // SAFETY: the context lives.
    unsafe { result::device::get_default_mem_pool(context.cu_device()).w() }
}
