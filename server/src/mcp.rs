//! `glimpse mcp`: the tools for the agent that starts this process, with an engine of its own.

use std::io;
use std::sync::{Arc, mpsc};

use gateway::access::{GuestLimits, Guests};
use gateway::doors::mcp::{self, Mcp};
use gateway::session::{Hub, Shared};

use crate::config::McpArgs;
use crate::serve::{fetch_hosts, invalid, root, session_options, start_engine};

/// Sessions kept, each a conversation about one picture that the next question may go on with.
const MAX_SESSIONS: usize = 256;

/// Serves the agent until it closes standard input.
///
/// # Errors
/// Settings that contradict each other, a checkpoint with something missing, or a device that can't be had; a client that does
/// not speak the protocol.
pub fn run(settings: &McpArgs) -> io::Result<()> {
    let limits = settings.limits.wire().map_err(invalid)?;
    let hosts = fetch_hosts(&settings.sources).map_err(invalid)?;
    let root = root(&settings.sources).map_err(invalid)?;
    let (told, reports) = mpsc::channel();
    let engine = start_engine(&settings.model, &settings.engine, told)?;
    let status = engine.status();
    let options = session_options(
        &settings.pictures,
        settings.engine.warmup.is_on(),
        &settings.limits,
        MAX_SESSIONS,
    );
    let shared = Shared::new(Arc::new(engine), None, status, reports, limits, options)?;
    let mcp = Mcp::alone(Arc::new(Hub::new(shared)), hosts, root);
    let guests = Guests::new(Vec::new(), GuestLimits::default(), 1, false);
    actix_web::rt::System::new().block_on(mcp::serve_stdio(mcp, guests))
}
