//! The picture's way to the server: read in the worker piece by piece, sent within the server's window and with little
//! held back in the browser, so that a "stop" is never stuck behind megabytes.

use std::{cell::RefCell, collections::VecDeque, time::Duration};

use js_sys::{Array, ArrayBuffer};
use leptos::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, File, MessageEvent, Url, Worker, WorkerOptions, WorkerType};
use wire::{Cancel, ClientMessage, ErrorCode, Failure, frame};

use crate::{
    connection,
    dom::{self, Listener},
    i18n::T,
    settings::Scaling,
    state::{App, Picture, PicturePhase, PictureTimes},
    worker::{Command, Reply},
};

/// The most that may wait in the browser's own buffer.
const BUFFERED: u32 = 256 * 1024;
/// Pieces read ahead of sending.
const READ_AHEAD: usize = 8;
/// Scaling has to be quicker by this to be worth it.
const WORTH_MS: f64 = 100.0;
/// What scaling takes, with room to spare: a decode is the most of it.
const SCALE_MS: f64 = 50.0;
const SCALE_MS_PER_BYTE: f64 = 1e-4;
/// Uploads smaller than this say little about the connection.
const TELLING: u64 = 128 * 1024;
/// How long to wait for the browser's buffer to drain.
const DRAIN: Duration = Duration::from_millis(5);

/// The picture's bytes, and how far they are on their way.
struct Current {
    picture: u64,
    /// What the user gave.
    source: Blob,
    /// What is sent: that, or a smaller copy.
    body: Blob,
    /// The smaller copy is being made; nothing is sent before.
    scaling: bool,
    /// The reduced copy that the page shows.
    preview: Option<Blob>,
    number: Option<u32>,
    /// What older reads answer is ignored.
    generation: u32,
    length: u64,
    /// Offsets: asked of the worker, sent, and confirmed by the server.
    read: u64,
    sent: u64,
    confirmed: u64,
    reading: usize,
    frames: VecDeque<ArrayBuffer>,
    /// No byte leaves before the server has said whether it knows the picture.
    hold: bool,
    /// The server's offset is to be taken: the upload was announced again.
    rewind: bool,
    finished: bool,
    pumping: bool,
    /// Where and when the speed was last measured.
    measured: (f64, u64),
    /// When the first byte left.
    began: Option<f64>,
}

#[derive(Default)]
struct Uploads {
    worker: Option<Worker>,
    current: Option<Current>,
    number: u32,
    generation: u32,
    /// Size and hash of what this session has received.
    known: Vec<(u64, String)>,
    /// Bytes per millisecond of the last real upload.
    uplink: Option<f64>,
}

thread_local! {
    static UPLOADS: RefCell<Uploads> = RefCell::default();
}

/// Starts the worker, so that it is there before the first picture.
pub fn start(app: App) {
    let options = WorkerOptions::new();
    options.set_type(WorkerType::Module);
    let Ok(worker) = Worker::new_with_options("worker.js", &options) else {
        return app.say(app.text(T::NoWorker), true);
    };
    Listener::new(&worker, "message", move |event| {
        let event: MessageEvent = event.unchecked_into();
        if let Some(reply) = Reply::read(&event.data()) {
            replied(app, reply);
        }
    })
    .forever();
    let module = wasm_bindgen::module();
    let url = dom::MODULE_URL.with(|url| url.clone());
    let _ = worker.post_message(&Array::of2(&JsValue::from_str(&url), &module));
    UPLOADS.with_borrow_mut(|u| u.worker = Some(worker));
}

fn post(command: Command) {
    UPLOADS.with_borrow(|u| {
        if let Some(worker) = &u.worker {
            let _ = worker.post_message(&command.write());
        }
    });
}

/// Takes a picture from the user: `when` is the time of the drop, the change or the paste.
pub fn open(app: App, file: File, when: f64) {
    let name = file.name();
    open_blob(app, file.into(), name, when, None);
}

/// Takes a picture from anywhere, with its reduced copy where there is one already.
pub fn open_blob(app: App, blob: Blob, name: String, when: f64, preview: Option<Blob>) {
    drop_picture(app);
    let bytes = blob.size() as u64;
    let id = app.number();
    app.picture.set(Some(Picture {
        id,
        name,
        bytes,
        sending: bytes,
        sent: 0,
        speed: None,
        phase: PicturePhase::Received,
        preview: preview
            .as_ref()
            .and_then(|copy| Url::create_object_url_with_blob(copy).ok()),
        unseen: false,
        size: None,
        upload: None,
        image: None,
        sha256: None,
        times: PictureTimes {
            dropped: when,
            ..Default::default()
        },
    }));
    request_animation_frame(move || {
        app.with_picture(id, |p| p.times.shown = Some(dom::now()));
    });
    let side = scale_to(app, bytes);
    let known = UPLOADS.with_borrow_mut(|u| {
        u.generation += 1;
        u.current = Some(Current {
            picture: id,
            source: blob.clone(),
            body: blob.clone(),
            scaling: side.is_some(),
            preview: preview.clone(),
            number: None,
            generation: u.generation,
            length: bytes,
            read: 0,
            sent: 0,
            confirmed: 0,
            reading: 0,
            frames: VecDeque::new(),
            hold: false,
            rewind: false,
            finished: false,
            pumping: false,
            measured: (dom::now(), 0),
            began: None,
        });
        u.known.iter().any(|(size, _)| *size == bytes)
    });
    if let Some(side) = side {
        post(Command::Scale(id, blob.clone(), side));
    } else if known && connection::online() {
        // Likely the same picture again: its hash decides whether it is sent.
        post(Command::Hash(id, blob.clone()));
    } else {
        announce(app, None);
    }
    if preview.is_none() {
        post(Command::Preview(id, blob));
    }
}

/// To how many pixels of its shorter side the picture is scaled before it is sent, if at all.
fn scale_to(app: App, bytes: u64) -> Option<u32> {
    // Twice what the model sees: its own transform then averages as it would over the original.
    let side = 2 * app
        .model
        .with_untracked(|m| m.as_ref().map(|m| m.image_size))?;
    let quicker = || {
        let uplink = UPLOADS.with_borrow(|u| u.uplink)?;
        let smaller = 0.5 * f64::from(side).powi(2) * 1.4;
        let scaling = SCALE_MS + SCALE_MS_PER_BYTE * bytes as f64;
        Some(bytes as f64 / uplink > smaller / uplink + scaling + WORTH_MS)
    };
    let wanted = match app.settings.with_untracked(|s| s.scaling) {
        Scaling::Always => true,
        Scaling::Original => false,
        Scaling::Auto => quicker().unwrap_or(false),
    };
    wanted.then_some(side)
}

/// Tells the server of the picture, under a new number, and starts sending.
fn announce(app: App, sha256: Option<String>) {
    if !connection::online() {
        return;
    }
    let Some((picture, number, bytes)) = UPLOADS.with_borrow_mut(|u| {
        u.current.as_ref().filter(|c| !c.scaling)?;
        u.number += 1;
        u.generation += 1;
        let (number, generation) = (u.number, u.generation);
        let current = u.current.as_mut()?;
        current.number = Some(number);
        current.generation = generation;
        current.hold = sha256.is_some();
        (
            current.read,
            current.sent,
            current.confirmed,
            current.reading,
        ) = (0, 0, 0, 0);
        current.frames.clear();
        (current.finished, current.rewind) = (false, false);
        current.measured = (dom::now(), 0);
        Some((current.picture, number, current.length))
    }) else {
        return;
    };
    let name = app
        .picture
        .with_untracked(|p| p.as_ref().map(|p| p.name.clone()));
    app.with_picture(picture, |p| {
        p.upload = Some(number);
        p.image = None;
        p.sent = 0;
        p.phase = PicturePhase::Uploading;
    });
    connection::send(&ClientMessage::Upload(wire::Upload {
        upload: number,
        bytes,
        sha256,
        name,
    }));
    pump(app);
    crate::actions::flush(app);
}

/// A new session knows nothing: the picture is announced from the start.
pub fn restart(app: App) {
    UPLOADS.with_borrow_mut(|u| {
        u.known.clear();
        u.number = 0;
    });
    announce(app, None);
}

/// The same session again: an unfinished upload goes on where the server says.
pub fn resume(app: App) {
    let again = UPLOADS.with_borrow_mut(|u| {
        u.generation += 1;
        let generation = u.generation;
        let current = u.current.as_mut().filter(|c| !c.finished)?;
        current.number.map(|number| {
            current.generation = generation;
            current.frames.clear();
            current.reading = 0;
            current.rewind = true;
            (number, current.length)
        })
    });
    match again {
        Some((number, bytes)) => {
            let name = app
                .picture
                .with_untracked(|p| p.as_ref().map(|p| p.name.clone()));
            connection::send(&ClientMessage::Upload(wire::Upload {
                upload: number,
                bytes,
                sha256: None,
                name,
            }));
        }
        None if UPLOADS.with_borrow(|u| u.current.as_ref().is_some_and(|c| c.number.is_none())) => {
            announce(app, None);
        }
        None => {}
    }
}

/// The server has the picture no longer: when it is asked about again, it is sent again.
pub fn lost(app: App) {
    UPLOADS.with_borrow_mut(|u| {
        u.known.clear();
        if let Some(current) = u.current.as_mut() {
            (current.number, current.finished) = (None, false);
        }
    });
    app.picture.update(|picture| {
        if let Some(picture) = picture {
            (picture.upload, picture.image) = (None, None);
        }
    });
}

/// Sends the picture once more if the server has it no longer.
pub fn revive(app: App) {
    let gone = app.picture.with_untracked(|p| {
        p.as_ref().is_some_and(|p| {
            let refused = matches!(&p.phase, PicturePhase::Failed(f) if f.code != ErrorCode::ImageUnsupported);
            refused || p.upload.is_none() && p.image.is_none()
        })
    });
    if gone {
        announce(app, None);
    }
}

/// Takes the picture off the page; what is left of its upload is cancelled.
pub fn drop_picture(app: App) {
    let unfinished = UPLOADS
        .with_borrow_mut(|u| u.current.take())
        .filter(|c| !c.finished);
    if let Some(number) = unfinished.and_then(|c| c.number) {
        connection::send(&ClientMessage::Cancel(Cancel {
            request: None,
            upload: Some(number),
        }));
    }
    let preview = app
        .picture
        .with_untracked(|p| p.as_ref().and_then(|p| p.preview.clone()));
    app.picture.set(None);
    if let Some(url) = preview {
        let _ = Url::revoke_object_url(&url);
    }
}

/// Forgets which pictures the server knows.
pub fn forget() {
    UPLOADS.with_borrow_mut(|u| u.known.clear());
}

/// The picture as the user gave it.
pub fn source() -> Option<Blob> {
    UPLOADS.with_borrow(|u| u.current.as_ref().map(|c| c.source.clone()))
}

/// The reduced copy of it.
pub fn preview() -> Option<Blob> {
    UPLOADS.with_borrow(|u| u.current.as_ref().and_then(|c| c.preview.clone()))
}

fn of(u: &mut Uploads, number: u32) -> Option<&mut Current> {
    u.current.as_mut().filter(|c| c.number == Some(number))
}

/// The server says where it wants the next byte.
pub fn accepted(app: App, number: u32, received: u64) {
    UPLOADS.with_borrow_mut(|u| {
        if let Some(current) = of(u, number) {
            current.hold = false;
            if std::mem::take(&mut current.rewind) {
                (current.read, current.sent) = (received, received);
            }
        }
    });
    progress(app, number, received);
}

/// The server has bytes up to `received`.
pub fn progress(app: App, number: u32, received: u64) {
    let seen = UPLOADS.with_borrow_mut(|u| {
        let current = of(u, number)?;
        current.confirmed = current.confirmed.max(received);
        let (then, before) = current.measured;
        let (elapsed, gained) = (dom::now() - then, received.saturating_sub(before));
        let speed = (elapsed > 80.0 && gained > 0).then(|| {
            current.measured = (dom::now(), received);
            gained as f64 / elapsed * 1e3
        });
        Some((current.picture, speed))
    });
    if let Some((picture, speed)) = seen {
        app.with_picture(picture, |p| {
            p.sent = p.sent.max(received);
            if let Some(speed) = speed {
                p.speed = Some(p.speed.map_or(speed, |old| 0.7 * old + 0.3 * speed));
            }
        });
        pump(app);
    }
}

/// The server has every byte.
pub fn received(number: u32, sha256: &str) {
    UPLOADS.with_borrow_mut(|u| {
        let Some(current) = of(u, number) else { return };
        current.finished = true;
        current.frames.clear();
        let length = current.length;
        if let Some(began) = current.began.filter(|_| length >= TELLING) {
            u.uplink = Some(length as f64 / (dom::now() - began).max(1.0));
        }
        if !u.known.iter().any(|(_, known)| known == sha256) {
            u.known.push((length, sha256.to_owned()));
        }
    });
}

/// The server refused the upload.
pub fn failed(number: u32) {
    UPLOADS.with_borrow_mut(|u| {
        if let Some(current) = of(u, number) {
            current.finished = true;
            current.frames.clear();
        }
    });
}

/// Reads ahead and sends what may be sent now.
fn pump(app: App) {
    if !connection::online() {
        return;
    }
    let window = app
        .limits
        .with_untracked(|l| l.upload_window)
        .max(frame::MAX_PAYLOAD as u64);
    enum Next {
        Read(Command),
        Send(ArrayBuffer, u64, bool),
        Wait,
        Rest,
    }
    loop {
        let next = UPLOADS.with_borrow_mut(|u| {
            let Some(current) = u.current.as_mut() else {
                return Next::Rest;
            };
            let (Some(number), false) = (current.number, current.finished || current.rewind) else {
                return Next::Rest;
            };
            if current.read < current.length && current.reading + current.frames.len() < READ_AHEAD
            {
                let end = (current.read + frame::MAX_PAYLOAD as u64).min(current.length);
                let begin = std::mem::replace(&mut current.read, end);
                current.reading += 1;
                return Next::Read(Command::Read {
                    generation: current.generation,
                    upload: number,
                    blob: current.body.clone(),
                    begin,
                    end,
                });
            }
            let Some(first) = current.frames.front() else {
                return Next::Rest;
            };
            let payload = u64::from(first.byte_length()) - frame::HEADER as u64;
            if current.hold || current.sent + payload > current.confirmed + window {
                return Next::Rest;
            }
            if connection::buffered() + first.byte_length() > BUFFERED {
                return if std::mem::replace(&mut current.pumping, true) {
                    Next::Rest
                } else {
                    Next::Wait
                };
            }
            let first_of_all = current.sent == 0;
            current.began.get_or_insert_with(dom::now);
            current.sent += payload;
            match current.frames.pop_front() {
                Some(bytes) => Next::Send(bytes, current.picture, first_of_all),
                None => Next::Rest,
            }
        });
        match next {
            Next::Read(command) => post(command),
            Next::Send(bytes, picture, first) => {
                if !connection::send_frame(&bytes) {
                    return;
                }
                if first {
                    app.with_picture(picture, |p| p.times.sent = Some(dom::now()));
                }
            }
            Next::Wait => {
                set_timeout(
                    move || {
                        UPLOADS.with_borrow_mut(|u| {
                            if let Some(current) = u.current.as_mut() {
                                current.pumping = false;
                            }
                        });
                        pump(app);
                    },
                    DRAIN,
                );
                return;
            }
            Next::Rest => return,
        }
    }
}

fn replied(app: App, reply: Reply) {
    match reply {
        Reply::Frame(generation, bytes) => {
            let picture = UPLOADS.with_borrow_mut(|u| {
                let current = u.current.as_mut().filter(|c| c.generation == generation)?;
                current.reading -= 1;
                current.frames.push_back(bytes);
                Some(current.picture)
            });
            if let Some(picture) = picture {
                if app
                    .picture
                    .with_untracked(|p| p.as_ref().is_some_and(|p| p.times.read.is_none()))
                {
                    app.with_picture(picture, |p| p.times.read = Some(dom::now()));
                }
                pump(app);
            }
        }
        Reply::Unreadable(generation) => {
            let picture = UPLOADS.with_borrow_mut(|u| {
                u.current
                    .take_if(|c| c.generation == generation)
                    .map(|c| (c.picture, c.number))
            });
            if let Some((picture, number)) = picture {
                connection::send(&ClientMessage::Cancel(Cancel {
                    request: None,
                    upload: number,
                }));
                app.with_picture(picture, |p| {
                    let failure = Failure::new(ErrorCode::ImageBroken, app.text(T::Unreadable));
                    p.phase = PicturePhase::Failed(failure);
                });
            }
        }
        Reply::Preview(picture, blob, size) => {
            let Ok(url) = Url::create_object_url_with_blob(&blob) else {
                return;
            };
            let first = UPLOADS.with_borrow_mut(|u| {
                let current = u.current.as_mut().filter(|c| c.picture == picture);
                current.is_some_and(|current| current.preview.replace(blob).is_none())
            });
            let mut old = Some(url.clone());
            app.with_picture(picture, |p| {
                old = p.preview.replace(url);
                p.size = p.size.or(size);
            });
            if let Some(old) = old {
                // The element may still be drawing it.
                set_timeout(
                    move || {
                        let _ = Url::revoke_object_url(&old);
                    },
                    Duration::from_secs(2),
                );
            }
            if first {
                // The conversation may have been kept without it.
                crate::history::keep(app);
            }
        }
        Reply::Unseen(picture) => app.with_picture(picture, |p| p.unseen = true),
        Reply::Scaled(picture, blob) => {
            let began = UPLOADS.with_borrow_mut(|u| {
                let current = u
                    .current
                    .as_mut()
                    .filter(|c| c.picture == picture && c.scaling)?;
                current.scaling = false;
                let began = current.measured.0;
                if let Some(blob) = blob {
                    current.length = blob.size() as u64;
                    current.body = blob;
                }
                Some((began, current.length))
            });
            if let Some((began, length)) = began {
                app.with_picture(picture, |p| {
                    p.times.scaled = (length != p.bytes).then(|| (began, dom::now()));
                    p.sending = length;
                });
                announce(app, None);
            }
        }
        Reply::Hashed(picture, sha256) => {
            let state = UPLOADS.with_borrow(|u| {
                let waiting = u
                    .current
                    .as_ref()
                    .is_some_and(|c| c.picture == picture && c.number.is_none());
                let known = u.known.iter().any(|(_, known)| *known == sha256);
                (waiting, known)
            });
            if let (true, known) = state {
                announce(app, known.then_some(sha256));
            }
        }
    }
}
