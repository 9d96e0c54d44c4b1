//! The KV cache's memory.
//!
//! A page holds [`PAGE`] entries of every layer, so that a conversation that branches off another shares whole pages with
//! it and copies at most one.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// Cache entries in a page.
pub const PAGE: usize = 64;

/// The KV cache's memory, allocated once: `[pages, layers, 2, kv_heads, PAGE, head_size]`, keys before values.
pub struct Arena {
    pub(super) data: Tensor,
    pub(super) dims: ArenaDims,
}

/// Pages of the cache in the host's memory, allocated once. A card reads and writes them by itself.
pub struct HostPages(HostMemory);

enum HostMemory {
    Plain(Vec<f32>),
    #[cfg(feature = "cuda")]
    Pinned(cuda::Pinned),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ArenaDims {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_size: usize,
}

impl ArenaDims {
    /// Elements of one head's entries in a page.
    fn head(&self) -> usize {
        PAGE * self.head_size
    }

    pub(super) fn page(&self) -> usize {
        self.layers * 2 * self.kv_heads * self.head()
    }

    /// Where the keys (`value` 0) or values (1) of a head in a page begin.
    pub(super) fn offset(&self, page: u32, layer: usize, value: usize, head: usize) -> usize {
        page as usize * self.page() + ((layer * 2 + value) * self.kv_heads + head) * self.head()
    }
}

impl Arena {
    /// Memory for so many pages, whose entries are yet to be written.
    pub fn new(
        pages: usize,
        layers: usize,
        kv_heads: usize,
        head_size: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let shape = (pages, layers * 2, kv_heads, PAGE, head_size);
        Ok(Arena {
            data: match device.is_cpu() {
                // Not zeros: those would be promised by the kernel and taken page by page, so that memory grew with use.
                true => Tensor::ones(shape, dtype, device)?,
                // Not ones: the kernel that would write them counts elements with 32 bits.
                false => Tensor::zeros(shape, dtype, device)?,
            },
            dims: ArenaDims {
                layers,
                kv_heads,
                head_size,
            },
        })
    }

    /// Pages in all.
    pub fn pages(&self) -> usize {
        self.data.dims()[0]
    }

    /// Bytes that a page takes.
    pub fn page_bytes(layers: usize, kv_heads: usize, head_size: usize, dtype: DType) -> usize {
        ArenaDims {
            layers,
            kv_heads,
            head_size,
        }
        .page()
            * dtype.size_in_bytes()
    }

    /// Copies a page, all layers of it.
    pub fn copy_page(&self, from: u32, to: u32) -> Result<()> {
        let (pages, page) = (self.pages(), self.dims.page());
        let (from, to) = (from as usize, to as usize);
        if from >= pages || to >= pages {
            bail!("page {from} or {to} is not one of {pages}")
        }
        let (from, to) = (from * page, to * page);
        on_card!(self.data, cuda::copy_within(&self.data, from, to, page));
        cpu::copy_within(&self.data, from, to, page)
    }

    /// Room for so many pages in the host's memory.
    pub fn host(&self, pages: usize) -> Result<HostPages> {
        let elements = pages * self.dims.page();
        #[cfg(feature = "cuda")]
        if self.data.device().is_cuda() {
            return Ok(HostPages(HostMemory::Pinned(cuda::pinned(
                &self.data, elements,
            )?)));
        }
        Ok(HostPages(HostMemory::Plain(vec![0.0; elements])))
    }

    /// Copies a page, all layers of it, to one of the host's memory. On a card that is done before anything that is asked of it
    /// later.
    pub fn page_out(&self, page: u32, host: &mut HostPages, to: u32) -> Result<()> {
        let (from, to, len) = (
            self.first(page)?,
            to as usize * self.dims.page(),
            self.dims.page(),
        );
        match &mut host.0 {
            HostMemory::Plain(memory) => {
                cpu::copy_out(&self.data, from, part_mut(memory, to, len)?)
            }
            #[cfg(feature = "cuda")]
            HostMemory::Pinned(memory) => cuda::copy_out(&self.data, from, memory, to, len),
        }
    }

    /// Copies it back to a page of the cache.
    pub fn page_in(&self, host: &HostPages, from: u32, page: u32) -> Result<()> {
        let (from, to, len) = (
            from as usize * self.dims.page(),
            self.first(page)?,
            self.dims.page(),
        );
        match &host.0 {
            HostMemory::Plain(memory) => match memory.get(from..from + len) {
                Some(page) => cpu::copy_in(page, &self.data, to),
                None => bail!("no such page in the host's memory"),
            },
            #[cfg(feature = "cuda")]
            HostMemory::Pinned(memory) => cuda::copy_in(memory, from, &self.data, to, len),
        }
    }

    /// A page's first element.
    fn first(&self, page: u32) -> Result<usize> {
        match (page as usize) < self.pages() {
            true => Ok(page as usize * self.dims.page()),
            false => bail!("page {page} is not one of {}", self.pages()),
        }
    }
}

fn part_mut(memory: &mut [f32], at: usize, len: usize) -> Result<&mut [f32]> {
    match memory.get_mut(at..at + len) {
        Some(part) => Ok(part),
        None => bail!("no such page in the host's memory"),
    }
}
