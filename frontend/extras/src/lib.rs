//! What the page loads when it is needed, as a WASM module of its own: so the way from a picture to the first word of an answer
//! does not wait for it: answers drawn as Markdown with their formulas, conversations as archives, pictures that a browser can't
//! decode, and drawings as pixels.

mod archive;
mod drawing;
mod formula;
mod heic;
mod markdown;
mod node;
mod patch;
mod srgb;
mod svg;

pub use archive::archive;
pub use drawing::{Drawing, drawing};
pub use heic::{Pixels, heic};
pub use svg::rasterised;
