//! What the page touches: it brings what happens to the [`core`](crate::core) and does what that asks for. Each file speaks to
//! one thing outside, and knows nothing of the others; [`App`] puts them together.

mod address;
mod app;
pub mod browser;
mod clipboard;
pub mod dom;
mod drops;
pub mod early;
pub mod exchange;
pub mod extras;
pub mod files;
mod keeper;
mod lenses;
pub mod memory;
pub mod room;
pub mod samples;
pub mod signals;
mod socket;
pub mod store;
mod tabs;
mod worker;

pub use app::App;
pub use signals::TurnHandle;
