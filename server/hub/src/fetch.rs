//! Fetches one file: goes on where it was cut, starts over where what comes is not what was begun, and checks all of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ureq::http::header;

use crate::checksum::{BLOCK, Checksum, Sum};
use crate::http::{Answer, Attempts, Client, Method, Problem, bare};
use crate::progress::Count;
use crate::source::{File, Place, Source};
use crate::{Code, Error, Settings, copies, lock};

/// Who waits for another process looks so often how far that is.
const LOOK: Duration = Duration::from_millis(200);
/// Written to the disk on the way, so that little is left to be written at the end.
const WRITE_OUT: u64 = 128 << 20;
/// How often a file may turn out to be another one than was begun.
const MAX_TURNS: u32 = 3;

pub(crate) struct Fetch<'a> {
    pub client: &'a Client<'a>,
    pub source: &'a dyn Source,
    pub settings: &'a Settings,
}

impl Fetch<'_> {
    /// Brings a file to its place in the cache. Whatever ends it, what came so far is gone on with the next time.
    pub fn fetch(&self, file: &File, count: &Count) -> Result<(), Error> {
        let place = self.source.place(file);
        for path in [&place.file, &place.incomplete] {
            let parent = path.parent().unwrap_or(path);
            fs::create_dir_all(parent).map_err(|e| Error::file("written", parent, &e))?;
        }
        let _held = self.wait_for_lock(file, &place, count)?;
        let there = self.source.has(file);
        if !there.map_err(|e| Error::file("read", &place.file, &e))? {
            match copies::take(self.settings, file, &place) {
                Some(copy) => {
                    let copy = copy.display();
                    self.client
                        .watch
                        .note(&format!("{} is there already, as {copy}", file.path));
                }
                None => self.transfer(file, &place, count)?,
            }
            put(&place).map_err(|e| Error::file("written", &place.file, &e))?;
        }
        count.at(file.size);
        self.source.publish(file)
    }

    fn wait_for_lock(
        &self,
        file: &File,
        place: &Place,
        count: &Count,
    ) -> Result<lock::Held, Error> {
        let mut told = false;
        loop {
            match lock::try_hold(&place.lock, 0o664) {
                Ok(Some(held)) => return Ok(held),
                Ok(None) => {}
                Err(problem) => return Err(Error::file("locked", &place.lock, &problem)),
            }
            self.client.go_on()?;
            if !told {
                told = true;
                self.client.watch.note(&format!(
                    "another process fetches {}: waiting for it",
                    file.path
                ));
            }
            count.at(fs::metadata(&place.incomplete).map_or(0, |it| it.len()));
            thread::sleep(LOOK);
        }
    }

    fn transfer(&self, file: &File, place: &Place, count: &Count) -> Result<(), Error> {
        let failed = |e: io::Error| Error::file("written", &place.incomplete, &e);
        let mut part = Part::open(&place.incomplete, file).map_err(failed)?;
        count.at(part.len);
        let mut wrong = false;
        let mut turns = 0;
        self.client.persist(|attempts| {
            if part.len < file.size {
                match self.more(file, &mut part, count, attempts) {
                    Ok(()) => {}
                    Err(Stop::Problem(problem)) => return Err(problem),
                    Err(Stop::File(problem)) => return Err(failed(problem).into()),
                    Err(Stop::Turned(why)) => {
                        part.clear().map_err(failed)?;
                        count.at(0);
                        turns += 1;
                        return Err(self.turned(file, why, turns));
                    }
                }
            }
            if part.sum.clone().finish() == file.checksum.text() {
                return Ok(());
            }
            part.clear().map_err(failed)?;
            count.at(0);
            let error = self.wrong_checksum(file);
            if wrong {
                let _ = fs::remove_file(&place.incomplete);
                return Err(error.into());
            }
            wrong = true;
            attempts.renew();
            Err(Problem::Passing(error, None))
        })?;
        part.file.sync_all().map_err(failed)
    }

    /// Asks for what is missing, and takes what comes.
    fn more(
        &self,
        file: &File,
        part: &mut Part,
        count: &Count,
        attempts: &mut Attempts,
    ) -> Result<(), Stop> {
        // Anew each time: the address that a hub leads to is good for a while only.
        let url = self.source.url(file);
        let answer = self.client.ask(Method::Get, &url, part.len)?;
        self.judge(file, part, &answer)?;
        count.at(part.len);
        let mut body = answer.response.into_body().into_reader();
        let mut block = vec![0; BLOCK];
        loop {
            self.client.go_on()?;
            let n = match body.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => continue,
                Err(problem) => return Err(self.client.cut(&problem.to_string()).into()),
            };
            if part.len + n as u64 > file.size {
                return Err(Stop::Turned("it is longer than it should be"));
            }
            part.write(&block[..n]).map_err(Stop::File)?;
            count.add(n);
            // What only brings again what was there before does not get on.
            if part.len > part.farthest {
                part.farthest = part.len;
                attempts.renew();
            }
        }
        match part.len < file.size {
            true => Err(self.client.cut("it ended early").into()),
            false => Ok(()),
        }
    }

    /// Whether an answer goes on with what is there.
    fn judge(&self, file: &File, part: &mut Part, answer: &Answer) -> Result<(), Stop> {
        if let Some(sum) = answer.said.etag.as_deref().and_then(Checksum::of_etag)
            && std::mem::discriminant(&sum) == std::mem::discriminant(&file.checksum)
            && sum != file.checksum
        {
            return Err(Stop::Turned("the hub has another version of it by now"));
        }
        let headers = answer.response.headers();
        let said = |name| headers.get(name).and_then(|it| it.to_str().ok());
        let etag = said(header::ETAG).map(bare);
        match answer.response.status().as_u16() {
            206 if part.len > 0 => {
                let known = part.etag.as_ref().zip(etag.as_ref());
                if known.is_some_and(|(before, now)| before != now) {
                    return Err(Stop::Turned("it has another ETag than its beginning"));
                }
                let range = said(header::CONTENT_RANGE).unwrap_or_default();
                let expected = format!("bytes {}-{}/{}", part.len, file.size - 1, file.size);
                if range != expected {
                    return Err(Stop::Turned("another part of it came than was asked for"));
                }
            }
            // All of it comes, whatever was asked for.
            200 if part.len > 0 => part.clear().map_err(Stop::File)?,
            200 => {}
            _ => return Err(Stop::Turned("another part of it came than was asked for")),
        }
        part.etag = etag.or(part.etag.take());
        Ok(())
    }

    fn turned(&self, file: &File, why: &str, turns: u32) -> Problem {
        let (name, hub) = (&file.path, &self.client.site.endpoint);
        let message = format!(
            "{hub} does not give {name} as it lists it ({why}): try again later, or use another mirror"
        );
        let error = Error::new(Code::Unavailable, message);
        match turns > MAX_TURNS {
            true => Problem::Lasting(error),
            false => Problem::Passing(error, Some(Duration::ZERO)),
        }
    }

    fn wrong_checksum(&self, file: &File) -> Error {
        let (name, hub) = (&file.path, &self.client.site.endpoint);
        let message = format!(
            "{name} came from {hub} twice with another checksum than it should have, and was thrown away: look for a proxy that \
             changes what passes it, or use another mirror"
        );
        Error::new(Code::WrongChecksum, message)
    }
}

/// What ended one answer.
enum Stop {
    Problem(Problem),
    /// The file on the disk.
    File(io::Error),
    /// What comes does not go on with what is there: all is to be fetched again.
    Turned(&'static str),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Problem(problem)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Problem(error.into())
    }
}

/// What has come of a file.
struct Part {
    file: fs::File,
    len: u64,
    size: u64,
    /// Of the bytes so far.
    sum: Sum,
    begun: Sum,
    /// What whoever sends the bytes calls this version.
    etag: Option<String>,
    /// How far it ever came.
    farthest: u64,
    written_out: u64,
}

impl Part {
    /// Goes on with what is there.
    fn open(path: &Path, file: &File) -> io::Result<Self> {
        let mut on_disk = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let begun = file.checksum.sum(file.size);
        let mut sum = begun.clone();
        let len = sum.add_all(&mut on_disk)?;
        let mut part = Part {
            file: on_disk,
            len,
            size: file.size,
            sum,
            begun,
            etag: None,
            farthest: len,
            written_out: len,
        };
        if len > part.size {
            part.clear()?;
        }
        Ok(part)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sum.add(bytes);
        self.len += bytes.len() as u64;
        if self.len - self.written_out >= WRITE_OUT {
            self.file.sync_data()?;
            self.written_out = self.len;
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)?;
        self.sum = self.begun.clone();
        (self.len, self.written_out) = (0, 0);
        self.etag = None;
        Ok(())
    }
}

/// Puts a whole file in its place, for good: after a power cut too it is there whole, or not at all.
fn put(place: &Place) -> io::Result<()> {
    fs::rename(&place.incomplete, &place.file)?;
    let parent = place.file.parent().unwrap_or(Path::new("."));
    match fs::File::open(parent).and_then(|folder| folder.sync_all()) {
        // Not every file system can do that with a folder.
        Err(problem) if problem.kind() != io::ErrorKind::InvalidInput => Err(problem),
        _ => Ok(()),
    }
}

impl Count {
    /// How many of its bytes are here.
    pub fn here(&self) -> u64 {
        self.here.load(Ordering::Relaxed)
    }
}
