//! The whole core against a server that forgets, breaks off and says things late: what a person sees, by what happens.

mod choices;
mod coming;
mod cuts;
mod losses;
mod properties;
mod scenes;
mod server;
pub mod world;
