//! A server as the protocol describes it, which complains of whatever a page must not say.

use std::collections::{BTreeMap, HashMap};

use wire::{
    AnswerTimings, Ask, ClientMessage, Done, EncodeTimings, ErrorCode, Failure, FinishReason,
    ImageEncoded, ImageReady, ImageTimings, Limits, Model, Pong, Queued, Sampling, ServerEnvelope,
    ServerMessage, Started, Token, UploadAccepted, UploadReceived, Usage, Welcome,
};

pub const WINDOW: u64 = 3 * 65_536;

/// What the server answers to a question, piece by piece.
pub fn answer(question: &str) -> Vec<String> {
    let pieces = 2 + question.len() % 4;
    (0..pieces)
        .map(|i| format!("{i} of {question}; "))
        .collect()
}

#[derive(Default)]
struct Upload {
    bytes: u64,
    received: u64,
    image: Option<String>,
}

#[derive(PartialEq)]
enum Stage {
    Waiting,
    Running(usize),
    Over,
}

struct Asked {
    ask: Ask,
    conversation: String,
    stage: Stage,
    said: String,
    /// It stands in the history.
    entered: bool,
}

#[derive(Default)]
struct Session {
    events: Vec<ServerMessage>,
    acked: u64,
    uploads: BTreeMap<u32, Upload>,
    asks: Vec<Asked>,
    /// The upload that a conversation is about, and what it remembers.
    conversations: HashMap<String, (u32, Vec<wire::Turn>)>,
}

#[derive(Default)]
pub struct Server {
    sessions: HashMap<String, Session>,
    /// The session of the connection.
    connected: Option<String>,
    count: u64,
    /// What it says that it reads.
    pub formats: Vec<String>,
    /// Until then it takes no question.
    pub loading: f64,
    /// It has refused a question by that.
    pub refused: bool,
    /// What it has said and the page has not heard.
    pub said: Vec<ServerEnvelope>,
    /// The requests that were new to it, by their text.
    pub asked: Vec<(String, String)>,
    pub at: f64,
}

impl Server {
    fn session(&mut self) -> &mut Session {
        let id = self.connected.clone().expect("connected");
        self.sessions.get_mut(&id).expect("a session")
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Says something that is no event.
    fn tell(&mut self, message: ServerMessage) {
        self.said.push(ServerEnvelope {
            at: self.at,
            event: None,
            message,
        });
    }

    /// Says an event in a session, or keeps it for a resume.
    fn event(&mut self, id: &str, message: ServerMessage) {
        let session = self.sessions.get_mut(id).expect("a session");
        session.events.push(message.clone());
        let event = Some(session.events.len() as u64);
        if self.connected.as_deref() == Some(id) {
            self.said.push(ServerEnvelope {
                at: self.at,
                event,
                message,
            });
        }
    }

    /// The connection is gone.
    pub fn cut(&mut self) {
        self.connected = None;
        self.said.clear();
    }

    /// The session of the connection is over.
    pub fn close(&mut self) {
        let over = self.connected.take();
        self.sessions.retain(|id, _| over.as_ref() != Some(id));
    }

    /// It begins anew, and knows nothing.
    pub fn restart(&mut self) {
        self.cut();
        self.sessions.clear();
    }

    /// What a conversation of the connected session remembers.
    pub fn remembers(&self, conversation: &str) -> Option<&[wire::Turn]> {
        let session = self.sessions.get(self.connected.as_deref()?)?;
        session.conversations.get(conversation).map(|c| &*c.1)
    }

    /// How much of an upload of the connected session has come, and how much it is.
    pub fn received(&self, number: u32) -> Option<(u64, u64)> {
        let session = self.sessions.get(self.connected.as_deref()?)?;
        let upload = session.uploads.get(&number)?;
        Some((upload.received, upload.bytes))
    }

    pub fn hear(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Hello(hello) => self.greet(hello.resume),
            ClientMessage::Ping(ping) => self.tell(ServerMessage::Pong(Pong { t: ping.t })),
            ClientMessage::Ack(ack) => {
                let session = self.session();
                assert!(session.acked <= ack.event);
                assert!(ack.event <= session.events.len() as u64);
                session.acked = ack.event;
            }
            ClientMessage::Upload(upload) => {
                let number = upload.upload;
                let known = self.session().uploads.entry(number).or_default();
                assert!(known.bytes == 0 || known.bytes == upload.bytes);
                known.bytes = upload.bytes;
                let received = known.received;
                self.tell(ServerMessage::UploadAccepted(UploadAccepted {
                    upload: number,
                    received,
                }));
            }
            ClientMessage::Ask(ask) => self.asked(*ask),
            ClientMessage::Cancel(cancel) => {
                assert!(cancel.request.is_some() != cancel.upload.is_some());
                if let Some(request) = cancel.request {
                    self.cancelled(&request);
                }
            }
            ClientMessage::Forget(_) => {}
        }
    }

    fn greet(&mut self, resume: Option<wire::Resume>) {
        assert!(self.connected.is_none(), "a second hello");
        let resumed = resume.as_ref().map(|resume| {
            let session = self.sessions.get(&resume.session);
            session.is_some_and(|session| {
                assert!(resume.last_event >= session.acked);
                resume.last_event <= session.events.len() as u64
            })
        });
        let id = match (&resume, resumed) {
            (Some(resume), Some(true)) => resume.session.clone(),
            _ => format!("s{}", self.number()),
        };
        let session = self.sessions.entry(id.clone()).or_default();
        let seen = resume.filter(|_| resumed == Some(true));
        let seen = seen.map_or(0, |resume| resume.last_event as usize);
        let missed: Vec<_> = session
            .events
            .iter()
            .cloned()
            .enumerate()
            .skip(seen)
            .collect();
        self.connected = Some(id.clone());
        self.tell(ServerMessage::Welcome(Box::new(Welcome {
            session: id,
            protocol: wire::PROTOCOL.into(),
            resumed,
            reason: None,
            state: wire::State::Ready,
            model: Model {
                name: "model".into(),
                demo: false,
                image_size: 384,
                max_positions: 8192,
                device: "cpu".into(),
                dtype: "f32".into(),
                quantization: "none".into(),
            },
            limits: Limits {
                upload_window: WINDOW,
                max_new_tokens: 4096,
                text_chars: 8192,
                ..Limits::default()
            },
            formats: self.formats.clone(),
            sampling: Some(Sampling {
                temperature: Some(0.8),
                top_p: Some(0.8),
                max_new_tokens: Some(1024),
                ..Sampling::default()
            }),
        })));
        for (before, message) in missed {
            self.said.push(ServerEnvelope {
                at: self.at,
                event: Some(before as u64 + 1),
                message,
            });
        }
    }

    pub fn frame(&mut self, number: u32, begin: u64, bytes: u64) {
        let upload = self.session().uploads.get_mut(&number);
        let upload = upload.expect("announced");
        if upload.image.is_some() {
            return;
        }
        assert_eq!(upload.received, begin, "out of order");
        upload.received += bytes;
        assert!(upload.received <= upload.bytes);
        let (received, whole) = (upload.received, upload.received == upload.bytes);
        if !whole {
            return self.tell(ServerMessage::UploadProgress(wire::UploadProgress {
                upload: number,
                received,
            }));
        }
        let id = self.connected.clone().expect("connected");
        let image = format!("i{}", self.number());
        let upload = self.session().uploads.get_mut(&number).expect("announced");
        upload.image = Some(image.clone());
        let bytes = upload.bytes;
        self.event(
            &id,
            ServerMessage::UploadReceived(UploadReceived {
                upload: number,
                image: image.clone(),
                bytes,
                sha256: format!("{bytes:064}"),
                cached: false,
            }),
        );
        self.event(
            &id,
            ServerMessage::ImageReady(ImageReady {
                image: image.clone(),
                width: 640,
                height: 480,
                format: "png".into(),
                frame: None,
                timings: ImageTimings::default(),
                cached: false,
            }),
        );
        self.event(
            &id,
            ServerMessage::ImageEncoded(ImageEncoded {
                image,
                tokens: 9,
                timings: EncodeTimings::default(),
                cached: false,
            }),
        );
    }

    fn asked(&mut self, ask: Ask) {
        assert!(!wire::is_blank(&ask.text));
        let id = self.connected.clone().expect("connected");
        let before = self.session().asks.iter();
        if let Some(same) = before
            .map(|asked| &asked.ask)
            .find(|before| before.request == ask.request)
        {
            assert_eq!(*same, ask, "a request's id used twice");
            return;
        }
        self.asked.push((ask.request.clone(), ask.text.clone()));
        if self.at < self.loading {
            self.refused = true;
            let failure = Failure::new(ErrorCode::Loading, "Still loading.").retry_after(300.0);
            let error = wire::Error {
                request: Some(ask.request),
                ..failure.into()
            };
            return self.event(&id, ServerMessage::Error(error));
        }
        let new = format!("c{}", self.number());
        let session = self.session();
        let conversation = match &ask.conversation {
            Some(conversation) => {
                assert!(ask.upload.is_none() && ask.image.is_none());
                assert!(session.conversations.contains_key(conversation));
                conversation.clone()
            }
            None => {
                let upload = match (&ask.upload, &ask.image) {
                    (Some(upload), None) => *upload,
                    (None, Some(image)) => {
                        let mut uploads = session.uploads.iter();
                        let of = uploads.find(|(_, upload)| upload.image.as_ref() == Some(image));
                        *of.expect("an image of this session").0
                    }
                    named => panic!("a conversation about {named:?}"),
                };
                assert!(session.uploads.contains_key(&upload));
                session
                    .conversations
                    .insert(new.clone(), (upload, Vec::new()));
                new
            }
        };
        let queued = Queued {
            request: ask.request.clone(),
            conversation: conversation.clone(),
            position: Some(0),
        };
        session.asks.push(Asked {
            ask,
            conversation,
            stage: Stage::Waiting,
            said: String::new(),
            entered: false,
        });
        self.event(&id, ServerMessage::Queued(queued));
    }

    fn cancelled(&mut self, request: &str) {
        let id = self.connected.clone().expect("connected");
        let mut asks = self.session().asks.iter();
        let at = asks.position(|a| a.ask.request == request && a.stage != Stage::Over);
        if let Some(at) = at {
            self.end(&id, at, FinishReason::Cancelled);
        }
    }

    fn end(&mut self, id: &str, at: usize, finish_reason: FinishReason) {
        let session = self.sessions.get_mut(id).expect("a session");
        let asked = &mut session.asks[at];
        asked.stage = Stage::Over;
        let done = Done {
            request: asked.ask.request.clone(),
            conversation: asked.conversation.clone(),
            finish_reason,
            usage: Usage::default(),
            timings: AnswerTimings::default(),
        };
        // It has its place in the history behind those before it, be it over earlier.
        let (_, history) = session
            .conversations
            .get_mut(&done.conversation)
            .expect("a conversation");
        let of = |asked: &&mut Asked| asked.conversation == done.conversation;
        let over = |asked: &&mut Asked| asked.stage == Stage::Over;
        for asked in session.asks.iter_mut().filter(of).take_while(over) {
            if std::mem::replace(&mut asked.entered, true) {
                continue;
            }
            if let Some(given) = &asked.ask.history {
                history.clone_from(given);
            }
            if !asked.said.is_empty() {
                history.push(wire::Turn {
                    question: asked.ask.text.clone(),
                    answer: asked.said.clone(),
                });
            }
        }
        self.event(id, ServerMessage::Done(Box::new(done)));
    }

    /// Goes on with the first question that can go on; whether there was one. Nobody has to be connected.
    pub fn step(&mut self) -> bool {
        let mut ids: Vec<_> = self.sessions.keys().cloned().collect();
        ids.sort();
        for id in ids {
            let session = &self.sessions[&id];
            let ready = |asked: &Asked| {
                let first = session.asks.iter().find(|other| {
                    other.conversation == asked.conversation && other.stage != Stage::Over
                });
                let upload = session.conversations[&asked.conversation].0;
                asked.stage != Stage::Over
                    && first.is_some_and(|first| first.ask.request == asked.ask.request)
                    && session.uploads[&upload].image.is_some()
            };
            let Some(at) = session.asks.iter().position(ready) else {
                continue;
            };
            let session = self.sessions.get_mut(&id).expect("a session");
            let asked = &mut session.asks[at];
            let request = asked.ask.request.clone();
            let pieces = answer(&asked.ask.text);
            match asked.stage {
                Stage::Waiting => {
                    asked.stage = Stage::Running(0);
                    self.event(&id, ServerMessage::Started(Started { request }));
                }
                Stage::Running(index) if index < pieces.len() => {
                    asked.stage = Stage::Running(index + 1);
                    asked.said.push_str(&pieces[index]);
                    let token = Token {
                        request,
                        index: index as u64,
                        text: pieces[index].clone(),
                        tokens: Vec::new(),
                    };
                    self.event(&id, ServerMessage::Token(token));
                }
                _ => self.end(&id, at, FinishReason::Stop),
            }
            return true;
        }
        false
    }
}
