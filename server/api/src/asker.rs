//! Who asks.

use serde::{Deserialize, Serialize};

use crate::SessionId;

/// The client and the session that a question or a picture comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asker {
    /// Whoever shares are for, as a number: an API key, or an address.
    pub client: u128,
    pub session: SessionId,
}
