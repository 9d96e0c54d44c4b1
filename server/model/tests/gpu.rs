//! The kernels of a card against double precision, and the model on a card against the CPU's. Without a card every test
//! says so and passes. `make test-gpu` makes one binary of them that runs alone.
#![cfg(feature = "cuda")]

mod gpu {
    mod kernels;
    mod model;
    mod quantize;
    mod support;
}
