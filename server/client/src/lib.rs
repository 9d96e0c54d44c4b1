//! A client of the socket as the page is one: it keeps to the upload window, reads everything, and looks at its own clock. It
//! knows the messages and nothing of what answers them.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use wire::{
    Ask, ClientMessage, Done, ErrorCode, ImageEncoded, ImageReady, Limits, Sampling,
    ServerEnvelope, ServerMessage, State, Upload, UploadReceived, Welcome, frame,
};

/// Longer silence means that the server is lost.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a round could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the connection failed ({0})")]
    Connection(#[from] Box<tungstenite::Error>),
    #[error("the server closed the connection")]
    Closed,
    #[error("nothing came for {} s", PATIENCE.as_secs())]
    Silence,
    #[error("a message could not be read or written as JSON ({0})")]
    Json(#[from] serde_json::Error),
    #[error("{}: {}", .0.failure.code, .0.failure.message)]
    Refused(Box<wire::Error>),
}

impl Failure {
    /// A code to count failures by: the server's, or the kind of the client's own.
    pub fn code(&self) -> &'static str {
        match self {
            Failure::Connection(_) => "connection",
            Failure::Closed => "closed",
            Failure::Silence => "silence",
            Failure::Json(_) => "json",
            Failure::Refused(error) => error.failure.code.as_str(),
        }
    }

    /// How long the server asks to wait before another attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Refused(error) => error
                .failure
                .retry_after_ms
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
            _ => None,
        }
    }
}

impl From<tungstenite::Error> for Failure {
    fn from(error: tungstenite::Error) -> Self {
        Failure::Connection(Box::new(error))
    }
}

/// One user's connection.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub welcome: Welcome,
    /// The trace that each question is a part of, as W3C Trace Context writes it.
    pub traceparent: Option<String>,
    /// The system turn of its conversations, told with each upload.
    pub system: Option<String>,
    last_event: Option<u64>,
    uploads: u32,
    requests: u64,
    /// Came while something else was waited for.
    ready: Option<ImageReady>,
    encoded: Option<(Instant, ImageEncoded)>,
}

/// A picture that arrived.
pub struct Sent {
    pub upload: u32,
    /// When `upload` was sent.
    pub started: Instant,
    /// When `upload_received` was read.
    pub received: Instant,
    pub image: UploadReceived,
}

/// An answer, by the client's clock.
pub struct Answer {
    pub asked: Instant,
    /// When each `token` was read.
    pub tokens: Vec<Instant>,
    pub finished: Instant,
    pub text: String,
    /// What the server said at its end.
    pub done: Option<Done>,
}

impl Answer {
    /// Milliseconds from the question to the first token.
    pub fn first_token_ms(&self) -> f64 {
        ms(self.asked, *self.tokens.first().unwrap_or(&self.finished))
    }

    pub fn total_ms(&self) -> f64 {
        ms(self.asked, self.finished)
    }

    /// Between one `token` and the next, in ms.
    pub fn gaps_ms(&self) -> impl Iterator<Item = f64> {
        self.tokens.windows(2).map(|pair| ms(pair[0], pair[1]))
    }

    /// What a token took after the first, on average over the answer: single gaps are often 0, since what a busy machine
    /// sends in two pieces is read as one.
    pub fn per_token_ms(&self) -> Option<f64> {
        let (first, last) = (*self.tokens.first()?, *self.tokens.last()?);
        let gaps = self.tokens.len().checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some(ms(first, last) / gaps as f64)
    }

    /// The longest time between one `token` and the next, over the median; none where half of them were read with others.
    pub fn gap_ratio(&self) -> Option<f64> {
        let mut gaps: Vec<f64> = self.gaps_ms().collect();
        gaps.sort_by(f64::total_cmp);
        let median = *gaps.get(gaps.len() / 2)?;
        Some(gaps.last()? / median).filter(|ratio| ratio.is_finite())
    }

    /// The conversation that it belongs to.
    pub fn conversation(&self) -> &str {
        self.done.as_ref().map_or("", |done| &done.conversation)
    }

    /// The server's own times.
    pub fn timings(&self) -> wire::AnswerTimings {
        self.done
            .as_ref()
            .map_or_else(Default::default, |done| done.timings)
    }
}

/// The picture that a question is about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    Upload(u32),
    Conversation(&'a str),
}

pub fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}

impl Client {
    /// Connects and waits for `welcome`; then, if the model still loads, until it is ready.
    ///
    /// # Errors
    /// If there is no such server, or its model can't be loaded.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(wire::PROTOCOL),
        );
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, None, true).await?;
        let mut client = Client {
            socket,
            welcome: Welcome {
                session: String::new(),
                protocol: String::new(),
                resumed: None,
                reason: None,
                state: State::Loading,
                model: wire::Model::default(),
                limits: Limits::default(),
                formats: Vec::new(),
                sampling: None,
            },
            traceparent: None,
            system: None,
            last_event: None,
            uploads: 0,
            requests: 0,
            ready: None,
            encoded: None,
        };
        loop {
            match client.next().await?.1 {
                ServerMessage::Welcome(welcome) => {
                    client.welcome = *welcome;
                    return Ok(client);
                }
                ServerMessage::Error(error) => return Err(Failure::Refused(Box::new(error))),
                _ => {}
            }
        }
    }

    /// Waits until the model is ready; returns when that was read.
    ///
    /// # Errors
    /// If it never will be.
    pub async fn until_ready(&mut self) -> Result<Instant, Failure> {
        let mut now = Instant::now();
        while self.welcome.state != State::Ready {
            if matches!(self.welcome.state, State::Failed | State::Draining) {
                let message = "The server is not serving: its log says why.";
                let failure = wire::Failure::new(ErrorCode::WorkerFailed, message);
                return Err(Failure::Refused(Box::new(failure.into())));
            }
            if let (at, ServerMessage::Status(status)) = self.next().await? {
                self.welcome.state = status.state;
                now = at;
            }
        }
        Ok(now)
    }

    async fn send(&mut self, message: &ClientMessage) -> Result<(), Failure> {
        let text = serde_json::to_string(message)?;
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// The next message, and when it was read.
    async fn next(&mut self) -> Result<(Instant, ServerMessage), Failure> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .map_err(|_| Failure::Silence)?
                .ok_or(Failure::Closed)??;
            let at = Instant::now();
            match message {
                Message::Text(text) => {
                    let envelope: ServerEnvelope = serde_json::from_str(&text)?;
                    self.last_event = envelope.event.or(self.last_event);
                    return Ok((at, envelope.message));
                }
                Message::Close(_) => return Err(Failure::Closed),
                _ => {}
            }
        }
    }

    /// Reads on until `wanted` finds what it looks for; keeps what is told of pictures meanwhile.
    async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(Instant, &ServerMessage) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            let (at, message) = self.next().await?;
            if let Some(found) = wanted(at, &message) {
                return Ok(found);
            }
            match message {
                ServerMessage::ImageReady(ready) => self.ready = Some(ready),
                ServerMessage::ImageEncoded(encoded) => self.encoded = Some((at, encoded)),
                ServerMessage::Error(error) => return Err(Failure::Refused(Box::new(error))),
                _ => {}
            }
        }
    }

    /// Sends a picture, never more than the window ahead of what the server has.
    ///
    /// # Errors
    /// If it was refused.
    pub async fn upload(&mut self, bytes: &[u8]) -> Result<Sent, Failure> {
        self.uploads += 1;
        let upload = self.uploads;
        let window = self.welcome.limits.upload_window.max(1);
        (self.ready, self.encoded) = (None, None);
        let started = Instant::now();
        self.send(&ClientMessage::Upload(Upload {
            upload,
            bytes: bytes.len() as u64,
            system: self.system.clone(),
            ..Upload::default()
        }))
        .await?;
        let mut received = 0;
        for (number, piece) in bytes.chunks(frame::MAX_PAYLOAD).enumerate() {
            let end = (number * frame::MAX_PAYLOAD + piece.len()) as u64;
            while end - received > window {
                received = self
                    .until(|_, message| match message {
                        ServerMessage::UploadProgress(progress) => Some(progress.received),
                        _ => None,
                    })
                    .await?;
            }
            let frame = frame::encode(upload, piece);
            self.socket.send(Message::binary(frame)).await?;
        }
        let (received, image) = self
            .until(|at, message| match message {
                ServerMessage::UploadReceived(image) => Some((at, image.clone())),
                _ => None,
            })
            .await?;
        Ok(Sent {
            upload,
            started,
            received,
            image,
        })
    }

    /// Waits for `image_ready`.
    ///
    /// # Errors
    /// If the picture is none.
    pub async fn image_ready(&mut self) -> Result<ImageReady, Failure> {
        match self.ready.take() {
            Some(ready) => Ok(ready),
            None => {
                self.until(|_, message| match message {
                    ServerMessage::ImageReady(ready) => Some(ready.clone()),
                    _ => None,
                })
                .await
            }
        }
    }

    /// Waits for `image_encoded`, and tells when it was read. With eager encoding off it comes only after a question.
    ///
    /// # Errors
    /// If the picture can't be encoded.
    pub async fn image_encoded(&mut self) -> Result<(Instant, ImageEncoded), Failure> {
        match self.encoded.take() {
            Some(encoded) => Ok(encoded),
            None => {
                self.until(|at, message| match message {
                    ServerMessage::ImageEncoded(encoded) => Some((at, encoded.clone())),
                    _ => None,
                })
                .await
            }
        }
    }

    /// Asks, and reads the whole answer. Greedy: the same question has the same answer in every round.
    ///
    /// # Errors
    /// If it was refused or failed.
    pub async fn ask(
        &mut self,
        about: About<'_>,
        text: &str,
        max_new_tokens: u64,
    ) -> Result<Answer, Failure> {
        let [answer] = self.ask_at_once([about], text, max_new_tokens).await?;
        Ok(answer)
    }

    /// Asks several things at once, and reads all the answers.
    ///
    /// # Errors
    /// If one was refused or failed.
    pub async fn ask_at_once<const N: usize>(
        &mut self,
        about: [About<'_>; N],
        text: &str,
        max_new_tokens: u64,
    ) -> Result<[Answer; N], Failure> {
        let first = self.requests;
        self.requests += N as u64;
        let asked = Instant::now();
        for (index, about) in about.into_iter().enumerate() {
            let (upload, conversation) = match about {
                About::Upload(upload) => (Some(upload), None),
                About::Conversation(conversation) => (None, Some(conversation.to_owned())),
            };
            self.send(&ClientMessage::Ask(Box::new(Ask {
                request: (first + index as u64).to_string(),
                text: text.to_owned(),
                conversation,
                upload,
                sampling: Some(Sampling {
                    temperature: Some(0.0),
                    max_new_tokens: Some(max_new_tokens),
                    ..Sampling::default()
                }),
                system: self.system.clone(),
                traceparent: self.traceparent.clone(),
                ..Ask::default()
            })))
            .await?;
        }
        let mut answers = [(); N].map(|()| Answer {
            asked,
            tokens: Vec::new(),
            finished: asked,
            text: String::new(),
            done: None,
        });
        let place = |request: &str| {
            let number = request.parse::<u64>().ok()?;
            usize::try_from(number.checked_sub(first)?).ok()
        };
        let mut open = N;
        self.until(|at, message| {
            match message {
                ServerMessage::Token(token) => {
                    let answer = answers.get_mut(place(&token.request)?)?;
                    answer.tokens.push(at);
                    answer.text.push_str(&token.text);
                }
                ServerMessage::Done(done) => {
                    let answer = answers.get_mut(place(&done.request)?)?;
                    answer.finished = at;
                    answer.done = Some((**done).clone());
                    open -= 1;
                }
                _ => {}
            }
            (open == 0).then_some(())
        })
        .await?;
        Ok(answers)
    }

    /// Acknowledges what was read, as a client that lives long must.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn acknowledge(&mut self) -> Result<(), Failure> {
        match self.last_event {
            Some(event) => self.send(&ClientMessage::Ack(wire::Ack { event })).await,
            None => Ok(()),
        }
    }

    /// Ends the session: the server forgets it at once.
    pub async fn close(mut self) {
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        // Whoever leaves does not care how it went.
        if self.socket.close(Some(normal)).await.is_ok() {
            let rest = async { while let Some(Ok(_)) = self.socket.next().await {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        }
    }
}
