//! The WebSocket: opens, greets, comes back after a loss and goes on where it was. The session's id lives in this
//! page's memory only, so that two tabs never fight over one.

use std::{cell::RefCell, time::Duration};

use leptos::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{CloseEvent, MessageEvent, PageTransitionEvent, RequestInit, Response, WebSocket};
use wire::{
    Ack, ClientMessage, Hello, Ping, Resume, ServerEnvelope, ServerMessage, Welcome, close,
};

use crate::{
    actions,
    clock::{Clock, Offset},
    dom::{self, Listener},
    events,
    i18n::T,
    state::{App, Link},
    upload,
};

/// A lost connection is tried again after this, doubled each time.
const FIRST_RETRY_MS: f64 = 250.0;
const LAST_RETRY_MS: f64 = 5_000.0;
/// A connection that is not greeted by then is given up.
const GREETING: Duration = Duration::from_secs(10);
/// How often the clocks are joined and the connection is proven alive.
const PING_EVERY: Duration = Duration::from_secs(15);
/// After sleep, a pong later than this means that the connection is dead.
const PONG_WITHIN: Duration = Duration::from_secs(2);
/// Events are acknowledged at the latest after this many.
const ACK_EVERY: u64 = 64;

/// Where the socket is, beside the page.
const SOCKET: &str = "ws";

/// Where this tab keeps the server's key.
const KEY: &str = "glimpse-key";

#[derive(Default)]
struct Net {
    socket: Option<WebSocket>,
    listeners: Vec<Listener>,
    /// Counts connections: what belongs to an older one is ignored.
    generation: u64,
    session: Option<String>,
    last_event: u64,
    acked: u64,
    /// The `welcome` that answers our `hello` with a resume is still to come.
    awaiting: bool,
    /// The socket is open: it was not refused.
    opened: bool,
    greeted: bool,
    attempts: i32,
    /// Not before this (page's clock) the server wants to see us again.
    not_before: f64,
    clock: Clock,
    last_heard: f64,
    key: Option<String>,
}

thread_local! {
    static NET: RefCell<Net> = RefCell::new(Net { key: dom::tab(KEY), ..Net::default() });
}

/// Opens the first connection and keeps watch from then on.
pub fn start(app: App) {
    open(app);
    let last = StoredValue::new(dom::now());
    set_interval(
        move || {
            let slept = dom::now() - last.get_value() > 2.0 * PING_EVERY.as_millis() as f64;
            last.set_value(dom::now());
            if slept { probe(app) } else { ping() }
        },
        PING_EVERY,
    );
    let window = window();
    Listener::new(&window, "online", move |_| probe(app)).forever();
    Listener::new(&document(), "visibilitychange", move |_| {
        if !document().hidden() {
            probe(app);
        }
    })
    .forever();
    // Back from the browser's cache of pages: what was closed on leaving is opened again.
    Listener::new(&window, "pageshow", move |event| {
        let event: PageTransitionEvent = event.unchecked_into();
        if event.persisted() && !online() {
            again(app);
        }
    })
    .forever();
    // Leaving for good frees the server at once.
    Listener::new(&window, "pagehide", |_| {
        NET.with_borrow_mut(|net| {
            net.listeners.clear();
            net.greeted = false;
            if let Some(socket) = net.socket.take() {
                let _ = socket.close_with_code(1000);
            }
        });
    })
    .forever();
}

/// Whether messages can be sent.
pub fn online() -> bool {
    NET.with_borrow(|net| net.greeted)
}

/// The server's clock beside ours.
pub fn clock() -> Option<Offset> {
    NET.with_borrow(|net| net.clock.best())
}

/// Bytes that the browser holds back.
pub fn buffered() -> u32 {
    NET.with_borrow(|net| net.socket.as_ref().map_or(0, WebSocket::buffered_amount))
}

/// Sends a message; `false` if there is no connection: it is then up to the caller to send it again.
pub fn send(message: &ClientMessage) -> bool {
    NET.with_borrow(|net| net.greeted && net.write(message))
}

/// Sends a picture's bytes.
pub fn send_frame(frame: &js_sys::ArrayBuffer) -> bool {
    NET.with_borrow(|net| {
        net.greeted
            && net
                .socket
                .as_ref()
                .is_some_and(|s| s.send_with_array_buffer(frame).is_ok())
    })
}

/// Tries with this key from now on, and keeps it for this tab.
pub fn use_key(app: App, key: String) {
    dom::keep_tab(KEY, Some(&key));
    NET.with_borrow_mut(|net| {
        net.key = Some(key);
        net.not_before = 0.0;
    });
    app.link.set(Link::Connecting);
    open(app);
}

/// Connects again at once, whatever was before.
pub fn again(app: App) {
    NET.with_borrow_mut(|net| {
        net.attempts = 0;
        net.not_before = 0.0;
    });
    app.link.set(Link::Lost);
    open(app);
}

impl Net {
    fn write(&self, message: &ClientMessage) -> bool {
        let Ok(text) = serde_json::to_string(message) else {
            return false;
        };
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.send_with_str(&text).is_ok())
    }
}

fn open(app: App) {
    // http becomes ws, and https wss.
    let url = dom::beside(SOCKET)
        .unwrap_or_default()
        .replacen("http", "ws", 1);
    let generation = NET.with_borrow_mut(|net| {
        net.listeners.clear();
        if let Some(old) = net.socket.take() {
            // Not 1000: that would end the session.
            let _ = old.close_with_code(3000);
        }
        net.opened = false;
        net.greeted = false;
        net.generation += 1;
        net.generation
    });
    let Ok(socket) = WebSocket::new_with_str(&url, wire::PROTOCOL) else {
        lost(app, generation, None);
        return;
    };
    socket.set_binary_type(web_sys::BinaryType::Arraybuffer);
    let listeners = vec![
        Listener::new(&socket, "open", move |_| greet()),
        Listener::new(&socket, "message", move |event| {
            let event: MessageEvent = event.unchecked_into();
            if let Some(text) = event.data().as_string() {
                heard(app, &text, event.time_stamp());
            }
        }),
        Listener::new(&socket, "close", move |event| {
            lost(app, generation, Some(event.unchecked_into()));
        }),
    ];
    NET.with_borrow_mut(|net| {
        net.socket = Some(socket);
        net.listeners = listeners;
    });
    set_timeout(
        move || {
            let late = NET.with_borrow(|net| net.generation == generation && !net.greeted);
            if late {
                lost(app, generation, None);
            }
        },
        GREETING,
    );
}

fn greet() {
    NET.with_borrow_mut(|net| {
        net.opened = true;
        net.awaiting = net.session.is_some();
        let resume = net.session.clone().map(|session| Resume {
            session,
            last_event: net.last_event,
        });
        net.write(&ClientMessage::Hello(Hello {
            token: net.key.clone(),
            resume,
        }));
    });
}

fn lost(app: App, generation: u64, event: Option<CloseEvent>) {
    let wait = NET.with_borrow_mut(|net| {
        if net.generation != generation {
            return None;
        }
        net.greeted = false;
        net.attempts += 1;
        let backoff = (FIRST_RETRY_MS * 2f64.powi(net.attempts - 1)).min(LAST_RETRY_MS);
        let jitter = 0.75 + js_sys::Math::random() / 2.0;
        Some((backoff * jitter).max(net.not_before - dom::now()))
    });
    let Some(wait) = wait else { return };
    match event.map(|e| e.code()) {
        Some(close::UNAUTHORIZED) => {
            let given = NET.with_borrow(|net| net.key.is_some());
            return app.link.set(Link::NeedsKey(given));
        }
        Some(close::TAKEN_OVER) => return app.link.set(Link::TakenOver),
        _ => {}
    }
    if matches!(app.link.get_untracked(), Link::Outdated) {
        return;
    }
    if !matches!(
        app.link.get_untracked(),
        Link::Connecting | Link::Refused { .. } | Link::Barred(_)
    ) {
        app.link.set(Link::Lost);
    }
    // What once let us in does not bar us later.
    if NET.with_borrow(|net| !net.opened && net.session.is_none()) {
        spawn_local(async move {
            if let Some(why) = barred(app).await
                && NET.with_borrow(|net| net.generation == generation)
            {
                app.link.set(Link::Barred(why));
            }
        });
    }
    set_timeout(
        move || {
            if NET.with_borrow(|net| net.generation == generation) {
                open(app);
            }
        },
        Duration::from_millis(wait as u64),
    );
}

/// Why the socket does not open, which a browser tells nobody. A POST names the page that it comes from as the socket's
/// request did, so it is refused alike, and its refusal can be read. `None` if the server is not there at all.
async fn barred(app: App) -> Option<String> {
    let options = RequestInit::new();
    options.set_method("POST");
    let url = dom::beside(SOCKET)?;
    let answer = window().fetch_with_str_and_init(&url, &options);
    let answer: Response = JsFuture::from(answer).await.ok()?.dyn_into().ok()?;
    match answer.status() {
        403 => JsFuture::from(answer.text().ok()?).await.ok()?.as_string(),
        // A proxy whose server is away.
        500.. => None,
        _ => Some(app.text(T::NoSocket).into()),
    }
}

fn heard(app: App, text: &str, when: f64) {
    let Ok(envelope) = ServerEnvelope::read(text) else {
        web_sys::console::warn_1(&JsValue::from_str(
            "glimpse: a message this page does not know",
        ));
        return;
    };
    let fresh = NET.with_borrow_mut(|net| {
        net.last_heard = dom::now();
        match (&envelope.message, envelope.event) {
            // What an unresumed session says before the resumed one answers is not for us.
            (message, _) if net.awaiting => {
                matches!(message, ServerMessage::Welcome(_) | ServerMessage::Error(_))
            }
            (_, Some(event)) if event <= net.last_event => false,
            (_, Some(event)) => {
                net.last_event = event;
                true
            }
            _ => true,
        }
    });
    if !fresh {
        return;
    }
    match envelope.message {
        ServerMessage::Welcome(welcome) => welcomed(app, *welcome),
        ServerMessage::Pong(pong) => {
            if let Some(sent) = pong.t.as_ref().and_then(|t| t.as_f64()) {
                NET.with_borrow_mut(|net| net.clock.sample(sent, when.max(sent), envelope.at));
            }
        }
        message => {
            let done = matches!(message, ServerMessage::Done(_));
            if let ServerMessage::Error(error) = &message
                && let Some(wait) = error.failure.retry_after_ms
                && !online()
            {
                NET.with_borrow_mut(|net| net.not_before = dom::now() + wait);
            }
            events::apply(app, message, envelope.at, when);
            acknowledge(done);
        }
    }
}

fn welcomed(app: App, welcome: Welcome) {
    if welcome.protocol != wire::PROTOCOL {
        app.link.set(Link::Outdated);
        return;
    }
    enum Come {
        /// The first session of this page.
        First,
        /// A second greeting on the same connection.
        Twice,
        Resumed,
        /// The old session is gone; what it held must be sent anew.
        Anew,
    }
    let come = NET.with_borrow_mut(|net| {
        if net.awaiting && welcome.resumed.is_none() {
            return None;
        }
        net.awaiting = false;
        let come = match (net.greeted, welcome.resumed, &net.session) {
            (true, _, _) => Come::Twice,
            (_, Some(true), _) => Come::Resumed,
            (_, _, Some(_)) => Come::Anew,
            (_, _, None) => Come::First,
        };
        if !matches!(come, Come::Resumed) {
            (net.last_event, net.acked) = (0, 0);
            net.clock.clear();
        }
        net.session = Some(welcome.session.clone());
        net.greeted = true;
        net.attempts = 0;
        net.not_before = 0.0;
        Some(come)
    });
    let Some(come) = come else { return };
    app.server.set(welcome.state);
    app.model.set(Some(welcome.model));
    app.limits.set(welcome.limits);
    app.link.set(Link::Online);
    ping();
    match come {
        Come::Twice => return,
        Come::First => upload::restart(app),
        Come::Resumed => {
            app.say(app.text(T::Back), false);
            upload::resume(app);
            actions::send_again(app);
        }
        Come::Anew => {
            actions::start_over(app);
            upload::restart(app);
        }
    }
    actions::flush(app);
    // Two more pings soon, so that the clocks are joined well before the first answer.
    for ms in [300, 900] {
        set_timeout(ping, Duration::from_millis(ms));
    }
}

fn acknowledge(now: bool) {
    NET.with_borrow_mut(|net| {
        let due = net.last_event - net.acked;
        if net.greeted && (due >= ACK_EVERY || now && due > 0) {
            net.acked = net.last_event;
            net.write(&ClientMessage::Ack(Ack {
                event: net.last_event,
            }));
        }
    });
}

fn ping() {
    send(&ClientMessage::Ping(Ping {
        t: Some(dom::now().into()),
    }));
}

/// Is the connection alive? After sleep or a change of network a dead one may look open for minutes.
fn probe(app: App) {
    if !online() {
        if matches!(app.link.get_untracked(), Link::Connecting | Link::Lost) {
            NET.with_borrow_mut(|net| net.attempts = 0);
            open(app);
        }
        return;
    }
    let asked = dom::now();
    let generation = NET.with_borrow(|net| net.generation);
    ping();
    set_timeout(
        move || {
            let silent =
                NET.with_borrow(|net| net.generation == generation && net.last_heard < asked);
            if silent {
                app.link.set(Link::Lost);
                open(app);
            }
        },
        PONG_WITHIN,
    );
}
