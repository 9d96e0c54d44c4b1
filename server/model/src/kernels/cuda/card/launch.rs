//! How a kernel is launched.

/// How many blocks of how many threads.
#[derive(Clone, Copy)]
pub struct Launch {
    /// Blocks along x, y and z.
    pub grid: (usize, usize, usize),
    /// Threads of a block.
    pub threads: usize,
    /// Bytes of shared memory.
    pub shared: usize,
    /// All blocks must be running at once, since they meet.
    pub cooperative: bool,
}

impl Launch {
    /// `grid` blocks of `threads` threads each, without shared memory of their own.
    pub fn new(grid: (usize, usize, usize), threads: usize) -> Self {
        Launch {
            grid,
            threads,
            shared: 0,
            cooperative: false,
        }
    }

    /// Adds `bytes` of shared memory for each block.
    pub fn shared(self, bytes: usize) -> Self {
        Launch {
            shared: bytes,
            ..self
        }
    }
}

/// The addresses of a kernel's parameters, as `Gpu::launch` takes them: written in the call itself, since they are no
/// longer than it.
macro_rules! params {
    ($($param:expr),* $(,)?) => {
        &mut [$(std::ptr::from_ref(&$param).cast_mut().cast::<std::ffi::c_void>()),*]
    };
}
pub(in crate::kernels::cuda) use params;
