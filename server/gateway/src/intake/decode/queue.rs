//! Which picture is decoded next, and within what bounds. Plain data: [`super::Decoders`] does what this decides.

use std::collections::VecDeque;

use api::Asker;
use policy::FairQueue;

/// A picture: whose, and which of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobId {
    pub asker: Asker,
    pub image: String,
}

/// What waits, what runs, and the memory that runs.
pub struct DecodeQueue<Job> {
    waiting: FairQueue<(JobId, Job)>,
    running: Vec<Running>,
    /// Bytes.
    memory: u64,
    in_use: u64,
    /// Running ones that wait for so many bytes, in the order in which they asked.
    short: VecDeque<(u64, u64)>,
    /// The most that one client has running, …
    each: usize,
    /// … and the most memory of these: a quarter is left for others' pictures.
    memory_each: u64,
    numbers: u64,
}

struct Running {
    number: u64,
    name: JobId,
    memory: u64,
}

/// How a picture that runs stands with the memory that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Granted,
    /// Others have it now.
    Wait,
    /// There is not so much, whoever gives way.
    Never,
}

impl<Job> DecodeQueue<Job> {
    /// `decoders`: how many run at once. A client alone has one fewer, so that another's picture finds one free.
    pub fn new(decoders: usize, memory: u64) -> Self {
        DecodeQueue {
            waiting: FairQueue::default(),
            running: Vec::new(),
            memory,
            in_use: 0,
            short: VecDeque::new(),
            each: decoders.saturating_sub(1).max(1),
            memory_each: each_of(memory),
            numbers: 0,
        }
    }

    pub fn push(&mut self, name: JobId, job: Job) {
        self.waiting.push(name.asker, (name, job));
    }

    /// Starts the next in turn; its number stands for it until [`Self::end`].
    pub fn start(&mut self) -> Option<(u64, JobId, Job)> {
        let (running, each) = (&self.running, self.each);
        let of = |client| {
            let same = running.iter().filter(|r| r.name.asker.client == client);
            same.count()
        };
        let (name, job) = self.waiting.pop(|(name, _)| of(name.asker.client) < each)?;
        self.numbers += 1;
        self.running.push(Running {
            number: self.numbers,
            name: name.clone(),
            memory: 0,
        });
        Some((self.numbers, name, job))
    }

    /// One that runs needs so many bytes. Whose client has least gets them first, then who asked first: so that a large
    /// picture is not passed by small ones for ever, nor anybody by one client's many.
    pub fn ask_memory(&mut self, number: u64, bytes: u64) -> Memory {
        if bytes > self.memory_each {
            return Memory::Never;
        }
        if self.short.iter().all(|(waiting, _)| *waiting != number) {
            self.short.push_back((number, bytes));
        }
        let may = self.short.iter().filter(|(waiting, bytes)| {
            // What its own client has is in nobody else's way.
            self.granted(*waiting) + bytes <= self.memory_each
        });
        let first = may.min_by_key(|(waiting, _)| self.granted(*waiting));
        if first.is_none_or(|(first, _)| *first != number) || self.in_use + bytes > self.memory {
            return Memory::Wait;
        }
        self.short.retain(|(waiting, _)| *waiting != number);
        if let Some(running) = self.running.iter_mut().find(|r| r.number == number) {
            running.memory = bytes;
            self.in_use += bytes;
        }
        Memory::Granted
    }

    /// Memory that all of its client's have together.
    fn granted(&self, number: u64) -> u64 {
        let client = |r: &Running| r.name.asker.client;
        let mine = self.running.iter().find(|r| r.number == number);
        let of = self
            .running
            .iter()
            .filter(|r| mine.map(client) == Some(client(r)));
        of.map(|r| r.memory).sum()
    }

    /// One that runs needs no memory any more.
    pub fn free(&mut self, number: u64) {
        if let Some(running) = self.running.iter_mut().find(|r| r.number == number) {
            self.in_use -= std::mem::take(&mut running.memory);
        }
    }

    /// One that ran is over, however it ended.
    pub fn end(&mut self, number: u64) {
        self.short.retain(|(waiting, _)| *waiting != number);
        if let Some(at) = self.running.iter().position(|r| r.number == number) {
            self.in_use -= self.running.swap_remove(at).memory;
        }
    }

    /// Takes out what waits of those that are `gone`, and tells the numbers of those that run.
    pub fn take(&mut self, gone: impl Fn(&JobId) -> bool) -> (Vec<(JobId, Job)>, Vec<u64>) {
        let waited = self.waiting.take_where(|(name, _)| gone(name));
        let run = self.running.iter().filter(|r| gone(&r.name));
        let run = run.map(|r| r.number).collect();
        (waited, run)
    }

    /// How many wait, how many run, and the memory that these have, in bytes.
    pub fn load(&self) -> (usize, usize, u64) {
        (self.waiting.len(), self.running.len(), self.in_use)
    }
}

/// The bytes that one client may have of `memory` bytes for decoding.
pub fn each_of(memory: u64) -> u64 {
    memory - memory / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::SessionId;

    fn name(client: u128, session: u128, image: &str) -> JobId {
        let session = SessionId::new(session);
        JobId {
            asker: Asker { client, session },
            image: image.into(),
        }
    }

    #[test]
    fn one_client_never_has_all_decoders() {
        let mut line = DecodeQueue::new(3, 100);
        for image in ["a", "b", "c", "d"] {
            line.push(name(1, 1, image), ());
        }
        let first = line.start().unwrap();
        assert_eq!(line.start().unwrap().1.image, "b");
        assert!(line.start().is_none());
        line.push(name(2, 2, "other"), ());
        assert_eq!(line.start().unwrap().1.image, "other");
        line.end(first.0);
        assert_eq!(line.start().unwrap().1.image, "c");
        assert_eq!(line.load(), (1, 3, 0));
    }

    #[test]
    fn a_single_decoder_serves_everyone_in_turn() {
        let mut line = DecodeQueue::new(1, 100);
        for (client, image) in [(1, "a"), (1, "b"), (2, "c")] {
            line.push(name(client, client, image), ());
        }
        let mut order = vec![];
        while let Some((number, name, ())) = line.start() {
            order.push(name.image);
            line.end(number);
        }
        assert_eq!(order, ["a", "c", "b"]);
    }

    #[test]
    fn memory_together_is_bounded_and_given_in_order() {
        let mut line = DecodeQueue::new(4, 100);
        for client in 1..=4 {
            line.push(name(client, client, "x"), ());
        }
        let numbers: Vec<u64> = (0..4).map(|_| line.start().unwrap().0).collect();
        assert_eq!(line.ask_memory(numbers[0], 60), Memory::Granted);
        assert_eq!(line.ask_memory(numbers[1], 101), Memory::Never);
        assert_eq!(line.ask_memory(numbers[1], 60), Memory::Wait);
        // It would fit, but another was first.
        assert_eq!(line.ask_memory(numbers[2], 30), Memory::Wait);
        line.end(numbers[0]);
        assert_eq!(line.ask_memory(numbers[2], 30), Memory::Wait);
        assert_eq!(line.ask_memory(numbers[1], 60), Memory::Granted);
        assert_eq!(line.ask_memory(numbers[2], 30), Memory::Granted);
        assert_eq!(line.load(), (0, 3, 90));
        // Whoever goes while it waits is in nobody's way.
        assert_eq!(line.ask_memory(numbers[3], 75), Memory::Wait);
        line.end(numbers[3]);
        line.end(numbers[1]);
        line.end(numbers[2]);
        assert_eq!(line.load(), (0, 0, 0));
    }

    #[test]
    fn whose_client_has_least_memory_gets_some_first() {
        let mut line = DecodeQueue::new(4, 100);
        for (client, image) in [(1, "a"), (1, "b"), (1, "c"), (2, "d")] {
            line.push(name(client, client, image), ());
        }
        let numbers: Vec<u64> = (0..4).map(|_| line.start().unwrap().0).collect();
        // Turns: a, d, b, c.
        assert_eq!(line.ask_memory(numbers[0], 70), Memory::Granted);
        assert_eq!(line.ask_memory(numbers[2], 70), Memory::Wait);
        assert_eq!(line.ask_memory(numbers[3], 5), Memory::Granted);
        assert_eq!(line.ask_memory(numbers[1], 70), Memory::Wait);
        line.free(numbers[0]);
        // The first client's still has five.
        assert_eq!(line.ask_memory(numbers[2], 70), Memory::Wait);
        assert_eq!(line.ask_memory(numbers[1], 70), Memory::Granted);
        assert_eq!(line.load().2, 75);
    }

    #[test]
    fn one_client_never_has_all_memory() {
        let mut line = DecodeQueue::new(4, 100);
        for (client, image) in [(1, "a"), (1, "b"), (2, "c")] {
            line.push(name(client, client, image), ());
        }
        let numbers: Vec<u64> = (0..3).map(|_| line.start().unwrap().0).collect();
        // Turns: a, c, b.
        assert_eq!(line.ask_memory(numbers[0], 76), Memory::Never);
        assert_eq!(line.ask_memory(numbers[0], 70), Memory::Granted);
        assert_eq!(line.ask_memory(numbers[2], 10), Memory::Wait);
        assert_eq!(line.ask_memory(numbers[1], 30), Memory::Granted);
        line.end(numbers[0]);
        assert_eq!(line.ask_memory(numbers[2], 10), Memory::Granted);
    }

    #[test]
    fn what_is_forgotten_leaves() {
        let mut line = DecodeQueue::new(2, 100);
        for (session, image) in [(1, "a"), (1, "b"), (2, "c")] {
            line.push(name(7, session, image), ());
        }
        let (number, ..) = line.start().unwrap();
        let (waited, ran) = line.take(|name| name.asker.session == SessionId::new(1));
        assert_eq!(waited[0].0.image, "b");
        assert_eq!(ran, [number]);
        line.end(number);
        assert_eq!(line.start().unwrap().1.image, "c");
        assert!(line.start().is_none());
    }
}
