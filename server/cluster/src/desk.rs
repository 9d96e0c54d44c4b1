//! What a worker decides between its gateways and its engine: who is told what, and when a picture is whole. Plain data.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use api::{Command, ErrorCode, Event, Failure, Freed, Picture, Pixels, Report, SessionId};

use crate::message::{Given, ToWorker};

/// How long pixels may be on their way before they are taken from the store.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// Bytes of pictures that are not whole, or that nobody has asked for yet.
const MOST: usize = 512 << 20;
/// How long a gateway may be silent before its sessions are ended: longer than a restart of anything between.
const SILENCE: Duration = Duration::from_secs(120);

/// Something to be done.
#[derive(Debug, PartialEq)]
pub enum Deed {
    Ask(Command),
    /// Take a picture from the store; [`Desk::fetched`] is to be told.
    Fetch {
        session: SessionId,
        object: String,
        /// What it is sealed with there.
        secret: [u8; 32],
    },
    Tell {
        gateway: String,
        report: Report,
    },
}

#[derive(Default)]
pub struct Desk {
    sessions: HashMap<SessionId, Guest>,
    /// When each gateway was heard last.
    gateways: HashMap<String, Duration>,
    /// Pixels that came, by their names in the store.
    coming: HashMap<String, (Duration, Vec<u8>)>,
    bytes: usize,
}

/// A session of a gateway's.
struct Guest {
    gateway: String,
    /// When it was taken over, in the order of all that were; 0 if it never was.
    epoch: u64,
    /// Its end was asked for, and nothing since.
    ending: bool,
    /// What it is to be told, as long as a picture before that is not whole. The first is that picture.
    waiting: VecDeque<ToWorker>,
    since: Duration,
    fetching: bool,
}

impl Desk {
    /// Sessions at home here.
    pub fn sessions(&self) -> u64 {
        self.sessions.values().filter(|it| !it.ending).count() as u64
    }

    pub fn gateways(&self) -> impl Iterator<Item = &String> {
        self.gateways.keys()
    }

    /// A gateway lives.
    pub fn gateway(&mut self, gateway: &str, now: Duration) {
        match self.gateways.get_mut(gateway) {
            Some(heard) => *heard = now,
            None => drop(self.gateways.insert(gateway.to_owned(), now)),
        }
    }

    /// What a gateway asks for.
    pub fn take(&mut self, gateway: &str, message: ToWorker, now: Duration) -> Vec<Deed> {
        self.gateway(gateway, now);
        let session = match &message {
            ToWorker::Command(command) => command.session(),
            ToWorker::Picture(given) => given.asker.session,
            ToWorker::Taken { session, .. } => *session,
        };
        let guest = self.sessions.entry(session).or_insert_with(|| Guest {
            gateway: gateway.to_owned(),
            epoch: 0,
            ending: false,
            waiting: VecDeque::new(),
            since: now,
            fetching: false,
        });
        if let ToWorker::Taken { epoch, .. } = message {
            if epoch > guest.epoch {
                guest.epoch = epoch;
                guest.gateway = gateway.to_owned();
                guest.ending = false;
            }
            return Vec::new();
        }
        if guest.gateway != gateway {
            // It does not know yet that it has lost the session.
            return Vec::new();
        }
        guest.ending = matches!(message, ToWorker::Command(Command::EndSession { .. }));
        if guest.ending {
            // What it waited for is nobody's concern any more.
            guest.waiting.clear();
            guest.fetching = false;
        }
        if guest.waiting.is_empty() {
            guest.since = now;
        }
        guest.waiting.push_back(message);
        self.advance(session, now)
    }

    /// Gives the engine what can be given of a session.
    fn advance(&mut self, session: SessionId, now: Duration) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let Some(guest) = self.sessions.get_mut(&session) else {
            return deeds;
        };
        while let Some(next) = guest.waiting.pop_front() {
            let given = match next {
                ToWorker::Command(command) => {
                    deeds.push(Deed::Ask(command));
                    continue;
                }
                ToWorker::Picture(given) => given,
                ToWorker::Taken { .. } => continue,
            };
            let whole = |(_, came): &(Duration, Vec<u8>)| came.len() == Pixels::bytes(given.side);
            if self.coming.get(&given.object).is_some_and(whole) {
                let (_, came) = self.coming.remove(&given.object).unwrap_or_default();
                self.bytes -= came.len();
                deeds.push(Deed::Ask(picture(given, came)));
                guest.since = now;
                continue;
            }
            let late = now.saturating_sub(guest.since) >= ON_THE_WAY;
            if !guest.fetching && (late || !given.straight) {
                guest.fetching = true;
                deeds.push(Deed::Fetch {
                    session,
                    object: given.object.clone(),
                    secret: given.secret.unwrap_or_default(),
                });
            }
            guest.waiting.push_front(ToWorker::Picture(given));
            break;
        }
        deeds
    }

    /// A piece of a picture came, which begins at `offset`.
    pub fn piece(&mut self, object: &str, offset: usize, piece: &[u8], now: Duration) -> Vec<Deed> {
        // Those that came first have waited longest for somebody to ask for them.
        while self.bytes + piece.len() > MOST {
            let oldest = self.coming.iter().min_by_key(|(_, (since, _))| *since);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.drop_coming(&oldest);
        }
        if offset == 0 {
            self.drop_coming(object);
        }
        let (_, came) = self
            .coming
            .entry(object.to_owned())
            .or_insert_with(|| (now, Vec::new()));
        if came.len() != offset {
            // One before it is lost: the store has it all.
            self.drop_coming(object);
            return Vec::new();
        }
        came.extend_from_slice(piece);
        self.bytes += piece.len();
        let session = object
            .split('.')
            .nth(1)
            .and_then(|id| u128::from_str_radix(id, 16).ok());
        session.map_or_else(Vec::new, |id| self.advance(SessionId::new(id), now))
    }

    fn drop_coming(&mut self, object: &str) {
        if let Some((_, came)) = self.coming.remove(object) {
            self.bytes -= came.len();
        }
    }

    /// A picture came from the store, or why not.
    pub fn fetched(
        &mut self,
        session: SessionId,
        object: &str,
        result: Result<Vec<u8>, String>,
        now: Duration,
    ) -> Vec<Deed> {
        let Some(guest) = self.sessions.get_mut(&session) else {
            return Vec::new();
        };
        let Some(ToWorker::Picture(given)) = guest.waiting.front() else {
            return Vec::new();
        };
        if given.object != object || !guest.fetching {
            return Vec::new();
        }
        guest.fetching = false;
        let given = given.clone();
        guest.waiting.pop_front();
        guest.since = now;
        let side = given.side;
        let first = match result {
            Ok(came) if came.len() == Pixels::bytes(side) => Deed::Ask(picture(given, came)),
            Ok(came) => gone(
                guest,
                &given,
                format!("{} bytes are no square of {side} pixels", came.len()),
            ),
            Err(why) => gone(guest, &given, why),
        };
        self.drop_coming(object);
        let mut deeds = vec![first];
        deeds.extend(self.advance(session, now));
        deeds
    }

    /// Looks who waits too long, and which gateways are gone.
    pub fn tick(&mut self, now: Duration) -> Vec<Deed> {
        let waiting = self
            .sessions
            .iter()
            .filter(|(_, it)| !it.waiting.is_empty());
        let waiting: Vec<SessionId> = waiting.map(|(id, _)| *id).collect();
        let mut deeds: Vec<Deed> = waiting
            .into_iter()
            .flat_map(|id| self.advance(id, now))
            .collect();
        let silent = |heard: &Duration| now.saturating_sub(*heard) >= SILENCE;
        let gone: Vec<String> = self
            .gateways
            .iter()
            .filter(|(_, it)| silent(it))
            .map(|(id, _)| id.clone())
            .collect();
        for gateway in gone {
            self.gateways.remove(&gateway);
            let left = self
                .sessions
                .iter_mut()
                .filter(|(_, it)| it.gateway == gateway && !it.ending);
            for (&session, guest) in left {
                guest.ending = true;
                guest.waiting.clear();
                deeds.push(Deed::Ask(Command::EndSession { session }));
            }
        }
        deeds
    }

    /// What the engine tells a session.
    pub fn report(&mut self, session: SessionId, event: Event) -> Option<Deed> {
        let guest = self.sessions.get(&session)?;
        let gateway = guest.gateway.clone();
        if event == Event::Freed(Freed::Session) && guest.ending {
            self.sessions.remove(&session);
        }
        let report = Report::Session { session, event };
        Some(Deed::Tell { gateway, report })
    }
}

fn picture(given: Given, came: Vec<u8>) -> Command {
    Command::Picture(Picture {
        asker: given.asker,
        key: given.key,
        pixels: Pixels::new(given.side, came),
        system: given.system,
        secret: given.secret,
        traceparent: given.traceparent,
    })
}

fn gone(guest: &Guest, given: &Given, why: String) -> Deed {
    let message = "The picture was lost with the worker that had it: send it again.";
    let failure = Failure::new(ErrorCode::ImageGone, message).detail(why);
    Deed::Tell {
        gateway: guest.gateway.clone(),
        report: Report::Session {
            session: given.asker.session,
            event: Event::PictureFailed {
                key: given.key,
                failure,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Asker, PictureKey, Presence};

    const NOW: Duration = Duration::ZERO;
    const SESSION: SessionId = SessionId::new(7);

    fn given(straight: bool) -> ToWorker {
        ToWorker::Picture(Given {
            asker: Asker {
                client: 1,
                session: SESSION,
            },
            key: PictureKey {
                session: None,
                sha256: [0; 32],
            },
            system: String::new(),
            secret: None,
            side: 2,
            object: object(),
            straight,
            traceparent: None,
        })
    }

    fn object() -> String {
        format!("g.{SESSION}.00")
    }

    fn here() -> ToWorker {
        ToWorker::Command(Command::Presence {
            session: SESSION,
            presence: Presence::Here,
        })
    }

    fn kinds(deeds: &[Deed]) -> Vec<&'static str> {
        let kind = |deed: &Deed| match deed {
            Deed::Ask(Command::Picture(_)) => "picture",
            Deed::Ask(Command::EndSession { .. }) => "end",
            Deed::Ask(_) => "command",
            Deed::Fetch { .. } => "fetch",
            Deed::Tell { .. } => "tell",
        };
        deeds.iter().map(kind).collect()
    }

    #[test]
    fn what_follows_a_picture_waits_until_that_is_whole() {
        let mut desk = Desk::default();
        assert!(desk.take("g", given(true), NOW).is_empty());
        assert!(desk.take("g", here(), NOW).is_empty());
        assert!(desk.piece(&object(), 0, &[1; 6], NOW).is_empty());
        assert_eq!(
            kinds(&desk.piece(&object(), 6, &[2; 6], NOW)),
            ["picture", "command"]
        );
        assert_eq!(desk.bytes, 0);
        // Nor does it matter which comes first.
        desk.piece(&object(), 0, &[1; 12], NOW);
        assert_eq!(kinds(&desk.take("g", given(true), NOW)), ["picture"]);
    }

    #[test]
    fn pixels_that_do_not_come_are_taken_from_the_store() {
        let mut desk = Desk::default();
        desk.take("g", given(true), NOW);
        desk.piece(&object(), 0, &[1; 6], NOW);
        // A piece is lost.
        desk.piece(&object(), 9, &[1; 3], NOW);
        assert!(desk.tick(ON_THE_WAY / 2).is_empty());
        assert_eq!(kinds(&desk.tick(ON_THE_WAY)), ["fetch"]);
        assert!(desk.tick(ON_THE_WAY).is_empty());
        assert_eq!(
            kinds(&desk.fetched(SESSION, &object(), Ok(vec![1; 12]), NOW)),
            ["picture"]
        );
        // And at once where nothing is on its way; where there is none, its session hears so.
        assert_eq!(kinds(&desk.take("g", given(false), NOW)), ["fetch"]);
        desk.take("g", here(), NOW);
        assert_eq!(
            kinds(&desk.fetched(SESSION, &object(), Err("none".into()), NOW)),
            ["tell", "command"]
        );
    }

    #[test]
    fn a_session_that_comes_back_before_its_end_was_heard_stays() {
        let mut desk = Desk::default();
        desk.take("g", here(), NOW);
        desk.take(
            "g",
            ToWorker::Command(Command::EndSession { session: SESSION }),
            NOW,
        );
        desk.take("g", here(), NOW);
        assert!(desk.report(SESSION, Event::Freed(Freed::Session)).is_some());
        assert_eq!(desk.sessions(), 1);
        desk.take(
            "g",
            ToWorker::Command(Command::EndSession { session: SESSION }),
            NOW,
        );
        desk.report(SESSION, Event::Freed(Freed::Session));
        assert!(desk.sessions.is_empty());
    }

    #[test]
    fn a_session_is_the_gateways_that_took_it_last() {
        let mut desk = Desk::default();
        let taken = |epoch| ToWorker::Taken {
            session: SESSION,
            epoch,
        };
        let end = || ToWorker::Command(Command::EndSession { session: SESSION });
        let told = |desk: &mut Desk| match desk.report(SESSION, Event::Freed(Freed::Session)) {
            Some(Deed::Tell { gateway, .. }) => gateway,
            other => panic!("nobody is told, but {other:?}"),
        };
        assert_eq!(kinds(&desk.take("g", here(), NOW)), ["command"]);
        assert!(desk.take("h", taken(5), NOW).is_empty());
        // The first one does not know it yet, and a claim of before comes late.
        assert!(desk.take("g", end(), NOW).is_empty());
        assert!(desk.take("i", taken(4), NOW).is_empty());
        assert_eq!(told(&mut desk), "h");
        assert_eq!(kinds(&desk.take("h", here(), NOW)), ["command"]);
        assert!(desk.take("g", taken(6), NOW).is_empty());
        assert_eq!(told(&mut desk), "g");
        assert_eq!(desk.sessions(), 1);
    }

    #[test]
    fn a_gateway_that_is_gone_leaves_nothing() {
        let mut desk = Desk::default();
        desk.take("g", here(), NOW);
        desk.gateway("h", SILENCE / 2);
        assert!(desk.tick(SILENCE / 2).is_empty());
        assert_eq!(kinds(&desk.tick(SILENCE)), ["end"]);
        assert_eq!(desk.sessions(), 0);
    }
}
