//! The card: its kernels, how they are launched, and its memory.

mod blas;
mod built;
mod event;
mod gpu;
mod hopper;
mod launch;
mod memory;
mod scratch;
mod staging;
mod tensor_map;
mod tensors;

pub use blas::{Operands, Shape as ProductShape};
pub use built::{BUILT_FOR, capability, check};
pub use event::Event;
pub use gpu::Gpu;
pub use hopper::{Hopper, use_hopper};
pub use launch::Launch;
pub(super) use launch::params;
pub use memory::{PoolUse, give_memory_back, keep_memory, pool_use, reserve_memory};
pub use tensor_map::{PANEL, panels_map, tensor_map};
pub use tensors::{at, type_name, unwritten, upload};
