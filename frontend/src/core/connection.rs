//! The connection: opens, greets, comes back after a loss and goes on where it was. The session's id lives in this page's
//! memory, and with the tab only between two pages of it, so that two tabs never fight over one.

use wire::{
    Ack, ClientMessage, Failure, Hello, Ping, Resume, ServerEnvelope, ServerMessage, Welcome, close,
};

use super::{
    clock::Clock,
    effect::{Effect, Effects, Timer},
    input::Now,
    watched::Watched,
};
use crate::i18n::{Lang, T};

/// A lost connection is tried again after this, doubled each time.
const FIRST_RETRY_MS: f64 = 250.0;
const LAST_RETRY_MS: f64 = 5_000.0;
/// A connection that is not greeted by then is given up.
const GREETING_MS: f64 = 10_000.0;
/// How often the clocks are joined and the connection is proven alive.
const PING_EVERY_MS: f64 = 4_000.0;
/// Nothing heard for so long after a ping: the connection is dead, whatever the browser says. With the time between pings that
/// is less than ten seconds.
const SILENCE_MS: f64 = 4_500.0;
/// A timer that is later than this tells that the page itself stood still.
const LATE_MS: f64 = 1_000.0;
/// Two more pings soon after the greeting, so that the clocks are joined well before the first answer.
const FIRST_PINGS_MS: [f64; 2] = [300.0, 900.0];
/// The same after sleep or a change of network.
const PONG_WITHIN_MS: f64 = 2_000.0;
/// Events are acknowledged at the latest after this many.
const ACK_EVERY: u64 = 64;

/// How far a session was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// Counts the page's sessions.
    session: u64,
    event: u64,
}

/// How the connection stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Link {
    /// The first connection is on its way.
    #[default]
    Connecting,
    Online,
    /// Lost; the next try is on its way or due.
    Lost,
    /// The server asks for a key; `true`: the one given was wrong.
    NeedsKey(bool),
    /// The server refused for now and said why, and until when (page's clock, milliseconds).
    Refused {
        why: String,
        until: f64,
    },
    /// The socket never opened, and this is why: who runs the server or the proxy before it has to let the page in.
    Barred(String),
    /// Another tab took the session over.
    TakenOver,
    /// The server speaks another protocol: the page is out of date.
    Outdated,
}

/// What a greeting brings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Come {
    /// The first session of this page.
    First,
    /// A second greeting on the same connection.
    Twice,
    /// The session goes on.
    Resumed,
    /// The old session is gone; what it held must be sent anew.
    Anew,
}

#[derive(Debug, Default)]
pub struct Connection {
    pub link: Watched<Link>,
    /// The server's clock beside ours.
    pub clock: Clock,
    /// Counts connections: what belongs to an older one is ignored.
    generation: u64,
    session: Option<String>,
    heard: Heard,
    acked: u64,
    /// What was heard should be acknowledged, once it is kept.
    ack_due: bool,
    /// The greeting is still to come, and has its time.
    pending: bool,
    /// The `welcome` that answers our `hello` with a resume is still to come.
    awaiting: bool,
    /// The socket is open: it was not refused.
    opened: bool,
    greeted: bool,
    attempts: i32,
    /// Not before this (page's clock) the server wants to see us again.
    not_before: f64,
    last_heard: f64,
    /// When the last tick came.
    ticked: f64,
    key: Option<String>,
    /// What this session is to be told and could not be.
    owed: Vec<ClientMessage>,
}

impl Connection {
    /// Opens the first connection and keeps watch from then on.
    pub fn begin(&mut self, key: Option<String>, now: &Now, out: &mut Effects) {
        self.key = key;
        self.ticked = now.ms;
        self.open(out);
        out.after(PING_EVERY_MS, Timer::Tick);
    }

    /// Whether messages can be sent.
    pub fn online(&self) -> bool {
        self.greeted
    }

    /// Whether `generation` is the connection that there is now.
    pub fn is(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Sends a message that is out of date on the next connection; without one it is let go.
    pub fn send(&self, message: ClientMessage, out: &mut Effects) {
        if self.greeted {
            out.send(message);
        }
    }

    /// Sends a message that its session should get, be it after a resume.
    pub fn send_or_owe(&mut self, message: ClientMessage, out: &mut Effects) {
        if self.greeted {
            out.send(message);
        } else if self.session.is_some() {
            self.owed.push(message);
        }
    }

    /// Tries with this key from now on.
    pub fn use_key(&mut self, key: String, out: &mut Effects) {
        out.push(Effect::RememberKey(key.clone()));
        self.key = Some(key);
        self.not_before = 0.0;
        self.link.set(Link::Connecting);
        self.open(out);
    }

    /// Connects again at once, whatever was before.
    pub fn again(&mut self, out: &mut Effects) {
        self.attempts = 0;
        self.not_before = 0.0;
        self.link.set(Link::Lost);
        self.open(out);
    }

    /// The page is left. Where its session does not go on, that frees the server at once.
    pub fn leave(&mut self, goes_on: bool, out: &mut Effects) {
        self.greeted = false;
        out.push(Effect::Leave { goes_on });
    }

    /// The session, and the last event that was heard of it.
    pub fn session(&self) -> Option<(String, u64)> {
        let session = self.session.clone()?;
        Some((session, self.heard.event))
    }

    /// Goes on with a session of the page before.
    pub fn go_on(&mut self, session: String, event: u64) {
        self.session = Some(session);
        self.heard.event = event;
        self.acked = event;
    }

    fn open(&mut self, out: &mut Effects) {
        self.generation += 1;
        (self.opened, self.greeted, self.pending) = (false, false, true);
        let generation = self.generation;
        out.push(Effect::Open { generation });
        out.after(GREETING_MS, Timer::Greeting(generation));
    }

    /// The socket is open: says hello.
    pub fn opened(&mut self, out: &mut Effects) {
        self.opened = true;
        self.awaiting = self.session.is_some();
        let resume = self.session.clone().map(|session| Resume {
            session,
            last_event: self.heard.event,
        });
        out.send(ClientMessage::Hello(Hello {
            token: self.key.clone(),
            resume,
        }));
    }

    /// The socket has ended, or is given up.
    pub fn lost(&mut self, code: Option<u16>, now: &Now, out: &mut Effects) {
        (self.greeted, self.pending) = (false, false);
        self.attempts += 1;
        match code {
            Some(close::UNAUTHORIZED) => {
                return self.link.set(Link::NeedsKey(self.key.is_some()));
            }
            Some(close::TAKEN_OVER) => return self.link.set(Link::TakenOver),
            _ => {}
        }
        match *self.link {
            Link::Outdated => return,
            Link::Refused { .. } | Link::Barred(_) => {}
            // One that fails at first may be no more than a page that was quicker than its network.
            Link::Connecting if self.attempts < 2 => {}
            _ => self.link.set(Link::Lost),
        }
        let generation = self.generation;
        // What once let us in does not bar us later.
        if !self.opened && self.session.is_none() {
            out.push(Effect::AskWhy { generation });
        }
        let backoff = (FIRST_RETRY_MS * 2f64.powi(self.attempts - 1)).min(LAST_RETRY_MS);
        let jitter = 0.75 + now.random / 2.0;
        let wait = (backoff * jitter).max(self.not_before - now.ms);
        out.after(wait, Timer::Retry(generation));
    }

    /// Why the socket does not open: a POST names the page that it comes from as the socket's request did, so it is
    /// refused alike, and its refusal can be read.
    pub fn barred(&mut self, status: u16, why: Option<String>, lang: Lang) {
        let why = match status {
            403 => why,
            // A proxy whose server is away.
            500.. => None,
            _ => Some(T::NoSocket.in_language(lang).to_owned()),
        };
        if let Some(why) = why {
            self.link.set(Link::Barred(why));
        }
    }

    /// The server wants to see nobody for a while.
    pub fn delayed(&mut self, failure: &Failure, now: &Now) {
        if let Some(wait) = failure.retry_after_ms {
            self.not_before = now.ms + wait;
        }
    }

    /// The server takes nobody now; `why` in the person's words.
    pub fn refused(&mut self, why: String, failure: &Failure, now: &Now) {
        self.link.set(Link::Refused {
            why,
            until: now.ms + failure.retry_after_ms.unwrap_or_default(),
        });
    }

    /// Takes in what the server said, heard at `when`; what of it is news to the page.
    pub fn hear(
        &mut self,
        envelope: ServerEnvelope,
        when: f64,
        now: &Now,
    ) -> Option<ServerMessage> {
        self.last_heard = now.ms;
        let fresh = match (&envelope.message, envelope.event) {
            // What an unresumed session says before the resumed one answers is not for us.
            (message, _) if self.awaiting => {
                matches!(message, ServerMessage::Welcome(_) | ServerMessage::Error(_))
            }
            (_, Some(event)) if event <= self.heard.event => false,
            (_, Some(event)) => {
                self.heard.event = event;
                true
            }
            _ => true,
        };
        match envelope.message {
            ServerMessage::Pong(pong) if fresh => {
                if let Some(sent) = pong.t.as_ref().and_then(|t| t.as_f64()) {
                    self.clock.sample(sent, when.max(sent), envelope.at);
                }
                None
            }
            message => fresh.then_some(message),
        }
    }

    /// The server greets; what comes with that, if it is for us.
    pub fn welcomed(&mut self, welcome: &Welcome, now: &Now, out: &mut Effects) -> Option<Come> {
        if welcome.protocol != wire::PROTOCOL {
            self.link.set(Link::Outdated);
            return None;
        }
        if self.awaiting && welcome.resumed.is_none() {
            return None;
        }
        self.awaiting = false;
        let come = match (self.greeted, welcome.resumed, &self.session) {
            (true, _, _) => Come::Twice,
            (_, Some(true), _) => Come::Resumed,
            (_, _, Some(_)) => Come::Anew,
            (_, _, None) => Come::First,
        };
        let owed = std::mem::take(&mut self.owed);
        if come == Come::Resumed {
            owed.into_iter().for_each(|message| out.send(message));
        } else {
            self.heard = Heard {
                session: self.heard.session + 1,
                event: 0,
            };
            (self.acked, self.ack_due) = (0, false);
            self.clock.clear();
        }
        self.session = Some(welcome.session.clone());
        (self.greeted, self.pending) = (true, false);
        self.attempts = 0;
        self.not_before = 0.0;
        self.link.set(Link::Online);
        self.ping(now, out);
        if come != Come::Twice {
            for ms in FIRST_PINGS_MS {
                out.after(ms, Timer::Ping);
            }
        }
        Some(come)
    }

    /// How far the session was heard.
    pub fn heard(&self) -> Heard {
        self.heard
    }

    /// Whether what was heard is to be kept now, since the server waits for that; an answer may have `ended`.
    pub fn due(&mut self, ended: bool) -> bool {
        let unacked = self.heard.event - self.acked;
        let due = unacked >= ACK_EVERY || ended && unacked > 0;
        due && !std::mem::replace(&mut self.ack_due, true)
    }

    /// What was heard up to here is kept, or never will be: the server need not keep it for a resume any more.
    pub fn stored(&mut self, heard: Heard, out: &mut Effects) {
        let news = heard.session == self.heard.session && heard.event > self.acked;
        if self.greeted && self.ack_due && news {
            (self.acked, self.ack_due) = (heard.event, false);
            let event = heard.event;
            out.send(ClientMessage::Ack(Ack { event }));
        }
    }

    pub fn ping(&self, now: &Now, out: &mut Effects) {
        let t = Some(now.ms.into());
        self.send(ClientMessage::Ping(Ping { t }), out);
    }

    /// Every so often: proves that the connection is alive, or finds out that the machine has slept.
    pub fn tick(&mut self, now: &Now, out: &mut Effects) {
        let slept = now.ms - self.ticked > 2.0 * PING_EVERY_MS;
        self.ticked = now.ms;
        out.after(PING_EVERY_MS, Timer::Tick);
        if slept {
            self.probe(now, out);
        } else {
            self.ask_within(SILENCE_MS, now, out);
        }
    }

    /// Pings, and expects to hear something soon.
    fn ask_within(&mut self, ms: f64, now: &Now, out: &mut Effects) {
        if self.greeted {
            self.ping(now, out);
            let pong = Timer::Pong {
                generation: self.generation,
                asked: now.ms,
                due: now.ms + ms,
            };
            out.after(ms, pong);
        }
    }

    /// Is the connection alive? After sleep or a change of network a dead one may look open for minutes.
    pub fn probe(&mut self, now: &Now, out: &mut Effects) {
        if self.greeted {
            self.ask_within(PONG_WITHIN_MS, now, out);
        } else if matches!(*self.link, Link::Connecting | Link::Lost) {
            self.attempts = 0;
            self.open(out);
        }
    }

    /// The greeting should be there by now.
    pub fn greeting_due(&mut self, generation: u64, now: &Now, out: &mut Effects) {
        if self.is(generation) && self.pending {
            self.lost(None, now, out);
        }
    }

    /// Connects again: the wait before the next try is over.
    pub fn retry(&mut self, generation: u64, out: &mut Effects) {
        if self.is(generation) {
            self.open(out);
        }
    }

    /// Since the ping that was sent at `asked`, something should have been heard by now.
    pub fn pong_due(
        &mut self,
        generation: u64,
        asked: f64,
        due: f64,
        now: &Now,
        out: &mut Effects,
    ) {
        if !self.is(generation) || !self.greeted || self.last_heard >= asked {
            return;
        }
        if now.ms > due + LATE_MS {
            return self.probe(now, out);
        }
        self.link.set(Link::Lost);
        self.open(out);
    }
}
