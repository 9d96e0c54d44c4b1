//! A file's bytes on their way: which are read ahead, which may be sent, and where it goes on after a cut.

use std::collections::VecDeque;

use wire::frame;

use super::effect::{Effect, Effects, Timer};

/// The most that may wait in the browser's own buffer.
const BUFFERED: u32 = 256 * 1024;
/// Pieces read ahead of sending.
const READ_AHEAD: usize = 8;
/// How long to wait for the browser's buffer to drain.
const DRAIN_MS: f64 = 5.0;
/// The speed is measured over no less time than this.
const MEASURE_MS: f64 = 80.0;

/// The connection, as far as an upload goes by it.
#[derive(Clone, Copy)]
pub struct Line {
    pub online: bool,
    /// Bytes that may be on the way, unconfirmed.
    pub window: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// The picture that it is of.
    picture: u64,
    pub length: u64,
    /// The upload's number on the wire, once it is announced.
    pub number: Option<u32>,
    /// The hash that it was announced with.
    pub sha256: Option<String>,
    /// A smaller copy is being made; nothing is sent before.
    pub scaling: bool,
    pub finished: bool,
    /// Its rate has been judged.
    judged: bool,
    /// When the first byte left.
    pub began: Option<f64>,
    /// When and where the speed was last measured.
    pub measured: (f64, u64),
    /// What older reads answer is ignored.
    generation: u32,
    /// Offsets: asked of the worker, sent, and confirmed by the server.
    read: u64,
    sent: u64,
    confirmed: u64,
    reading: usize,
    /// The sizes of the pieces that were read and not sent.
    frames: VecDeque<u32>,
    /// No byte leaves before the server has said whether it knows the picture.
    hold: bool,
    /// The server's offset is to be taken: it was announced again.
    rewind: bool,
    /// How often it was announced on this connection without an answer so far: only the last one counts.
    unanswered: u32,
    /// The browser's buffer is waited for.
    draining: bool,
}

impl Transfer {
    pub fn new(picture: u64, length: u64, generation: u32, ms: f64) -> Self {
        Transfer {
            picture,
            length,
            number: None,
            sha256: None,
            scaling: false,
            finished: false,
            judged: false,
            began: None,
            measured: (ms, 0),
            generation,
            read: 0,
            sent: 0,
            confirmed: 0,
            reading: 0,
            frames: VecDeque::new(),
            hold: false,
            rewind: false,
            unanswered: 0,
            draining: false,
        }
    }

    /// Whether what was read for `generation` is still wanted.
    pub fn is(&self, generation: u32) -> bool {
        self.generation == generation
    }

    /// Begins under a new number. With a hash, the server may know the file already.
    pub fn announced(&mut self, number: u32, generation: u32, sha256: Option<String>, ms: f64) {
        *self = Transfer {
            number: Some(number),
            hold: sha256.is_some(),
            sha256,
            judged: self.judged,
            began: self.began,
            draining: self.draining,
            ..Transfer::new(self.picture, self.length, generation, ms)
        };
    }

    /// The connection is another one: what was not answered never will be.
    pub fn cut(&mut self) {
        self.unanswered = 0;
    }

    /// Goes on after a cut or a pause, from where the server will say.
    pub fn announced_again(&mut self, generation: u32) {
        self.generation = generation;
        self.reading = 0;
        self.frames.clear();
        self.draining = false;
        self.rewind = true;
    }

    /// The server was told of it.
    pub fn told(&mut self) {
        self.unanswered += 1;
    }

    /// The server says where it wants the next byte.
    pub fn accepted(&mut self, received: u64) {
        self.hold = false;
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 && std::mem::take(&mut self.rewind) {
            (self.read, self.sent) = (received, received);
        }
    }

    /// The server has bytes up to `received`; bytes per second, where that can be told.
    pub fn confirmed(&mut self, received: u64, ms: f64) -> Option<f64> {
        self.confirmed = self.confirmed.max(received);
        let (then, before) = self.measured;
        let (elapsed, gained) = (ms - then, received.saturating_sub(before));
        (elapsed > MEASURE_MS && gained > 0).then(|| {
            self.measured = (ms, received);
            gained as f64 / elapsed * 1e3
        })
    }

    /// Bytes that the server has not got.
    pub fn left(&self) -> u64 {
        self.length.saturating_sub(self.confirmed)
    }

    /// What is left, and the bytes per millisecond so far, when it has been on its way for `while_ms`; that is told once.
    pub fn watched(&mut self, ms: f64, while_ms: f64) -> Option<(u64, f64)> {
        let elapsed = ms - self.began?;
        if self.finished || elapsed < while_ms || std::mem::replace(&mut self.judged, true) {
            return None;
        }
        Some((self.left(), self.confirmed as f64 / elapsed))
    }

    /// Nothing more of this is sent: a copy is to go in its place.
    pub fn gives_way(&mut self) {
        *self = Transfer {
            scaling: true,
            judged: true,
            measured: self.measured,
            ..Transfer::new(self.picture, self.length, self.generation, self.measured.0)
        };
    }

    /// Nothing more is sent of it.
    pub fn finish(&mut self) {
        self.finished = true;
        self.frames.clear();
    }

    /// A piece of so many bytes was read.
    pub fn piece(&mut self, bytes: u32) {
        self.reading = self.reading.saturating_sub(1);
        self.frames.push_back(bytes);
    }

    /// The browser's buffer may have drained.
    pub fn drained(&mut self) {
        self.draining = false;
    }

    /// Reads ahead and sends what may be sent now; `buffered` is what the browser holds back. Whether the first byte left.
    pub fn pump(&mut self, line: Line, buffered: &mut u32, ms: f64, out: &mut Effects) -> bool {
        let window = line.window.max(frame::MAX_PAYLOAD as u64);
        let mut first = false;
        let Some(upload) = self.number else {
            return first;
        };
        if !line.online || self.finished || self.rewind {
            return first;
        }
        loop {
            if self.read < self.length && self.reading + self.frames.len() < READ_AHEAD {
                let end = (self.read + frame::MAX_PAYLOAD as u64).min(self.length);
                let begin = std::mem::replace(&mut self.read, end);
                self.reading += 1;
                out.push(Effect::Read {
                    generation: self.generation,
                    upload,
                    picture: self.picture,
                    begin,
                    end,
                });
                continue;
            }
            let Some(&bytes) = self.frames.front() else {
                return first;
            };
            let payload = u64::from(bytes);
            if self.hold || self.sent + payload > self.confirmed + window {
                return first;
            }
            let framed = bytes + frame::HEADER as u32;
            if buffered.saturating_add(framed) > BUFFERED {
                if !std::mem::replace(&mut self.draining, true) {
                    out.after(DRAIN_MS, Timer::Drain);
                }
                return first;
            }
            self.frames.pop_front();
            first |= self.sent == 0;
            self.began.get_or_insert(ms);
            self.sent += payload;
            *buffered += framed;
            out.push(Effect::SendFrame {
                generation: self.generation,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u32 = frame::MAX_PAYLOAD as u32;

    fn line(pieces: u64) -> Line {
        Line {
            online: true,
            window: pieces * u64::from(PIECE),
        }
    }

    /// What is read and sent of a transfer with so many pieces read.
    fn pump(transfer: &mut Transfer, line: Line, buffered: &mut u32) -> (usize, usize) {
        let mut out = Effects::default();
        transfer.pump(line, buffered, 0.0, &mut out);
        let (mut reads, mut sends) = (0, 0);
        for effect in out {
            reads += usize::from(matches!(effect, Effect::Read { .. }));
            sends += usize::from(matches!(effect, Effect::SendFrame { .. }));
        }
        (reads, sends)
    }

    fn announced(pieces: u64) -> Transfer {
        let mut transfer = Transfer::new(1, pieces * u64::from(PIECE), 1, 0.0);
        transfer.announced(1, 2, None, 0.0);
        transfer
    }

    #[test]
    fn a_few_pieces_are_read_ahead() {
        let mut transfer = announced(20);
        assert_eq!(pump(&mut transfer, line(99), &mut 0), (READ_AHEAD, 0));
        transfer.piece(PIECE);
        assert_eq!(pump(&mut transfer, line(99), &mut 0), (1, 1));
    }

    #[test]
    fn no_more_is_sent_than_the_window_and_the_browser_take() {
        let mut transfer = announced(20);
        pump(&mut transfer, line(2), &mut 0);
        (0..4).for_each(|_| transfer.piece(PIECE));
        assert_eq!(pump(&mut transfer, line(2), &mut 0).1, 2);
        assert_eq!(pump(&mut transfer, line(2), &mut 0).1, 0);
        transfer.confirmed(u64::from(PIECE), 0.0);
        let mut full = BUFFERED;
        assert_eq!(pump(&mut transfer, line(2), &mut full).1, 0);
        assert_eq!(pump(&mut transfer, line(2), &mut 0).1, 1);
    }

    #[test]
    fn a_picture_that_may_be_known_is_held_and_a_rewound_one_goes_on_where_it_should() {
        let mut transfer = announced(3);
        transfer.announced(2, 3, Some(String::new()), 0.0);
        pump(&mut transfer, line(9), &mut 0);
        transfer.piece(PIECE);
        assert_eq!(pump(&mut transfer, line(9), &mut 0), (0, 0));
        transfer.accepted(0);
        assert_eq!(pump(&mut transfer, line(9), &mut 0), (0, 1));
        transfer.announced_again(4);
        transfer.told();
        assert!(transfer.is(4) && !transfer.is(3));
        assert_eq!(pump(&mut transfer, line(9), &mut 0), (0, 0));
        transfer.accepted(2 * u64::from(PIECE));
        assert_eq!(pump(&mut transfer, line(9), &mut 0), (1, 0));
    }

    #[test]
    fn only_the_answer_to_the_last_announcement_says_where_it_goes_on() {
        let mut transfer = announced(3);
        transfer.told();
        pump(&mut transfer, line(9), &mut 0);
        (0..2).for_each(|_| transfer.piece(PIECE));
        assert_eq!(pump(&mut transfer, line(9), &mut 0).1, 2);
        transfer.announced_again(4);
        transfer.told();
        transfer.accepted(0);
        assert_eq!(pump(&mut transfer, line(9), &mut 0), (0, 0));
        transfer.accepted(2 * u64::from(PIECE));
        assert_eq!(pump(&mut transfer, line(9), &mut 0), (1, 0));
    }

    #[test]
    fn the_speed_is_measured_over_a_while() {
        let mut transfer = announced(3);
        assert_eq!(transfer.confirmed(1_000, 50.0), None);
        assert_eq!(transfer.confirmed(2_000, 100.0), Some(20_000.0));
        assert_eq!(transfer.confirmed(2_000, 900.0), None);
    }
}
