//! The whole program from outside and its engine from inside, in one binary: each of its own would link the model once more.

mod broken;
mod check;
mod cli;
mod conversation;
mod export;
mod fidelity;
mod quantize;
mod second_opinion;
mod support;
mod timings;
