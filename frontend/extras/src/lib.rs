//! What the page loads when it is needed, as a WASM module of its own: so the way from a picture to the first word of an answer
//! does not wait for it. Here: answers drawn as Markdown, with their formulas.

mod archive;
mod drawing;
mod formula;
mod markdown;
mod node;
mod patch;

pub use archive::archive;
pub use drawing::{Drawing, drawing};
