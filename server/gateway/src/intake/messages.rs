//! Memory for messages that have begun to come and are not whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::Budget;

/// Shared by all connections.
pub type Messages = Budget<Arc<Eviction>>;

/// Asks a connection to end, since its client's messages take most of that memory.
#[derive(Default)]
pub struct Eviction {
    asked: AtomicBool,
    notify: Notify,
}

impl Eviction {
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns once eviction is asked for.
    pub async fn asked(&self) {
        self.notify.notified().await;
    }
}
