//! What the scheduler is asked in the place of clients, by numbers; and what a worker knows of its device.

use std::time::Duration;

use api::{Ask, Asker, ConversationId, PictureKey, RequestId, SamplingParams, SessionId, Shown};
use engine::step_timings::StepTimings;

use super::{Asked, TOKEN};
use crate::card::{Card, StageTimes};

/// What a worker has learnt of its device once it has warmed up.
pub fn warmed_up(card: &Card, times: &StageTimes) -> StepTimings {
    let mut timings = StepTimings::new(1);
    let ns = Duration::from_nanos;
    for answers in 1..=card.slots {
        timings.forward(ns(times.reference(answers)), answers, answers);
    }
    // A question beside one answer.
    let rows = card.prompt_ms.first().map_or(20, |(rows, _)| *rows).max(20);
    timings.forward(ns(times.pass(1, card.step_entries, rows)), rows + 1, 1);
    timings.vision(0, ns(times.tower(card.stage_rows as u64)), card.stage_rows);
    let entries = card.opening_entries.into();
    timings.prefilled(
        ns(times.picture(entries, card.layers)),
        entries,
        card.layers,
        card.layers,
    );
    timings
}

pub fn asker(session: u32) -> Asker {
    Asker {
        client: session.into(),
        session: SessionId::new(session.into()),
    }
}

/// A session's picture.
pub fn key(session: u32, picture: u32) -> PictureKey {
    let mut sha256 = [0; 32];
    sha256[..4].copy_from_slice(&session.to_be_bytes());
    sha256[4..8].copy_from_slice(&picture.to_be_bytes());
    PictureKey {
        session: Some(SessionId::new(session.into())),
        sha256,
    }
}

pub fn numbers(key: PictureKey) -> (u32, u32) {
    let number = |at: usize| {
        let bytes = &key.sha256[at..at + 4];
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    };
    (number(0), number(4))
}

pub fn question(asked: &Asked) -> Ask {
    let conversation = u128::from(asked.session) << 32 | u128::from(asked.picture);
    let shown = Shown {
        key: key(asked.session, asked.picture),
        shape: (1, 1),
        turn: 0,
    };
    Ask {
        asker: asker(asked.session),
        conversation: ConversationId::new(conversation),
        request: RequestId::new(asked.request.into()),
        attempt: asked.attempt,
        system: String::new(),
        pictures: vec![shown],
        history: Vec::new(),
        question: String::new(),
        sampling: SamplingParams::default(),
        format: None,
        logprobs: None,
        background: false,
        so_far: vec![TOKEN; asked.said as usize],
        credit: u32::MAX,
        waited_ms: 0.0,
        left_ms: 0.0,
        traceparent: None,
    }
}
