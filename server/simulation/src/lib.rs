//! A fleet in virtual time, with the scheduler and the placement that serve: what a fleet of any size does under any load, as far as
//! that follows from what each stage takes.

mod card;
mod encoding;
mod fleet;
mod load;
mod results;
mod shards;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

pub use card::Card;
pub use fleet::{Machine, run};
pub use load::{Listed, Load};
pub use results::Results;
pub use wire::Wire;
