//! What waits to be sent, and what was sent but may have to be sent again.
//!
//! Every event is numbered when it happens, whether or not anyone is connected. It is kept until the client
//! acknowledges it, within `replay_bytes`; what falls out of that can no longer be replayed, and a resume from before
//! it is a gap.

use std::collections::VecDeque;
use std::time::Instant;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use wire::{ServerEnvelope, ServerMessage};

/// What an item costs beside its text, allocations included.
const OVERHEAD: usize = 128;

struct Item {
    /// `None` for what speaks of this connection only: it is not replayed.
    event: Option<u64>,
    text: ByteString,
}

impl Item {
    fn cost(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// One session's outgoing messages, in order.
pub struct Outbox {
    start: Instant,
    /// Milliseconds from the session's start to [`Outbox::start`].
    before: f64,
    /// What messages have as their time: that of the change that they tell of.
    now: f64,
    /// The newest event that may be sent; all, where nothing is kept elsewhere.
    released: Option<u64>,
    outbox_bytes: usize,
    replay_bytes: usize,
    /// The newest event's number.
    last: u64,
    /// The newest event that can no longer be replayed; those before it neither.
    lost: u64,
    sent: VecDeque<Item>,
    sent_bytes: usize,
    unsent: VecDeque<Item>,
    unsent_bytes: usize,
    overflowed: bool,
}

/// What is kept of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptOutbox {
    /// The time of the newest message.
    now: f64,
    last: u64,
    lost: u64,
    /// Those that are not acknowledged, in order, as they are sent.
    events: Vec<(u64, String)>,
}

#[cfg(test)]
impl KeptOutbox {
    pub fn events(self) -> Vec<(u64, String)> {
        self.events
    }
}

/// Why a resume is not possible.
#[derive(Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// Events after the client's last one are no longer kept.
    Lost,
    /// The client speaks of an event that was never sent.
    Future,
}

impl Outbox {
    pub fn new(start: Instant, outbox_bytes: u64, replay_bytes: u64) -> Self {
        Outbox {
            start,
            before: 0.0,
            now: 0.0,
            released: None,
            outbox_bytes: usize::try_from(outbox_bytes).unwrap_or(usize::MAX),
            replay_bytes: usize::try_from(replay_bytes).unwrap_or(usize::MAX),
            last: 0,
            lost: 0,
            sent: VecDeque::new(),
            sent_bytes: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            overflowed: false,
        }
    }

    /// What is kept of it: all that may have to be sent again.
    pub fn kept(&self) -> KeptOutbox {
        let all = self.sent.iter().chain(&self.unsent);
        let events = all.filter_map(|item| Some((item.event?, item.text.to_string())));
        KeptOutbox {
            now: self.now,
            last: self.last,
            lost: self.lost,
            events: events.collect(),
        }
    }

    /// What was kept so many milliseconds ago. Nothing of it is sent before a client resumes it.
    pub fn restore(&mut self, kept: KeptOutbox, ago: f64) {
        self.before = kept.now + ago;
        self.now = kept.now;
        (self.last, self.lost) = (kept.last, kept.lost);
        let events = kept.events.into_iter().map(|(event, text)| Item {
            event: Some(event),
            text: text.into(),
        });
        self.sent = events.collect();
        self.sent_bytes = self.sent.iter().map(Item::cost).sum();
    }

    /// Takes all events to be sent, as far as they go, until a client resumes the session.
    pub fn await_resume(&mut self) {
        self.detach();
        self.sent.append(&mut self.unsent);
        self.sent_bytes += std::mem::take(&mut self.unsent_bytes);
    }

    /// A change begins: the time that its messages have, in milliseconds since the session's start. It never falls.
    pub fn tick(&mut self) -> f64 {
        let now = (self.before + self.start.elapsed().as_secs_f64() * 1e3) * 1e3;
        self.set_time(now.round() / 1e3);
        self.now
    }

    /// A change is told of that happened at this time.
    pub fn set_time(&mut self, now: f64) {
        self.now = self.now.max(now);
    }

    /// The newest event.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Events after this one may not be sent yet.
    pub fn release(&mut self, event: u64) {
        self.released = Some(event);
    }

    /// Queues a message, numbering it if it is an event.
    pub fn push(&mut self, message: ServerMessage) {
        if let Some(item) = self.item(message) {
            self.unsent_bytes += item.cost();
            self.unsent.push_back(item);
            self.trim();
        }
    }

    /// Queues a message before all others: the `welcome` that precedes a replay.
    pub fn push_first(&mut self, message: ServerMessage) {
        if let Some(item) = self.item(message) {
            self.unsent_bytes += item.cost();
            self.unsent.push_front(item);
        }
    }

    fn item(&mut self, message: ServerMessage) -> Option<Item> {
        let event = message.is_event().then_some(self.last + 1);
        let at = self.now;
        match serde_json::to_string(&ServerEnvelope { at, event, message }) {
            Ok(mut text) => {
                // It may be kept for long, and was written into what room there was.
                text.shrink_to_fit();
                self.last = event.unwrap_or(self.last);
                Some(Item {
                    event,
                    text: text.into(),
                })
            }
            Err(error) => {
                tracing::error!(%error, "a message could not be written as JSON");
                None
            }
        }
    }

    /// The next message for the connection; an event stays until it is acknowledged.
    pub fn pop(&mut self) -> Option<ByteString> {
        if self.is_withheld() {
            return None;
        }
        let item = self.unsent.pop_front()?;
        self.unsent_bytes -= item.cost();
        if self.unsent.is_empty() {
            // An idle session keeps no big buffer.
            self.unsent.shrink_to(16);
        }
        let text = item.text.clone();
        if item.event.is_some() {
            self.sent_bytes += item.cost();
            self.sent.push_back(item);
            self.trim();
        }
        Some(text)
    }

    /// Forgets `event` and all before it; false if there is no such event yet.
    pub fn ack(&mut self, event: u64) -> bool {
        while self
            .sent
            .front()
            .is_some_and(|item| item.event <= Some(event))
        {
            self.drop_sent();
        }
        if self.sent.is_empty() {
            self.sent.shrink_to(16);
        }
        event <= self.last
    }

    /// The connection is gone: what spoke of it alone goes with it.
    pub fn detach(&mut self) {
        self.unsent.retain(|item| item.event.is_some());
        self.unsent_bytes = self.unsent.iter().map(Item::cost).sum();
        self.overflowed = false;
    }

    /// Makes every event after `last_event` unsent again.
    pub fn resume(&mut self, last_event: u64) -> Result<(), ReplayError> {
        if last_event > self.last {
            return Err(ReplayError::Future);
        }
        if last_event < self.lost {
            return Err(ReplayError::Lost);
        }
        self.ack(last_event);
        self.detach();
        while let Some(item) = self.sent.pop_back() {
            self.unsent_bytes += item.cost();
            self.unsent.push_front(item);
        }
        self.sent_bytes = 0;
        Ok(())
    }

    /// Drops the oldest sent event; false if there is none.
    fn drop_sent(&mut self) -> bool {
        let Some(item) = self.sent.pop_front() else {
            return false;
        };
        self.sent_bytes -= item.cost();
        self.lost = item.event.unwrap_or(self.lost);
        true
    }

    /// Keeps within `replay_bytes`, dropping the oldest events.
    fn trim(&mut self) {
        self.trim_to(self.replay_bytes);
    }

    fn trim_to(&mut self, most: usize) {
        while self.sent_bytes + self.unsent_bytes > most {
            if self.drop_sent() {
                continue;
            }
            if let Some(item) = self.unsent.pop_front() {
                // The connection would show a hole: it has to end.
                self.unsent_bytes -= item.cost();
                self.lost = item.event.unwrap_or(self.lost);
                self.overflowed = true;
            } else {
                break;
            }
        }
    }

    /// Forgets what was sent: a resume needs to have seen all of it. Of a client that does not read, what is unsent goes
    /// too, and with it the connection.
    pub fn shed_memory(&mut self) {
        while self.drop_sent() {}
        self.sent.shrink_to(16);
        if self.full() {
            self.trim_to(0);
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.sent_bytes + self.unsent_bytes
    }

    /// More than `outbox_bytes` wait to be sent.
    pub fn full(&self) -> bool {
        self.unsent_bytes > self.outbox_bytes
    }

    /// Unsent events had to be dropped: this connection can't go on.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub fn is_empty(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether what comes next may not be sent yet.
    pub fn is_withheld(&self) -> bool {
        let Some(next) = self.unsent.front() else {
            return false;
        };
        self.released.is_some() && next.event > self.released
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Pong, Started};

    fn started(request: &str) -> ServerMessage {
        ServerMessage::Started(Started {
            request: request.into(),
        })
    }

    fn outbox() -> Outbox {
        Outbox::new(Instant::now(), 1000, 2000)
    }

    fn events(outbox: &mut Outbox) -> Vec<Option<u64>> {
        std::iter::from_fn(|| outbox.pop())
            .map(|text| serde_json::from_str::<ServerEnvelope>(&text).unwrap().event)
            .collect()
    }

    #[test]
    fn events_are_numbered_and_replayed_once_in_order() {
        let mut out = outbox();
        out.push(started("a"));
        out.push(ServerMessage::Pong(Pong::default()));
        out.push(started("b"));
        assert_eq!(events(&mut out), [Some(1), None, Some(2)]);
        out.push(started("c"));
        out.push(ServerMessage::Pong(Pong::default()));
        out.detach();
        out.resume(1).unwrap();
        out.push_first(ServerMessage::Pong(Pong::default()));
        out.push(started("d"));
        assert_eq!(events(&mut out), [None, Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn acknowledged_events_are_gone() {
        let mut out = outbox();
        for _ in 0..3 {
            out.push(started("a"));
        }
        events(&mut out);
        assert!(out.ack(2));
        assert_eq!(out.resume(1), Err(ReplayError::Lost));
        assert_eq!(out.resume(4), Err(ReplayError::Future));
        assert!(!out.ack(9));
    }

    #[test]
    fn kept_events_stay_within_their_bound() {
        let mut out = outbox();
        for _ in 0..100 {
            out.push(started("a"));
            out.pop();
        }
        assert!(out.sent_bytes <= 2000 && out.sent.len() > 5);
        assert!(!out.overflowed());
        let first = out.lost;
        assert_eq!(out.resume(first - 1), Err(ReplayError::Lost));
        out.resume(first).unwrap();
        assert_eq!(events(&mut out).first(), Some(&Some(first + 1)));
    }

    #[test]
    fn a_reader_that_never_reads_is_noticed_before_memory_grows() {
        let mut out = outbox();
        while !out.full() {
            out.push(started("a"));
        }
        assert!(!out.overflowed());
        for _ in 0..100 {
            out.push(started("a"));
        }
        assert!(out.overflowed());
        assert!(out.unsent_bytes <= 2000);
    }
}
