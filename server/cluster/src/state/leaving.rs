//! How sessions leave a home: lost, or drained.

use std::time::Duration;

use api::{Command, Event, RequestId, SessionId};

use super::session::Open;
use super::{BEGUN, Fleet, LOSSES, REFUSALS, RETRY, deadly, send, tell};

impl Fleet {
    pub(super) fn at_home(&self, worker: &str) -> Vec<SessionId> {
        let there = self
            .sessions
            .iter()
            .filter(|(_, it)| it.home.as_deref() == Some(worker));
        there.map(|(id, _)| *id).collect()
    }

    /// All whose home is lost have none any more. Should it come back, it is told to drop what it has of them.
    pub(super) fn leave_all(&mut self, worker: &str, may_return: bool) {
        for id in self.at_home(worker) {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            session.home = None;
            session.given.clear();
            if may_return {
                self.effects
                    .push(send(worker, Command::EndSession { session: id }));
            }
            for freed in std::mem::take(&mut session.freeing) {
                self.effects.push(tell(id, Event::Freed(freed)));
            }
            let mut open: Vec<&mut Open> = session.asks.values_mut().filter(|it| it.sent).collect();
            open.sort_by_key(|it| it.order);
            for open in open {
                open.sent = false;
                open.waits = true;
                open.moves += 1;
                open.losses += match std::mem::take(&mut open.begun) {
                    true => BEGUN,
                    false => 1,
                };
                if open.cancelled {
                    continue;
                }
                let moved = Event::Moved {
                    request: open.ask.request,
                    attempt: open.ask.attempt,
                    so_far: open.ask.so_far.len() as u64,
                };
                self.effects.push(tell(id, moved));
            }
            self.end_lost(id);
            if self.sessions.get(&id).is_some_and(|session| session.ending) {
                self.end(id);
            }
        }
    }

    /// A question was refused by its home, which is full. It goes to a worker that has not refused it, and its session with it
    /// where nothing else is at work for that; one that has moved waits where there is none. False if it is to be told.
    pub(super) fn refused(&mut self, id: SessionId, request: RequestId, now: Duration) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let alone = session.has_only(request);
        let (Some(home), Some(open)) = (session.home.clone(), session.asks.get_mut(&request))
        else {
            return false;
        };
        open.refused.push(home.clone());
        let (refused, waits) = (open.refused.clone(), open.waits);
        let other = match alone && refused.len() <= REFUSALS {
            true => self.place(&refused),
            false => None,
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let Some(open) = session.asks.get_mut(&request) else {
            return false;
        };
        if other.is_none() && !waits {
            return false;
        }
        open.sent = false;
        open.moves += 1;
        if other.is_none() {
            open.refused.clear();
            open.retry = now + RETRY;
            return true;
        }
        session.home = None;
        session.given.clear();
        self.effects
            .push(send(&home, Command::EndSession { session: id }));
        self.settle(id, now);
        true
    }

    /// Ends what moves no further: what was cancelled, and what has lost too many workers.
    pub(super) fn end_lost(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let over = |open: &Open| open.cancelled || open.losses > LOSSES;
        let over: Vec<RequestId> = session
            .asks
            .iter()
            .filter(|(_, it)| !it.sent && over(it))
            .map(|(id, _)| *id)
            .collect();
        for request in over {
            let Some(open) = session.asks.remove(&request) else {
                continue;
            };
            let attempt = open.ask.attempt;
            let end = match open.cancelled {
                true => open.cancelled_end(),
                false => Event::Failed {
                    request,
                    attempt,
                    failure: deadly(),
                },
            };
            self.effects.push(tell(id, end));
        }
    }

    /// A session whose home drains, and that nothing is open of, leaves it.
    pub(super) fn leave_drained(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(home) = session.home.clone() else {
            return;
        };
        let drains = self
            .members
            .get(&home)
            .is_some_and(|it| it.registration.draining);
        let waits = session
            .pictures
            .values()
            .any(|it| !it.told && session.given.contains(&it.key));
        if !drains
            || waits
            || session.ending
            || !session.asks.is_empty()
            || !session.freeing.is_empty()
        {
            return;
        }
        session.home = None;
        session.given.clear();
        self.effects
            .push(send(&home, Command::EndSession { session: id }));
    }

    /// Ends what has waited longer than it may, where nobody else does.
    pub(super) fn expire(&mut self, id: SessionId, now: Duration) {
        self.refuse(id, |open| !open.sent && open.left_ms(now) <= 0.0);
    }
}
