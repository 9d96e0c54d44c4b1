//! What the whole-system tests and the benchmarks beside them share.

pub mod decoders;
