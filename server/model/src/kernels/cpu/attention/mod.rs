//! Attention on the CPU: products of blocks of queries with keys and values, on all cores.

mod paged;
mod softmax;
mod store;
mod vision;

pub use paged::paged_attention;
pub use store::store_kv;
pub use vision::vision_attention;
