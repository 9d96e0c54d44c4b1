//! Glimpse answers questions about a picture, on your own hardware.

pub mod device;
pub mod glm4v;
pub mod kernels;
