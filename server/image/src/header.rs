//! What is known of a picture, before and after it is decoded.

use api::Pixels;
use serde::{Deserialize, Serialize};

use super::format::Format;

/// A picture, ready for the model; or with `()` for its pixels what is to be told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Picture<P = Pixels> {
    /// Width of the original in pixels, upright.
    pub width: u32,
    pub height: u32,
    pub format: Format,
    /// The frame of an animation, from 0: the first with anything on it.
    pub frame: u32,
    pub pixels: P,
    /// Milliseconds from bytes to RGB at (about) full size.
    pub decode_ms: f64,
    /// Milliseconds of everything after decoding: conversion to RGB on white, resize, orientation.
    pub preprocess_ms: f64,
}

/// What a file's header says, and what decoding it will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Width in pixels as stored, not upright.
    pub width: u32,
    pub height: u32,
    pub format: Format,
    /// The most memory that [`load`](super::load) takes for it, in bytes, beside the file itself and what it returns.
    pub memory: u64,
    /// Samples that decoding passes over: pixels, as many times as the file goes over them.
    pub work: u64,
}

impl Picture<()> {
    /// Adds the pixels to what is to be told of a picture.
    pub fn with(self, pixels: Pixels) -> Picture {
        let Self {
            width,
            height,
            format,
            frame,
            pixels: (),
            decode_ms,
            preprocess_ms,
        } = self;
        Picture {
            width,
            height,
            format,
            frame,
            pixels,
            decode_ms,
            preprocess_ms,
        }
    }
}
