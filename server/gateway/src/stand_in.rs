//! Plays whoever computes, for tests of what talks to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use api::{AskJob, Compute, Failure, PictureJob, PictureKey};
use parking_lot::Mutex;
use wire::Limits;

/// What it was asked for.
pub enum Command {
    Picture(PictureJob),
    Ask(AskJob),
    Cancel {
        request: u64,
    },
    Forget {
        key: PictureKey,
        done: Box<dyn FnOnce() + Send>,
    },
    ForgetConversation {
        conversation: u64,
        done: Box<dyn FnOnce() + Send>,
    },
    EndSession,
}

struct StandIn {
    commands: Mutex<Sender<Command>>,
    ids: AtomicU64,
}

/// Takes all, does nothing, and tells what it was asked for.
pub fn stand_in() -> (Arc<dyn Compute>, Receiver<Command>) {
    let (commands, asked) = channel();
    let stand_in = StandIn {
        commands: Mutex::new(commands),
        ids: AtomicU64::new(1),
    };
    (Arc::new(stand_in), asked)
}

impl StandIn {
    fn tell(&self, command: Command) {
        // Many tests don't look.
        let _ = self.commands.lock().send(command);
    }
}

impl Compute for StandIn {
    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn picture(&self, job: PictureJob) {
        self.tell(Command::Picture(job));
    }

    fn ask(&self, job: AskJob) -> Result<(), Failure> {
        self.tell(Command::Ask(job));
        Ok(())
    }

    fn cancel(&self, request: u64) {
        self.tell(Command::Cancel { request });
    }

    fn forget(&self, _session: u64, key: PictureKey, done: Box<dyn FnOnce() + Send>) {
        self.tell(Command::Forget { key, done });
    }

    fn forget_conversation(&self, conversation: u64, done: Box<dyn FnOnce() + Send>) {
        self.tell(Command::ForgetConversation { conversation, done });
    }

    fn end_session(&self, _session: u64) {
        self.tell(Command::EndSession);
    }
}

/// What a session may do, as the server has it by default.
pub fn limits() -> Limits {
    const MIB: u64 = 1 << 20;
    Limits {
        message_bytes: 2 * MIB,
        text_chars: 16_384,
        upload_bytes: 64 * MIB,
        image_pixels: 100_000_000,
        open_uploads: 4,
        images: 16,
        session_image_bytes: 256 * MIB,
        open_requests: 8,
        max_new_tokens: 2048,
        upload_window: MIB,
        outbox_bytes: MIB / 4,
        replay_bytes: 4 * MIB,
        resume_seconds: 300.0,
        idle_seconds: 60.0,
        upload_idle_seconds: 30.0,
        request_seconds: 600.0,
        stall_seconds: 30.0,
    }
}
