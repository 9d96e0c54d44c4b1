//! Who may in: by the names and pages that a request comes for and from, by key, and by how much of the server they have
//! already. Every door lets people in through this.

mod caller;
mod guest;
mod guests;
mod hosts;
mod keys;
mod login;
mod permit;
mod proxy;
mod rate;

pub use caller::{Refused, SOCKET, count};
pub use guest::{Guest, Visit};
pub use guests::Guests;
pub use hosts::{Access, check};
pub use keys::{GuestLimits, Key, KeyFile};
pub use login::{Login, has_key, unauthorized};
pub use permit::ConnectionPermit;
pub use proxy::{Network, Proxies};
