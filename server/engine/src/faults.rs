//! Faults that tests put into the worker's work. Only there: nothing of this is in the program.

use std::cell::RefCell;

/// Told what is being worked on ("answer" or "picture") and the token ids that go in; fails or panics where it likes.
type Hook = Box<dyn FnMut(&str, &[u32]) -> candle_core::Result<()>>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Sets the hook of the worker on whose thread this is called.
pub fn install(hook: Hook) {
    HOOK.set(Some(hook));
}

/// Called by the worker at the beginning of each piece of work.
pub fn strike(work: &str, ids: &[u32]) -> candle_core::Result<()> {
    // Taken out while it runs, since it may panic.
    let Some(mut hook) = HOOK.take() else {
        return Ok(());
    };
    let struck = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(work, ids)));
    HOOK.set(Some(hook));
    struck.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
