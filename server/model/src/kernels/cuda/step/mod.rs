//! A decode step, one token for each of a few sequences, as one kernel: `decode.cu`. All that changes from step to step —
//! tokens, positions, lengths, pages — is copied to the card in one piece before it, and the scores come back behind it.

mod build;
mod exchange;
mod factors;
mod inputs;
mod many;
mod memory;
mod model;
mod run;
mod sizes;

pub use many::ManyStep;
pub use model::{StepLayer, StepModel, StepWeight};
pub use run::Step;
