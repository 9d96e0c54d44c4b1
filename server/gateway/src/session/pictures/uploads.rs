//! Putting a picture together from its pieces.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glimpse_image::Region;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wire::{ErrorCode, Limits, Upload};

use super::file::{Budget, CompleteFile, File, Sender};
use crate::intake::check_system;
use crate::telemetry::{self, metrics::METRICS};
use api::{Asker, Failure};

/// Bytes after which an upload's progress is told; with a small window, half of that.
const PROGRESS_BYTES: u64 = 256 * 1024;
/// Time after which an upload's progress is told, if [`PROGRESS_BYTES`] have not come by then.
const PROGRESS_TIME: Duration = Duration::from_millis(100);
/// Upload numbers that one session may use up: the rest is a client gone wild.
const MAX_NUMBERS: usize = 65_536;
/// Never announced numbers that were complained about, each once.
const MAX_STRANGERS: usize = 256;

struct Transfer {
    bytes: u64,
    sha256: Option<[u8; 32]>,
    /// The system turn of the first question about the picture.
    system: String,
    file: File,
    hash: Sha256,
    started: Instant,
    /// When its last byte came.
    heard: Instant,
    told: u64,
    told_at: Instant,
    telemetry: telemetry::Picture,
}

impl Transfer {
    fn received(&self) -> u64 {
        self.file.bytes().len() as u64
    }
}

/// A whole file.
pub struct Arrived {
    pub upload: u32,
    pub file: File,
    pub sha256: [u8; 32],
    /// The part of the picture that is meant; `None` is all of it.
    pub region: Option<Region>,
    /// The system turn of the first question about the picture.
    pub system: String,
    /// Milliseconds from the announcement to the last byte.
    pub upload_ms: f64,
    pub telemetry: telemetry::Picture,
}

/// What an announcement leads to. Of one that is refused nothing is counted yet.
pub enum Announced {
    /// Bytes may come, from this offset on.
    Accepted {
        received: u64,
    },
    /// The upload was announced before in the same words and is over: what came of it was told then.
    Over,
    Refused(Failure),
    /// An empty file is whole at once …
    Arrived(Box<Arrived>),
    /// … unless it was announced as another.
    Failed(Failure),
}

/// What a piece leads to.
pub enum Piece {
    /// Nothing to tell: more is to come, or the upload is over and its late pieces are dropped.
    Nothing,
    Progress {
        received: u64,
    },
    Arrived(Box<Arrived>),
    Failed(Failure),
    /// The number was never announced: told once.
    Stranger,
}

/// What is kept of uploads: what was announced, never what came.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct KeptUploads {
    /// Every number announced so far, and what was announced.
    used: Vec<(u32, u64, Option<[u8; 32]>)>,
    /// Those that are not whole, and the system turn that each brings.
    open: Vec<(u32, String)>,
}

/// One session's uploads.
pub struct Uploads {
    /// The session's, in logs.
    tag: Arc<str>,
    asker: Asker,
    budget: Arc<Budget>,
    open: HashMap<u32, Transfer>,
    /// Every number announced so far, and what was announced.
    used: HashMap<u32, (u64, Option<[u8; 32]>)>,
    strangers: HashSet<u32>,
    /// Progress is told after so many bytes.
    progress_bytes: u64,
}

impl Uploads {
    pub fn new(tag: Arc<str>, asker: Asker, budget: Arc<Budget>, upload_window: u64) -> Self {
        Uploads {
            tag,
            asker,
            budget,
            progress_bytes: PROGRESS_BYTES.min(upload_window / 2),
            open: HashMap::new(),
            used: HashMap::new(),
            strangers: HashSet::new(),
        }
    }

    /// What is kept of them.
    pub fn kept(&self) -> KeptUploads {
        let open = self.open.iter();
        KeptUploads {
            used: self.used.iter().map(|(at, it)| (*at, it.0, it.1)).collect(),
            open: open.map(|(at, it)| (*at, it.system.clone())).collect(),
        }
    }

    /// What was kept. Those that were not whole begin again.
    pub fn restore(&mut self, kept: KeptUploads, now: Instant) {
        let used = kept.used.into_iter();
        self.used = used
            .map(|(at, bytes, sha256)| (at, (bytes, sha256)))
            .collect();
        for (number, system) in kept.open {
            if let Some(&(bytes, sha256)) = self.used.get(&number) {
                let transfer = self.transfer(number, bytes, sha256, system, now);
                self.open.insert(number, transfer);
            }
        }
    }

    fn transfer(
        &self,
        number: u32,
        bytes: u64,
        sha256: Option<[u8; 32]>,
        system: String,
        now: Instant,
    ) -> Transfer {
        Transfer {
            bytes,
            sha256,
            system,
            file: self.file(number),
            hash: Sha256::new(),
            started: now,
            heard: now,
            told: 0,
            told_at: now,
            telemetry: telemetry::Picture::announced(self.tag.clone(), number),
        }
    }

    /// An `upload` message was read. The caller has looked whether the session has the file already.
    pub fn announce(&mut self, upload: &Upload, limits: &Limits, now: Instant) -> Announced {
        let number = upload.upload;
        let sha256 = upload.sha256.as_deref().and_then(wire::parse_sha256);
        if let Some(before) = self.used.get(&number) {
            if *before != (upload.bytes, sha256) {
                return refused(
                    ErrorCode::UploadNumberUsed,
                    format!(
                        "Upload number {number} was used before in this session: take another."
                    ),
                );
            }
            // Its clock runs on: only bytes tell that it goes on.
            return match self.open.get(&number) {
                Some(transfer) => Announced::Accepted {
                    received: transfer.received(),
                },
                None => Announced::Over,
            };
        }
        if self.used.len() >= MAX_NUMBERS {
            return refused(
                ErrorCode::TooManyUploads,
                "This session has used up its upload numbers: begin a new one.",
            );
        }
        self.used.insert(number, (upload.bytes, sha256));
        self.strangers.remove(&number);
        if upload.bytes > limits.upload_bytes {
            return refused(
                ErrorCode::UploadTooLarge,
                format!(
                    "The file has {} bytes, but at most {} are taken: send a smaller picture.",
                    upload.bytes, limits.upload_bytes
                ),
            );
        }
        let system = upload.system.clone().unwrap_or_default();
        if let Err(failure) = check_system(&system, limits) {
            return Announced::Refused(failure);
        }
        if self.open.len() as u64 >= limits.open_uploads {
            return refused(
                ErrorCode::TooManyUploads,
                format!(
                    "{} uploads are open already: wait for one to end, then announce this again under a new number.",
                    self.open.len()
                ),
            );
        }
        let transfer = self.transfer(number, upload.bytes, sha256, system, now);
        if upload.bytes == 0 {
            return match finish(number, transfer, now) {
                Ok(arrived) => Announced::Arrived(arrived),
                Err(failure) => Announced::Failed(failure),
            };
        }
        self.open.insert(number, transfer);
        Announced::Accepted { received: 0 }
    }

    /// A file that came otherwise than in pieces, under a number that was not used before.
    pub fn given(&mut self, number: u32, complete: CompleteFile) -> Arrived {
        let CompleteFile {
            file,
            sha256,
            region,
            system,
            upload_ms,
        } = complete;
        let bytes = file.bytes().len() as u64;
        self.used.insert(number, (bytes, Some(sha256)));
        METRICS.upload_bytes.inc_by(bytes);
        Arrived {
            upload: number,
            file,
            sha256,
            region,
            system,
            upload_ms,
            telemetry: telemetry::Picture::announced(self.tag.clone(), number),
        }
    }

    /// A file that the session has, under a number that was not used before.
    pub fn given_again(&mut self, number: u32, bytes: u64, sha256: [u8; 32]) {
        self.used.insert(number, (bytes, Some(sha256)));
    }

    /// Whether a number may still be announced: it was before, or the session has some left.
    pub fn has_room(&self, number: u32) -> bool {
        self.used.contains_key(&number) || self.used.len() < MAX_NUMBERS
    }

    fn file(&self, upload: u32) -> File {
        let session = self.asker.session;
        File::new(
            self.budget
                .place(self.asker.client, Sender::Upload { session, upload }),
        )
    }

    /// Drops what has come of an open upload, which then begins again.
    pub fn restart(&mut self, number: u32) {
        let file = self.file(number);
        if let Some(transfer) = self.open.get_mut(&number) {
            transfer.file = file;
            transfer.hash = Sha256::new();
            transfer.told = 0;
        }
    }

    /// Bytes of memory, the files aside.
    pub fn bytes(&self) -> usize {
        const USED: usize = size_of::<(u32, (u64, Option<[u8; 32]>))>() + 1;
        const OPEN: usize = size_of::<(u32, Transfer)>() + 256;
        let systems = self.open.values().map(|it| it.system.capacity());
        USED * self.used.capacity()
            + OPEN * self.open.capacity()
            + 8 * self.strangers.capacity()
            + systems.sum::<usize>()
    }

    /// Whether bytes of an open upload came within the last `pause`.
    pub fn moves(&self, number: u32, pause: Duration, now: Instant) -> bool {
        let transfer = self.open.get(&number);
        transfer.is_some_and(|it| now.saturating_duration_since(it.heard) < pause)
    }

    /// Marks a number as used without an upload: refused, or answered from what the session has.
    pub fn close(&mut self, upload: &Upload) {
        self.open.remove(&upload.upload);
        if self.used.len() < MAX_NUMBERS {
            let sha256 = upload.sha256.as_deref().and_then(wire::parse_sha256);
            self.used.insert(upload.upload, (upload.bytes, sha256));
        }
    }

    /// The hash that the number was announced with.
    pub fn announced_sha256(&self, number: u32) -> Option<[u8; 32]> {
        self.used.get(&number)?.1
    }

    /// Whether the number was announced before.
    pub fn knows(&self, number: u32) -> bool {
        self.used.contains_key(&number)
    }

    pub fn is_open(&self, number: u32) -> bool {
        self.open.contains_key(&number)
    }

    /// A binary frame was read.
    pub fn piece(&mut self, number: u32, piece: &[u8], now: Instant) -> Piece {
        let Some(transfer) = self.open.get_mut(&number) else {
            if self.used.contains_key(&number)
                || self.strangers.len() >= MAX_STRANGERS
                || !self.strangers.insert(number)
            {
                return Piece::Nothing;
            }
            return Piece::Stranger;
        };
        transfer.heard = now;
        transfer.file.touch(now);
        METRICS.upload_bytes.inc_by(piece.len() as u64);
        let failure = if transfer.received() + piece.len() as u64 > transfer.bytes {
            Some(Failure::new(
                ErrorCode::UploadLength,
                format!(
                    "More than the announced {} bytes arrived: announce the file's true size.",
                    transfer.bytes
                ),
            ))
        } else if !transfer.file.push(piece, transfer.bytes) {
            Some(Failure::new(
                ErrorCode::Busy,
                "Too many files are on their way to this server: try again in a moment.",
            ))
        } else {
            None
        };
        if let Some(failure) = failure {
            self.end(number, failure.code);
            return Piece::Failed(failure);
        }
        transfer.hash.update(piece);
        let received = transfer.received();
        if received < transfer.bytes {
            if received - transfer.told < self.progress_bytes
                && now.duration_since(transfer.told_at) < PROGRESS_TIME
            {
                return Piece::Nothing;
            }
            transfer.told = received;
            transfer.told_at = now;
            return Piece::Progress { received };
        }
        match self
            .open
            .remove(&number)
            .map(|transfer| finish(number, transfer, now))
        {
            Some(Ok(arrived)) => Piece::Arrived(arrived),
            Some(Err(failure)) => Piece::Failed(failure),
            None => Piece::Nothing,
        }
    }

    /// Ends an open upload for this reason; false if it is not open.
    pub fn end(&mut self, number: u32, code: ErrorCode) -> bool {
        let ended = self.open.remove(&number);
        ended
            .map(|transfer| transfer.telemetry.failed(code))
            .is_some()
    }

    /// Extends the uploads' deadlines by a time for which no byte could come.
    pub fn extend_deadlines(&mut self, time: Duration, now: Instant) {
        for transfer in self.open.values_mut() {
            transfer.heard = (transfer.heard + time).min(now);
        }
    }

    /// Takes out the uploads of which no byte came for `idle`.
    pub fn expire(&mut self, idle: Duration, now: Instant) -> Vec<u32> {
        let late = |transfer: &Transfer| now.duration_since(transfer.heard) >= idle;
        let numbers = self.open.iter().filter(|(_, transfer)| late(transfer));
        let numbers: Vec<u32> = numbers.map(|(number, _)| *number).collect();
        for number in &numbers {
            self.end(*number, ErrorCode::UploadTimeout);
        }
        numbers
    }
}

fn refused(code: ErrorCode, message: impl Into<String>) -> Announced {
    Announced::Refused(Failure::new(code, message))
}

fn finish(upload: u32, transfer: Transfer, now: Instant) -> Result<Box<Arrived>, Failure> {
    let sha256: [u8; 32] = transfer.hash.finalize().into();
    if transfer.sha256.is_some_and(|announced| announced != sha256) {
        let code = ErrorCode::HashMismatch;
        transfer.telemetry.failed(code);
        return Err(Failure::new(
            code,
            "The bytes do not have the announced SHA-256: read the file again and send it anew.",
        ));
    }
    Ok(Box::new(Arrived {
        upload,
        file: transfer.file,
        sha256,
        region: None,
        system: transfer.system,
        upload_ms: now.duration_since(transfer.started).as_secs_f64() * 1e3,
        telemetry: transfer.telemetry,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::SessionId;

    fn limits() -> Limits {
        Limits {
            upload_bytes: 1 << 20,
            open_uploads: 2,
            ..Limits::default()
        }
    }

    fn upload(number: u32, bytes: u64) -> Upload {
        Upload {
            upload: number,
            bytes,
            ..Upload::default()
        }
    }

    fn of(budget: Arc<Budget>) -> Uploads {
        let asker = Asker {
            client: 1,
            session: SessionId::new(1),
        };
        Uploads::new("tag".into(), asker, budget, 1 << 20)
    }

    fn uploads() -> Uploads {
        of(Budget::new(2 << 20))
    }

    fn code(announced: Announced) -> Option<ErrorCode> {
        match announced {
            Announced::Refused(failure) => Some(failure.code),
            _ => None,
        }
    }

    #[test]
    fn pieces_become_the_file() {
        let (mut uploads, now) = (uploads(), Instant::now());
        let data: Vec<u8> = (0..600_000u32).map(|i| i as u8).collect();
        let announce = Upload {
            sha256: Some(wire::to_hex(&Sha256::digest(&data))),
            ..upload(1, data.len() as u64)
        };
        assert!(matches!(
            uploads.announce(&announce, &limits(), now),
            Announced::Accepted { received: 0 }
        ));
        let mut told = vec![];
        let mut whole = None;
        for piece in data.chunks(65_536) {
            match uploads.piece(1, piece, now) {
                Piece::Progress { received } => told.push(received),
                Piece::Arrived(arrived) => whole = Some(arrived),
                Piece::Nothing => {}
                _ => panic!("an upload in order must not fail"),
            }
        }
        assert_eq!(told, [262_144, 524_288]);
        let whole = whole.unwrap();
        assert_eq!(whole.file.bytes(), data);
        assert_eq!(uploads.budget.used(), data.len() as u64);
        drop(whole);
        assert_eq!(uploads.budget.used(), 0);
        // Late pieces are dropped, the same announcement says nothing new, another is refused.
        assert!(matches!(uploads.piece(1, b"x", now), Piece::Nothing));
        assert!(matches!(
            uploads.announce(&announce, &limits(), now),
            Announced::Over
        ));
        assert_eq!(
            code(uploads.announce(&upload(1, 5), &limits(), now)),
            Some(ErrorCode::UploadNumberUsed)
        );
    }

    #[test]
    fn an_interrupted_upload_goes_on_where_it_was() {
        let (mut uploads, now) = (uploads(), Instant::now());
        uploads.announce(&upload(1, 10), &limits(), now);
        uploads.piece(1, b"12345", now);
        assert!(matches!(
            uploads.announce(&upload(1, 10), &limits(), now),
            Announced::Accepted { received: 5 }
        ));
        assert!(matches!(
            uploads.piece(1, b"67890", now),
            Piece::Arrived(arrived) if arrived.file.bytes() == b"1234567890"
        ));
    }

    #[test]
    fn lies_are_found_out() {
        let (mut uploads, now) = (uploads(), Instant::now());
        uploads.announce(&upload(1, 3), &limits(), now);
        assert!(matches!(
            uploads.piece(1, b"1234", now),
            Piece::Failed(failure) if failure.code == ErrorCode::UploadLength
        ));
        let wrong = Upload {
            sha256: Some("0".repeat(64)),
            ..upload(2, 3)
        };
        uploads.announce(&wrong, &limits(), now);
        assert!(matches!(
            uploads.piece(2, b"123", now),
            Piece::Failed(failure) if failure.code == ErrorCode::HashMismatch
        ));
        assert_eq!(
            code(uploads.announce(&upload(3, 1 << 40), &limits(), now)),
            Some(ErrorCode::UploadTooLarge)
        );
        assert!(matches!(uploads.piece(3, b"x", now), Piece::Nothing));
        assert!(matches!(uploads.piece(9, b"x", now), Piece::Stranger));
        assert!(matches!(uploads.piece(9, b"x", now), Piece::Nothing));
        assert_eq!(uploads.budget.used(), 0);
    }

    #[test]
    fn open_uploads_and_memory_are_bounded() {
        let (mut uploads, now) = (of(Budget::new(4)), Instant::now());
        uploads.announce(&upload(1, 10), &limits(), now);
        uploads.announce(&upload(2, 10), &limits(), now);
        assert_eq!(
            code(uploads.announce(&upload(3, 10), &limits(), now)),
            Some(ErrorCode::TooManyUploads)
        );
        uploads.piece(1, b"123", now);
        assert!(matches!(
            uploads.piece(2, b"123", now),
            Piece::Failed(failure) if failure.code == ErrorCode::Busy
        ));
        assert_eq!(uploads.budget.used(), 3);
        let mut cancel = || uploads.end(1, ErrorCode::UploadCancelled);
        assert!(cancel() && !cancel());
        assert_eq!(uploads.budget.used(), 0);
    }

    #[test]
    fn idle_uploads_end() {
        let (mut uploads, now) = (uploads(), Instant::now());
        uploads.announce(&upload(1, 10), &limits(), now);
        let idle = Duration::from_secs(30);
        assert!(uploads.expire(idle, now + idle / 2).is_empty());
        uploads.piece(1, b"x", now + idle / 2);
        // Announced again it is as idle as before.
        uploads.announce(&upload(1, 10), &limits(), now + idle);
        assert!(uploads.expire(idle, now + idle).is_empty());
        assert_eq!(uploads.expire(idle, now + idle + idle / 2), [1]);
        assert!(!uploads.is_open(1) && uploads.knows(1));
    }
}
