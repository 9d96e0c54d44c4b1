//! Plays whoever computes, for tests of what talks to it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use api::{Command, Compute, Event, Freed, Report, SessionId, Status};
use parking_lot::Mutex;
use wire::{Limits, Model, State};

use crate::intake::decode;
use crate::session::Options;

/// Takes all, does nothing, and tells what it was asked for.
struct StandIn(Mutex<Sender<Command>>);

impl Compute for StandIn {
    fn command(&self, command: Command) {
        // Many tests don't look.
        let _ = self.0.lock().send(command);
    }
}

/// The test's side of it.
pub struct Player {
    pub commands: Receiver<Command>,
    reports: SyncSender<Report>,
}

impl Player {
    /// Where others beside the engine tell what they have to.
    pub fn reports(&self) -> SyncSender<Report> {
        self.reports.clone()
    }

    /// Speaks as the engine; returns when it was heard, and all is done that it leads to.
    pub fn tell(&self, session: SessionId, event: Event) {
        self.reports
            .send(Report::Session { session, event })
            .unwrap();
        // This one is for nobody. It is taken when the one before was dealt with.
        let nobody = Report::Session {
            session: SessionId::random(),
            event: Event::Freed(Freed::Session),
        };
        self.reports.send(nobody).unwrap();
    }
}

/// Somebody who computes, what that tells, and the test's side of both.
pub fn stand_in() -> (Arc<dyn Compute>, Receiver<Report>, Player) {
    let (sender, commands) = channel();
    // Without room, so that what is sent was taken.
    let (reports, told) = sync_channel(0);
    let player = Player { commands, reports };
    (Arc::new(StandIn(Mutex::new(sender))), told, player)
}

/// An engine that answers, and sees pictures of 8 × 8 pixels.
pub fn ready() -> Status {
    Status {
        state: State::Ready,
        model: Model {
            image_size: 8,
            ..Model::default()
        },
        ..Status::default()
    }
}

/// Sessions with memory for whatever comes, which decode one picture at a time.
pub fn options() -> Options {
    Options {
        share_pictures: false,
        decode: decode::Settings {
            image: glimpse_image::Options::default(),
            in_process: false,
            decoders: 1,
            memory: 1 << 30,
            time: Duration::from_secs(60),
            warm_up: false,
        },
        upload_memory: 1 << 30,
        picture_memory: 1 << 30,
        session_memory: 1 << 30,
        message_memory: 1 << 30,
        max_sessions: 100,
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
