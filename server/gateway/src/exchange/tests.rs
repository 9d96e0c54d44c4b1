//! Requests with an engine that the test itself plays.

use std::io::Cursor;
use std::net::Ipv4Addr;

use api::{Ask as Asked, Command, Status};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch as status;
use wire::Turn;

use super::*;
use crate::access::{GuestLimits, Guests, Visit};
use crate::intake::Client;
use crate::session::{File, Sender, Shared};
use crate::stand_in::{self, Player, stand_in};

struct Rig {
    exchanges: Arc<Exchanges>,
    guests: Arc<Guests>,
    player: Player,
    // Dropped, nothing could change any more.
    _status: status::Sender<Status>,
}

fn rig() -> Rig {
    let (engine, reports, player) = stand_in();
    let (status, watch) = status::channel(stand_in::ready());
    let options = stand_in::options();
    let shared = Shared::new(engine, None, watch, reports, stand_in::limits(), options).unwrap();
    Rig {
        exchanges: Exchanges::new(Arc::new(Hub::new(shared))),
        guests: Guests::new(Vec::new(), GuestLimits::default(), 10, false),
        player,
        _status: status,
    }
}

impl Rig {
    fn begin(&self, user: Option<&str>, dialogue: Dialogue, settings: &Settings) -> Exchange {
        let client = Client::at(Ipv4Addr::LOCALHOST.into());
        let guest = self.guests.enter(client, false, None, Visit::Request);
        let guest = guest.unwrap();
        let asker = Asker {
            namespace: self.exchanges.namespace(guest.client().number(), user),
            guest,
            owner: None,
        };
        let asked = (self.exchanges).ask(asker, dialogue, settings, Arc::default());
        asked.unwrap()
    }

    fn ask(&self, dialogue: Dialogue) -> Exchange {
        self.begin(None, dialogue, &Settings::default())
    }

    fn picture(&self, shade: u8) -> Picture {
        let mut bytes = Vec::new();
        ::image::RgbImage::from_pixel(6, 4, ::image::Rgb([shade, 0, 0]))
            .write_to(&mut Cursor::new(&mut bytes), ::image::ImageFormat::Png)
            .unwrap();
        let place = self
            .exchanges
            .hub
            .shared
            .budget
            .place(1, Sender::Request(Arc::default()));
        let mut file = File::new(place);
        assert!(file.push(&bytes, bytes.len() as u64));
        Picture {
            source: Source::File(file),
            sha256: Sha256::digest(&bytes).into(),
            region: None,
            turn: 0,
            upload_ms: 0.0,
        }
    }

    /// The next command of a kind.
    fn command<T>(&self, kind: impl Fn(Command) -> Option<T>) -> T {
        loop {
            let next = self.player.commands.recv_timeout(Duration::from_secs(60));
            if let Some(found) = kind(next.expect("the engine hears nothing")) {
                return found;
            }
        }
    }

    fn asked(&self) -> Asked {
        self.command(|command| match command {
            Command::Ask(ask) => Some(*ask),
            _ => None,
        })
    }

    fn tell(&self, ask: &Asked, event: api::Event) {
        self.player.tell(ask.asker.session, event);
    }

    fn answer(&self, ask: &Asked, text: &str) {
        let (request, attempt) = (ask.request, ask.attempt);
        let tokens = api::Event::Tokens {
            request,
            attempt,
            first: 0,
            ids: vec![7, 8],
            text: text.into(),
            logprobs: Vec::new(),
        };
        self.tell(ask, tokens);
        let done = api::Event::Done {
            request,
            attempt,
            finish_reason: wire::FinishReason::Stop,
            usage: wire::Usage::default(),
            timings: wire::AnswerTimings::default(),
        };
        self.tell(ask, done);
    }
}

fn dialogue(turns: &[(&str, &str)], question: &str) -> Dialogue {
    let turns = turns.iter().map(|(question, answer)| Turn {
        question: (*question).into(),
        answer: (*answer).into(),
    });
    Dialogue {
        history: turns.collect(),
        question: question.into(),
        ..Dialogue::default()
    }
}

/// All that an exchange comes to.
async fn said(mut exchange: Exchange) -> Result<Vec<String>, Failure> {
    let mut said = vec![String::new(); exchange.choices.len()];
    while let Some(event) = exchange.next().await {
        if let Event::Token { choice, token } = event? {
            said[choice].push_str(&token.text);
        }
    }
    Ok(said)
}

#[tokio::test]
async fn a_conversation_goes_on_in_its_session() {
    let rig = rig();
    let exchange = rig.ask(Dialogue {
        picture: Some(rig.picture(1)),
        ..dialogue(&[], "One?")
    });
    let first = rig.asked();
    rig.answer(&first, "\nyes ");
    assert_eq!(said(exchange).await.unwrap(), ["\nyes "]);
    // Its client trims, and sends the picture again.
    let exchange = rig.ask(Dialogue {
        picture: Some(rig.picture(1)),
        ..dialogue(&[("One?", "yes")], "Two?")
    });
    let second = rig.asked();
    assert_eq!(second.asker.session, first.asker.session);
    assert_eq!(second.conversation, first.conversation);
    assert_eq!(second.history[0].answer_ids, Some(vec![7, 8]));
    assert_eq!(second.pictures, first.pictures);
    drop(exchange);
    // Another conversation about it goes on in the session, but leaves the first alone.
    let _exchange = rig.ask(Dialogue {
        picture: Some(rig.picture(1)),
        ..dialogue(&[], "Else?")
    });
    let other = rig.asked();
    assert_eq!(other.asker.session, first.asker.session);
    assert_ne!(other.conversation, first.conversation);
}

#[tokio::test]
async fn at_once_they_are_in_sessions_of_their_own_that_share_the_picture() {
    let rig = rig();
    let about = |shade, user| {
        let picture = Some(rig.picture(shade));
        let dialogue = Dialogue {
            picture,
            ..dialogue(&[], "What?")
        };
        let exchange = rig.begin(user, dialogue, &Settings::default());
        (exchange, rig.asked())
    };
    let (_one, first) = about(1, None);
    let (_two, second) = about(1, None);
    assert_ne!(first.asker.session, second.asker.session);
    assert_eq!(first.pictures[0].key, second.pictures[0].key);
    let (_three, other) = about(1, Some("somebody else"));
    assert_ne!(first.pictures[0].key, other.pictures[0].key);
}

#[tokio::test]
async fn what_a_session_has_is_not_read_again() {
    let rig = rig();
    let client = Client::at(Ipv4Addr::LOCALHOST.into()).number();
    let own = rig.exchanges.namespace(client, None);
    let others = rig.exchanges.namespace(client, Some("somebody else"));
    let (text, sha256) = ([9; 32], rig.picture(1).sha256);
    rig.exchanges.remember(own, text, sha256);
    // Nobody has it yet.
    assert_eq!(rig.exchanges.recall(own, &text), None);
    let exchange = rig.ask(Dialogue {
        picture: Some(rig.picture(1)),
        ..dialogue(&[], "One?")
    });
    let first = rig.asked();
    rig.answer(&first, "yes");
    said(exchange).await.unwrap();
    assert_eq!(rig.exchanges.recall(own, &text), Some(sha256));
    assert_eq!(rig.exchanges.recall(others, &text), None);

    let known = |read: bool| {
        let Picture { source, .. } = rig.picture(1);
        let found = move || match source {
            Source::File(file) if read => Ok(file),
            _ => panic!("it was read"),
        };
        Picture {
            source: Source::Known(Box::new(found)),
            ..rig.picture(1)
        }
    };
    let exchange = rig.ask(Dialogue {
        picture: Some(known(false)),
        ..dialogue(&[("One?", "yes")], "Two?")
    });
    let second = rig.asked();
    assert_eq!(second.asker.session, first.asker.session);
    assert_eq!(second.pictures, first.pictures);
    // While that session is at work there is none that has it, so that it is read.
    assert_eq!(rig.exchanges.recall(own, &text), None);
    let _other = rig.ask(Dialogue {
        picture: Some(known(true)),
        ..dialogue(&[], "Else?")
    });
    let third = rig.asked();
    assert_ne!(third.asker.session, first.asker.session);
    assert_eq!(third.pictures[0].key, first.pictures[0].key);
    drop(exchange);
}

#[tokio::test]
async fn what_is_dropped_is_cancelled() {
    let rig = rig();
    let settings = Settings {
        choices: 2,
        ..Settings::default()
    };
    let exchange = rig.begin(None, dialogue(&[], "What?"), &settings);
    let both = [rig.asked(), rig.asked()];
    assert_ne!(both[0].conversation, both[1].conversation);
    rig.answer(&both[0], "a");
    // The first answer's end is read, the second is on its way.
    let mut exchange = exchange;
    while !matches!(
        exchange.next().await,
        Some(Ok(Event::Done { choice: 0, .. }))
    ) {}
    drop(exchange);
    let cancelled = rig.command(|command| match command {
        Command::Cancel { request, .. } => Some(request),
        _ => None,
    });
    assert_eq!(cancelled, both[1].request);
    // The session goes on all the same.
    let _exchange = rig.ask(dialogue(&[("What?", "a")], "And?"));
    assert_eq!(rig.asked().conversation, both[0].conversation);
}

#[tokio::test]
async fn a_conversation_that_was_let_go_begins_anew() {
    let rig = rig();
    let exchange = rig.ask(dialogue(&[], "One?"));
    let first = rig.asked();
    rig.answer(&first, "1");
    said(exchange).await.unwrap();
    // As where memory is short.
    let namespace = Namespace {
        client: first.asker.client,
        user: 0,
    };
    let parked = rig.exchanges.pool.lock().take(namespace, None, None, &[]);
    let (resume, held) = parked.unwrap();
    let connection = rig.exchanges.hub.resume(&resume, None).unwrap();
    let forget = Forget {
        conversation: Some(held.conversations[0].id.clone()),
        image: None,
    };
    connection.text(Ok(ClientMessage::Forget(forget)), || Ok(()));
    connection.detach();
    let now = Instant::now();
    (rig.exchanges.pool.lock()).park(namespace, resume, held, now);
    let exchange = rig.ask(dialogue(&[("One?", "1")], "Two?"));
    // The refusal is read, and the question asked anew.
    let answered = tokio::join!(said(exchange), async {
        let second = loop {
            tokio::task::yield_now().await;
            if let Ok(Command::Ask(ask)) = rig.player.commands.try_recv() {
                break ask;
            }
        };
        assert_eq!(second.asker.session, first.asker.session);
        assert_ne!(second.conversation, first.conversation);
        assert_eq!(second.history.len(), 1);
        rig.answer(&second, "2");
    });
    assert_eq!(answered.0.unwrap(), ["2"]);
}

#[tokio::test]
async fn a_picture_that_is_none_is_said_to_be_so() {
    let rig = rig();
    let place = rig
        .exchanges
        .hub
        .shared
        .budget
        .place(1, Sender::Request(Arc::default()));
    let mut file = File::new(place);
    assert!(file.push(b"no picture", 10));
    let exchange = rig.ask(Dialogue {
        picture: Some(Picture {
            source: Source::File(file),
            sha256: [1; 32],
            region: None,
            turn: 0,
            upload_ms: 0.0,
        }),
        ..dialogue(&[], "What?")
    });
    let failure = said(exchange).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ImageUnsupported);
}
