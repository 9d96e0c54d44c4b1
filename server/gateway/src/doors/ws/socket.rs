//! A connection: actix's WebSocket on one side, a session's [`Connection`] on the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, Message, ProtocolError};
use bytestring::ByteString;
use futures_util::{FutureExt, Sink};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep_until, timeout};
use wire::{ClientMessage, ErrorCode, Reason, ServerMessage, close};

use super::codec;
use super::ending::{
    CLOSE_PATIENCE, End, again, bad_frame, broken, draining, last_words, leave, locked_out,
    refused, taken_over, too_big, too_slow, without_key,
};
use super::frames::FrameError;
use super::guard::{CloseCause, ConnectionGuard};
use crate::access::{Guest, Login};
use crate::intake::{KeyId, retry};
use crate::session::{Connection, Hub, Outgoing, Phase, StatusWatch, seconds};
use api::Failure;

/// The longest `hello` before a key was seen.
pub const HELLO_BYTES: u64 = 4096;
/// How long a client may take to send one.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How late a timer rings when the process stood still, or had no time for it: then nobody was heard meanwhile, and nobody is
/// blamed for it.
pub const LATE: Duration = Duration::from_secs(1);
/// How long a client may take, when the server ends, to read what was still to be said.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A message of more bytes takes a while to be read.
const LONG: usize = 4096;

/// One connection's life.
pub struct Socket {
    guest: Guest,
    hub: Arc<Hub>,
    ws: actix_ws::Session,
    stream: AggregatedMessageStream,
    verdict: Rc<ConnectionGuard>,
    connection: Connection,
    /// A message taken from the outbox that the socket has no room for yet.
    text: Option<ByteString>,
    /// The answer to the latest ping.
    pong: Option<Message>,
    /// No message was read yet.
    first: bool,
    heard: Instant,
    pinged: Instant,
    /// Since when too much is unsent.
    full_since: Option<Instant>,
    /// The server ends: when this connection does, at the latest.
    closing: Option<Instant>,
}

impl Socket {
    /// Serves a connection until it ends.
    pub async fn serve(
        hub: Arc<Hub>,
        mut ws: actix_ws::Session,
        mut stream: AggregatedMessageStream,
        verdict: Rc<ConnectionGuard>,
        login: Login,
        mut keys: watch::Receiver<u64>,
    ) {
        if hub.shared.phase() != Phase::Serving {
            let error = Failure::new(
                ErrorCode::Draining,
                "The server is shutting down: connect again in a moment.",
            )
            .retry_after(retry::DRAINING);
            return leave(ws, &mut stream, End::Refuse(error, close::DRAINING)).await;
        }
        let (guest, owner, hello) = match admit(&hub, login, &mut stream, &verdict).await {
            Ok(admitted) => admitted,
            Err(end) => return leave(ws, &mut stream, end).await,
        };
        guest.settle();
        // From before the welcome, so that no change after it is missed.
        let status = hub.shared.watch();
        let connection = match hub.open(owner, guest.client(), None) {
            Ok(connection) => connection,
            Err(problem) => {
                tracing::error!(%problem, "no randomness for a session id");
                let message = "The server could not make a session: try again.";
                let end = End::Refuse(Failure::new(ErrorCode::Internal, message), 1011);
                return leave(ws, &mut stream, end).await;
            }
        };
        // Ping once at the start: a client that answers tells that its pongs work.
        let _ = ws.ping(b"").await;
        let now = Instant::now();
        let mut socket = Socket {
            guest,
            hub,
            ws,
            stream,
            verdict,
            connection,
            text: None,
            pong: None,
            first: true,
            heard: now,
            pinged: now,
            full_since: None,
            closing: None,
        };
        let mut over = None;
        if let Some(hello) = hello {
            socket.first = false;
            over = socket.hello(hello).await;
            socket.hub.keep(&socket.connection);
        }
        let end = match over {
            Some(end) => end,
            None => socket.run(status, &mut keys).await,
        };
        tracing::debug!(
            session = socket.connection.tag(),
            ?end,
            "a connection ended"
        );
        match end {
            End::Finished => socket.hub.close(&socket.connection),
            _ if socket.is_locked_out() => socket.hub.close(&socket.connection),
            _ => {
                socket.connection.detach();
                socket.hub.keep(&socket.connection);
            }
        }
        let Socket {
            ws,
            mut stream,
            verdict,
            ..
        } = socket;
        if end == End::Evict {
            // What was collected goes first of all.
            drop(stream);
            last_words(ws, end).await;
            let _ = timeout(CLOSE_PATIENCE, verdict.drain()).await;
        } else {
            leave(ws, &mut stream, end).await;
        }
    }

    /// Whether the key that the session was opened with is no longer one.
    fn is_locked_out(&self) -> bool {
        let owner = self.connection.owner();
        owner.is_some_and(|owner| !self.guest.guests().has(owner))
    }

    async fn run(&mut self, mut status: StatusWatch, keys: &mut watch::Receiver<u64>) -> End {
        loop {
            if self.text.is_none() {
                match self.connection.next() {
                    Outgoing::Text(text) => self.text = Some(text),
                    Outgoing::Empty if self.closing.is_some() && self.pong.is_none() => {
                        return draining();
                    }
                    Outgoing::Empty | Outgoing::Withheld => {}
                    Outgoing::Evicted => return End::Evict,
                    Outgoing::TooSlow => return too_slow(),
                    Outgoing::TakenOver => return taken_over(),
                    Outgoing::Ended => return End::Close(1000, "the session is over"),
                }
            } else if !self.connection.is_current() {
                return taken_over();
            }
            let full = self.connection.is_full();
            let now = Instant::now();
            if self.full_since.is_some() && !full {
                // Nothing was read for as long as it was full, whatever the client sent; that it reads is a sign of it.
                self.extend_deadlines(now);
            }
            self.full_since = full.then(|| self.full_since.unwrap_or(now));
            let to_send = self.text.is_some() || self.pong.is_some();
            let deadline = match self.deadline(now) {
                Ok(deadline) => deadline,
                Err(end) => return end,
            };
            let (ws, stream) = (&mut self.ws, &mut self.stream);
            let (connection, verdict) = (&self.connection, &self.verdict);
            let step = tokio::select! {
                ready = poll_fn(|context| Pin::new(&mut *ws).poll_ready(context)), if to_send => {
                    Step::Room(ready.is_ok())
                }
                message = stream.recv(), if !full => Step::Read(message),
                fault = verdict.given() => Step::Close(fault),
                () = connection.changed() => Step::Again,
                () = status.changed() => Step::Status,
                Ok(()) = keys.changed() => Step::Keys,
                () = sleep_until(deadline.into()) => Step::Time,
            };
            let now = Instant::now();
            if now.saturating_duration_since(deadline) > LATE {
                self.extend_deadlines(now);
            }
            let end = match step {
                Step::Room(true) => self.send_one(),
                Step::Room(false) => Some(End::Lost),
                Step::Read(message) => {
                    let is_long = matches!(&message, Some(Ok(AggregatedMessage::Text(text))) if text.len() > LONG);
                    let end = self.read(message).await;
                    if is_long {
                        // Others on this thread have their turn before the next.
                        yield_now().await;
                    }
                    end
                }
                Step::Close(CloseCause::FrameError(breach)) => Some(self.judged(breach).await),
                Step::Close(CloseCause::Evicted) => Some(End::Evict),
                Step::Again => None,
                Step::Status => self.status(),
                Step::Keys => self.is_locked_out().then(locked_out),
                Step::Time => self.ping().await,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Nothing could be heard until now: the clocks begin anew.
    fn extend_deadlines(&mut self, now: Instant) {
        self.heard = now;
        self.verdict.extend_deadlines(now);
        self.full_since = self.full_since.map(|_| now);
    }

    /// Puts one waiting message into the room that the socket has.
    fn send_one(&mut self) -> Option<End> {
        let text = &mut self.text;
        let message = self
            .pong
            .take()
            .or_else(|| text.take().map(Message::Text))?;
        let sent = Pin::new(&mut self.ws).start_send(message);
        sent.is_err().then_some(End::Lost)
    }

    async fn read(
        &mut self,
        message: Option<Result<AggregatedMessage, ProtocolError>>,
    ) -> Option<End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(problem)) => return Some(broken(&problem)),
            None => return Some(End::Lost),
        };
        self.heard = Instant::now();
        match message {
            AggregatedMessage::Text(text) => {
                let message = codec::decode(&text);
                let first = std::mem::replace(&mut self.first, false);
                match message {
                    Ok(ClientMessage::Hello(hello)) if first => {
                        if let Some(end) = self.hello(hello).await {
                            return Some(end);
                        }
                    }
                    message => self.connection.text(message, || self.guest.ask()),
                }
                if first {
                    self.hub.keep(&self.connection);
                }
            }
            AggregatedMessage::Binary(bytes) => {
                if std::mem::replace(&mut self.first, false) {
                    self.hub.keep(&self.connection);
                }
                self.connection.binary(&bytes);
            }
            AggregatedMessage::Ping(bytes) => self.pong = Some(Message::Pong(bytes)),
            AggregatedMessage::Pong(_) => {}
            AggregatedMessage::Close(reason) => {
                let normal = reason.is_some_and(|reason| reason.code == CloseCode::Normal);
                return Some(if normal { End::Finished } else { End::Lost });
            }
        }
        None
    }

    /// Reads what came before the frame that broke the rules; then it is over.
    async fn judged(&mut self, breach: FrameError) -> End {
        while let Some(message) = self.stream.recv().now_or_never() {
            if let Some(end) = self.read(message).await {
                return end;
            }
        }
        match breach {
            FrameError::Size => too_big(),
            FrameError::Protocol => bad_frame(),
        }
    }

    /// The first message: goes on with an earlier session if that is asked for and possible.
    async fn hello(&mut self, hello: wire::Hello) -> Option<End> {
        let Some(resume) = hello.resume else {
            let id = self.connection.id();
            self.connection.send(self.hub.welcome(id, None, None));
            return None;
        };
        match self.hub.come_back(&resume, self.connection.owner()).await {
            Ok(connection) => {
                // The session made for this connection was not needed. What it still had to say goes with it.
                self.hub.close(&self.connection);
                self.connection = connection;
                tracing::debug!(session = self.connection.tag(), "a session was resumed");
            }
            Err(Some(reason)) => self.not_resumed(reason),
            Err(None) => return Some(again()),
        }
        None
    }

    fn not_resumed(&mut self, reason: Reason) {
        let id = self.connection.id();
        let welcome = self.hub.welcome(id, Some(false), Some(reason));
        self.connection.send(welcome);
    }

    /// Tells how the server stands.
    fn status(&mut self) -> Option<End> {
        if self.hub.shared.phase() == Phase::Closing {
            // What the session has to say goes first.
            self.closing.get_or_insert(Instant::now() + LAST_WORDS);
            return None;
        }
        let status = wire::Status {
            moving: self.connection.moving(),
            ..self.hub.shared.told_status()
        };
        let told = ServerMessage::Status(Box::new(status));
        self.connection.send(told);
        None
    }

    /// When to look again whether the client is still there.
    fn deadline(&self, now: Instant) -> Result<Instant, End> {
        let limits = &self.hub.shared.limits;
        if let Some(end) = self.closing {
            return if now >= end { Err(draining()) } else { Ok(end) };
        }
        if let Some(since) = self.full_since {
            let end = since + seconds(limits.stall_seconds);
            return if now >= end { Err(too_slow()) } else { Ok(end) };
        }
        let idle = seconds(limits.idle_seconds);
        // Bytes of a message that is not whole yet are heard too, …
        let heard = self.heard.max(self.verdict.heard());
        let mut end = heard + idle;
        if now >= end {
            return Err(End::Close(close::IDLE, "nothing was heard for too long"));
        }
        // … but it may not stand still, whatever comes between its parts.
        if let Some(since) = self.verdict.stalled_since() {
            end = end.min(since + seconds(limits.upload_idle_seconds));
            if now >= end {
                return Err(End::Close(close::IDLE, "a message was not finished"));
            }
        }
        Ok(end.min(self.pinged.max(heard) + idle / 3))
    }

    async fn ping(&mut self) -> Option<End> {
        let now = Instant::now();
        let idle = seconds(self.hub.shared.limits.idle_seconds);
        let heard = self.heard.max(self.verdict.heard());
        if self.full_since.is_some() || now < self.pinged.max(heard) + idle / 3 {
            return None;
        }
        self.pinged = now;
        // Without waiting for room: if there is none, there is traffic enough.
        let room = poll_fn(|context| {
            std::task::Poll::Ready(Pin::new(&mut self.ws).poll_ready(context).is_ready())
        });
        if room.await {
            let ping = Message::Ping(actix_web::web::Bytes::new());
            if Pin::new(&mut self.ws).start_send(ping).is_err() {
                return Some(End::Lost);
            }
        }
        None
    }
}

/// Lets the connection in, if it has the key by now or brings it in its first message. The `hello` comes along if its
/// answer is still due.
async fn admit(
    hub: &Hub,
    login: Login,
    stream: &mut AggregatedMessageStream,
    verdict: &ConnectionGuard,
) -> Result<(Guest, Option<KeyId>, Option<wire::Hello>), End> {
    let guest = match login {
        Login::Open(guest, owner) => return Ok((guest, owner, None)),
        Login::Refused(refusal) => return Err(refused(refusal)),
        Login::NeedsKey(guest) => guest,
    };
    let first = async {
        loop {
            match stream.recv().await {
                Some(Ok(AggregatedMessage::Ping(_) | AggregatedMessage::Pong(_))) => {}
                message => return message,
            }
        }
    };
    let first = tokio::select! {
        first = patiently(HELLO_PATIENCE, first) => first.ok_or_else(without_key)?,
        _ = verdict.given() => return Err(without_key()),
    };
    let hello = match first {
        Some(Ok(AggregatedMessage::Text(text))) => match codec::decode(&text) {
            Ok(ClientMessage::Hello(hello)) => hello,
            _ => return Err(without_key()),
        },
        Some(Ok(AggregatedMessage::Close(_))) | None => return Err(End::Lost),
        Some(Err(problem)) => return Err(broken(&problem)),
        Some(Ok(_)) => return Err(without_key()),
    };
    let (guest, owner) = match Login::with(guest, hello.token.as_deref()) {
        Login::Open(guest, owner) => (guest, owner),
        Login::Refused(refusal) => return Err(refused(refusal)),
        Login::NeedsKey(_) => return Err(without_key()),
    };
    verdict.set_message_bytes(hub.shared.limits.message_bytes);
    verdict.set_client(guest.client().number());
    // Without a resume the session's own welcome is the answer.
    let hello = hello.resume.is_some().then_some(hello);
    Ok((guest, owner, hello))
}

/// Waits for it at most so long, and once more if the process stood still meanwhile.
async fn patiently<T>(patience: Duration, what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    loop {
        let end = Instant::now() + patience;
        if let Ok(found) = timeout(patience, &mut what).await {
            return Some(found);
        }
        if end.elapsed() <= LATE {
            return None;
        }
    }
}

/// What happened first.
enum Step {
    /// The socket has room for a message, or is closed.
    Room(bool),
    Read(Option<Result<AggregatedMessage, ProtocolError>>),
    /// It has to end.
    Close(CloseCause),
    /// The session has something to say.
    Again,
    Status,
    /// The keys were read anew.
    Keys,
    Time,
}
