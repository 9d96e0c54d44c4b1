//! What lies between workers and clients: NATS, and the cores on which gateways decode. Each serves one after the other.

use serde::{Deserialize, Serialize};

/// What NATS takes, as it was measured; and what is asked of it for each question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wire {
    /// How the figures were found.
    pub measured: String,
    /// Records a second that one stream takes, kept once and by three servers.
    pub records_1: f64,
    pub records_3: f64,
    /// Bytes a second, likewise.
    pub bytes_1: f64,
    pub bytes_3: f64,
    /// A message's way through it while it has nothing else to do, in milliseconds.
    pub way_ms: f64,
    /// What a gateway's core takes to decode a picture, in milliseconds.
    pub decode_ms: f64,
    /// Bytes of a picture's pixels, which go to the worker, and into the store.
    pub picture_bytes: f64,
    /// Records of a question beside those of its words: the question itself, and its session's.
    pub question_records: f64,
    /// Records of each token: the worker's event, and its session's.
    pub token_records: f64,
}

impl Wire {
    /// What was measured where this was written, or a file.
    ///
    /// # Errors
    /// A sentence, if the file can't be read.
    pub fn read(file: Option<&std::path::Path>) -> Result<Self, String> {
        let Some(file) = file else {
            let text = include_str!("../cards/nats.json");
            return serde_json::from_str(text).map_err(|e| e.to_string());
        };
        let told = |e: String| format!("{}: {e}", file.display());
        let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
        serde_json::from_str(&text).map_err(|e| told(e.to_string()))
    }
}

/// Streams, each of which takes one record after the other, and beside that one picture after the other.
pub struct Nats {
    records_free: Vec<u64>,
    bytes_free: Vec<u64>,
    record: f64,
    byte: f64,
    /// What was taken, in nanoseconds of one stream each.
    pub records: f64,
    pub bytes: f64,
}

impl Nats {
    /// So many streams, each kept once or by three servers.
    pub fn new(wire: &Wire, streams: u32, replicas: u32) -> Self {
        let three = replicas > 1;
        let rate = |once: f64, thrice: f64| 1e9 / if three { thrice } else { once };
        let free = vec![0; streams.max(1) as usize];
        Nats {
            records_free: free.clone(),
            bytes_free: free,
            record: rate(wire.records_1, wire.records_3),
            byte: rate(wire.bytes_1, wire.bytes_3),
            records: 0.0,
            bytes: 0.0,
        }
    }

    /// When so many of a session's records are through.
    pub fn records(&mut self, session: u32, now: u64, records: f64) -> u64 {
        let takes = records * self.record;
        self.records += takes;
        through(&mut self.records_free, session, now, takes)
    }

    /// When so many bytes of a session's picture are through.
    pub fn bytes(&mut self, session: u32, now: u64, bytes: f64) -> u64 {
        let takes = bytes * self.byte;
        self.bytes += takes;
        through(&mut self.bytes_free, session, now, takes)
    }

    /// Streams.
    pub fn streams(&self) -> usize {
        self.records_free.len()
    }
}

fn through(free: &mut [u64], session: u32, now: u64, takes: f64) -> u64 {
    let streams = free.len();
    let free = &mut free[session as usize % streams];
    *free = (*free).max(now) + takes as u64;
    *free
}

/// The cores on which a gateway decodes.
pub struct Decoders {
    free: Vec<u64>,
    pub busy: u64,
}

impl Decoders {
    pub fn new(cores: u32) -> Self {
        Decoders {
            free: vec![0; cores.max(1) as usize],
            busy: 0,
        }
    }

    /// When a picture is decoded that comes now.
    pub fn decoded(&mut self, now: u64, takes: u64) -> u64 {
        self.busy += takes;
        let first = self.free.iter_mut().min();
        first.map_or(now, |free| {
            *free = (*free).max(now) + takes;
            *free
        })
    }

    pub fn cores(&self) -> usize {
        self.free.len()
    }
}
