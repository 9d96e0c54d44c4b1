//! What stands before a picture: a system turn, earlier questions.

use std::sync::atomic::AtomicUsize;

use super::*;

/// An engine, and how many pieces of encoding its pictures it has done.
fn counted(settings: Settings) -> (Served, Arc<AtomicUsize>) {
    let pieces = Arc::new(AtomicUsize::new(0));
    let count = pieces.clone();
    let hook: Hook = Box::new(move |what, _| {
        if what == "picture" {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    (start_several(settings, vec![hook]), pieces)
}

impl Client {
    fn show_behind(&self, shade: u8, system: &str) -> PictureKey {
        let key = self.key(shade);
        self.engine.send(Command::Picture(Picture {
            asker: self.asker(),
            key,
            pixels: picture(shade),
            system: system.into(),
            secret: None,
            traceparent: None,
        }));
        key
    }

    /// What is said to a question about a picture that came with this turn.
    fn says(&self, system: &str, (key, turn): (PictureKey, u32), history: &[Turn]) -> Answer {
        let request = RequestId::random();
        let picture = Shown { turn, ..shown(key) };
        self.engine.send(Command::Ask(Box::new(Ask {
            system: system.into(),
            pictures: vec![picture],
            history: history.to_vec(),
            ..self.question(request, "what is it?", 12)
        })));
        let answer = self.answer(request);
        assert_eq!(answer.error, None);
        answer
    }
}

fn turn(question: &str, answer: &Answer) -> Turn {
    Turn {
        question: question.into(),
        answer: answer.text.clone(),
        answer_ids: Some(answer.ids.clone()),
    }
}

#[test]
fn the_model_looks_ahead_behind_the_system_turn() {
    const SYSTEM: &str = "Be brief and say nothing of colours.";
    let (engine, _) = counted(Settings::default());
    let (ahead, behind) = (Client::new(&engine), Client::new(&engine));
    let key = ahead.show_behind(10, SYSTEM);
    assert!(!ahead.encoded());
    let first = ahead.says(SYSTEM, (key, 0), &[]);
    // The question's own tokens were all that was left to compute.
    assert!(first.usage.prompt_tokens - first.usage.cached_tokens <= 16);
    // Who did not say so before hears the same, and so does who says it later in the conversation.
    let key = behind.show(10);
    assert!(!behind.encoded());
    let plain = behind.says("", (key, 0), &[]);
    let later = behind.says(SYSTEM, (key, 0), &[]);
    assert_eq!((&first.text, &first.ids), (&later.text, &later.ids));
    assert_ne!(first.usage.prompt_tokens, plain.usage.prompt_tokens);
    assert_eq!(first.usage.image_tokens, plain.usage.image_tokens);
    let history = [turn("what is it?", &later)];
    let next = behind.says(SYSTEM, (key, 0), &history);
    assert!(next.usage.cached_tokens > later.usage.prompt_tokens);
}

#[test]
fn another_system_turn_is_computed_anew_and_the_picture_is_not() {
    let (engine, pieces) = counted(Settings::default());
    let client = Client::new(&engine);
    let key = client.show(10);
    client.encoded();
    let whole = pieces.load(Ordering::Relaxed);
    for round in 1..4 {
        client.says(&format!("System {round}."), (key, 0), &[]);
        let all = pieces.load(Ordering::Relaxed);
        assert!(all - whole < round * whole / 2, "{whole}, then {all}");
    }
    let all = pieces.load(Ordering::Relaxed);
    client.says("System 2.", (key, 0), &[]);
    assert_eq!(pieces.load(Ordering::Relaxed), all);
    // Its vectors go with it.
    client.forget(key);
    client.show(10);
    while client.encoded() {}
    assert!(pieces.load(Ordering::Relaxed) - all >= whole);
}

#[test]
fn a_picture_may_come_with_a_later_question() {
    let answers = [true, false].map(|prefix_cache| {
        let (engine, _) = counted(Settings {
            prefix_cache,
            ..Settings::default()
        });
        let client = Client::new(&engine);
        let hello = client.answer(client.ask(None, &[], "hello", 8));
        let mut history = vec![turn("hello", &hello)];
        let key = client.show(10);
        let first = client.says("", (key, 1), &history);
        let plain = client.says("", (key, 0), &history);
        assert_ne!(first.ids, plain.ids);
        history.push(turn("what is it?", &first));
        let next = client.says("", (key, 1), &history);
        // The picture came from the cache.
        assert!(next.usage.cached_tokens >= next.usage.image_tokens);
        let behind = client.says("Be brief.", (key, 1), &history);
        [first, plain, next, behind].map(|answer| answer.ids)
    });
    assert_eq!(answers[0], answers[1]);
}

/// What one session's conversations begin with is no other's business.
#[test]
fn a_shared_picture_is_shared_without_what_stands_before_it() {
    let (engine, pieces) = counted(Settings::default());
    let (one, other) = (Client::new(&engine), Client::new(&engine));
    let key = PictureKey {
        session: None,
        sha256: [10; 32],
    };
    one.show_as(key, 10);
    other.show_as(key, 10);
    let first = one.says("Be brief.", (key, 0), &[]);
    let before = pieces.load(Ordering::Relaxed);
    let second = other.says("Be brief.", (key, 0), &[]);
    assert_eq!(first.ids, second.ids);
    assert!(pieces.load(Ordering::Relaxed) > before);
}
