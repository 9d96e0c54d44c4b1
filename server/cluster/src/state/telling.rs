//! What workers tell, on its way to the sessions.

use std::time::Duration;

use api::{Command, ErrorCode, Event, Failure, Freed, PictureKey, RequestId, SessionId};

use super::{Fleet, send, session, tell, unstore};

impl Fleet {
    /// Pixels are in the store, or why they are not.
    pub fn stored(&mut self, id: SessionId, key: PictureKey, result: Result<(), Failure>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(kept) = session.pictures.get_mut(&key) else {
            return;
        };
        match result {
            Ok(()) => {
                kept.pixels = None;
                if let Some(event) = kept.encoded.take().filter(|_| !kept.told) {
                    kept.told = true;
                    self.effects.push(tell(id, event));
                    self.leave_drained(id);
                }
            }
            // Without the copy it would be lost with its worker.
            Err(failure) => {
                session.forget(&key);
                if let Some(home) = &session.home {
                    self.effects.push(send(
                        home,
                        Command::Forget {
                            session: id,
                            picture: key,
                        },
                    ));
                }
                self.effects
                    .push(tell(id, Event::PictureFailed { key, failure }));
            }
        }
    }

    /// What a worker tells a session. Only its home is heard, and of a question only the latest attempt.
    pub fn event(&mut self, worker: &str, id: SessionId, event: Event, now: Duration) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.home.as_deref() != Some(worker) {
            return;
        }
        match event {
            Event::Encoded { key, .. } => {
                let Some(kept) = session.pictures.get_mut(&key) else {
                    return;
                };
                // One that moved is looked at again, which is nobody's news.
                if kept.told {
                    return;
                }
                if kept.pixels.is_some() {
                    kept.encoded = Some(event);
                    return;
                }
                kept.told = true;
                self.effects.push(tell(id, event));
                self.leave_drained(id);
            }
            Event::PictureFailed { key, .. } => {
                if let Some(kept) = session.forget(&key) {
                    self.effects.push(unstore(kept.object));
                }
                self.effects.push(tell(id, event));
                self.leave_drained(id);
            }
            Event::Freed(Freed::Session) => {
                if session.ending {
                    self.end(id);
                }
            }
            Event::Freed(freed) => {
                if let Some(at) = session.freeing.iter().position(|it| *it == freed) {
                    session.freeing.remove(at);
                    self.effects.push(tell(id, event));
                    self.leave_drained(id);
                }
            }
            Event::Moved { .. } => {}
            event => self.answer(id, event, now),
        }
    }

    fn is_latest(&self, id: SessionId, request: RequestId, attempt: u32) -> bool {
        let open = self.sessions.get(&id).and_then(|it| it.asks.get(&request));
        open.is_some_and(|open| open.sent && open.attempt() == attempt)
    }

    /// What its home tells of a session's question.
    pub(super) fn answer(&mut self, id: SessionId, event: Event, now: Duration) {
        let Some((request, attempt)) = session::of(&event) else {
            return;
        };
        let is_full = matches!(&event, Event::Failed { failure, .. }
            if matches!(failure.code, ErrorCode::Busy | ErrorCode::Loading));
        if !self.is_latest(id, request, attempt) || (is_full && self.refused(id, request, now)) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(open) = session.asks.get_mut(&request) else {
            return;
        };
        if matches!(event, Event::Started { .. }) {
            open.begun = true;
        }
        match &event {
            // Only an answer that goes on elsewhere begins twice.
            Event::Queued { .. } | Event::Started { .. } if open.started => {
                open.refused.clear();
                return;
            }
            Event::Queued { .. } => open.refused.clear(),
            Event::Started { .. } => {
                open.refused.clear();
                open.started = true;
            }
            Event::Tokens { first, ids, .. } => {
                if *first != open.ask.so_far.len() as u64 {
                    tracing::error!(%request, first, had = open.ask.so_far.len(), "a piece of an answer is missing: it is asked for again");
                    open.sent = false;
                    open.moves += 1;
                    self.settle(id, now);
                    return;
                }
                open.ask.so_far.extend(ids);
                open.ask.credit = open.ask.credit.saturating_sub(1);
                (open.losses, open.begun) = (0, false);
            }
            _ => {}
        }
        let outer = open.ask.attempt;
        let over = matches!(event, Event::Done { .. } | Event::Failed { .. });
        self.effects.push(tell(id, session::renamed(event, outer)));
        if over {
            session.asks.remove(&request);
            if let Some(home) = &session.home {
                self.members.answered(home);
            }
            self.leave_drained(id);
        }
    }
}
