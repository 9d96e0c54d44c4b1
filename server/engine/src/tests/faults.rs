//! Faults in the middle of work: each stays with its own job, and the worker goes on.

use std::sync::atomic::{AtomicUsize, Ordering};

use api::{ErrorCode, Event, FinishReason, State};

use super::{Answer, Client, PATIENCE, Served, start, start_several};
use crate::*;
use model::device::DeviceFault;
use std::time::{Duration, Instant};

/// The bytes of this word are tokens that nothing else here has.
const CULPRIT: &str = "☂☂☂☂☂☂☂☂☂☂☂☂";

fn is_culprit(ids: &[u32]) -> bool {
    ids.windows(3).any(|three| three == [0xe2, 0x98, 0x82])
}

/// An engine whose worker calls `hook` before each piece of work.
fn faulty(
    settings: Settings,
    hook: impl FnMut(&str, &[u32]) -> candle_core::Result<()> + Send + 'static,
) -> Served {
    start_several(settings, vec![Box::new(hook)])
}

/// Two answers to be disturbed, one about a picture; the culprit's, if one is asked; and the two as they must be.
fn disturbed(engine: &Served, culprit: bool) -> (Vec<Answer>, Option<Answer>, Vec<Answer>) {
    let ask = |engine: &Served, culprit: bool| {
        let clients: Vec<Client> = (0..3).map(|_| Client::new(engine)).collect();
        let key = clients[0].show(40);
        let mut asked = vec![
            clients[0].ask(Some(key), &[], "what do you see?", 40),
            clients[1].ask(None, &[], "hello", 60),
        ];
        if culprit {
            asked.push(clients[2].ask(None, &[], CULPRIT, 20));
        }
        let answers = clients.iter().zip(asked);
        answers
            .map(|(client, request)| client.answer(request))
            .collect::<Vec<_>>()
    };
    let expected = ask(&start(Settings::default()), false);
    let mut answers = ask(engine, culprit);
    let culprit = culprit.then(|| answers.pop().unwrap());
    (answers, culprit, expected)
}

fn assert_unharmed(answers: &[Answer], expected: &[Answer]) {
    for (answer, expected) in answers.iter().zip(expected) {
        assert_eq!(answer.error, None);
        assert_eq!(answer.ids, expected.ids);
        assert_eq!(answer.finish, expected.finish);
    }
}

/// The worker is there and its queue is empty.
fn assert_goes_on(engine: &Served) {
    let client = Client::new(engine);
    let key = client.show(99);
    assert!(!client.encoded());
    let answer = client.answer(client.ask(Some(key), &[], "and now?", 5));
    assert_eq!(answer.finish, Some(FinishReason::Length));
    assert_eq!(engine.open_requests(), 0);
    assert_eq!(engine.status().borrow().state, State::Ready);
}

#[test]
fn a_panic_ends_the_answer_that_causes_it_alone() {
    let engine = faulty(Settings::default(), |_, ids| {
        assert!(!is_culprit(ids), "a fault, for the test");
        Ok(())
    });
    let (answers, culprit, expected) = disturbed(&engine, true);
    let error = culprit.unwrap().error.unwrap();
    assert_eq!(error.code, ErrorCode::WorkerFailed);
    assert!(error.retry_after_ms.is_some());
    assert_unharmed(&answers, &expected);
    assert_goes_on(&engine);
}

#[test]
fn a_panic_that_nobody_causes_ends_no_answer_that_has_company() {
    let steps = AtomicUsize::new(0);
    let engine = faulty(Settings::default(), move |work, ids| {
        // Two answers are between their tokens.
        let both = work == "answer" && ids.len() == 2;
        let step = if both {
            steps.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        assert!(step != 10, "a fault, for the test");
        Ok(())
    });
    let (answers, _, expected) = disturbed(&engine, false);
    assert_unharmed(&answers, &expected);
    assert_goes_on(&engine);
}

#[test]
fn a_panic_over_a_picture_ends_that_picture_alone() {
    let pictures = AtomicUsize::new(0);
    let engine = faulty(Settings::default(), move |work, _| {
        let nth = if work == "picture" {
            pictures.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        // The first picture's beginning.
        assert!(nth != 0 || work == "answer", "a fault, for the test");
        Ok(())
    });
    let client = Client::new(&engine);
    let key = client.show(1);
    let error = loop {
        if let Event::PictureFailed { failure, .. } = client.next() {
            break failure;
        }
    };
    assert_eq!(error.code, ErrorCode::WorkerFailed);
    let request = client.ask(Some(key), &[], "what is it?", 5);
    let error = client.answer(request).error.unwrap();
    assert_eq!(error.code, ErrorCode::ImageGone);
    let (answers, _, expected) = disturbed(&engine, false);
    assert_unharmed(&answers, &expected);
    assert_goes_on(&engine);
}

#[test]
fn out_of_memory_ends_the_job_that_needs_it_alone() {
    let engine = faulty(Settings::default(), |_, ids| {
        if is_culprit(ids) {
            return Err(DeviceFault::OutOfMemory.into());
        }
        Ok(())
    });
    let (answers, culprit, expected) = disturbed(&engine, true);
    let error = culprit.unwrap().error.unwrap();
    assert_eq!(error.code, ErrorCode::OutOfMemory);
    assert!(error.retry_after_ms.unwrap() > 0.0);
    assert_unharmed(&answers, &expected);
    assert_goes_on(&engine);
}

/// Again and again, with the smallest cache: what a failed job held is free again.
#[test]
fn out_of_memory_leaks_nothing() {
    let settings = Settings {
        cache_bytes: Some(0),
        max_batch: 1,
        // So that a picture that fails has a question that waits for it.
        eager_encode: false,
        ..Settings::default()
    };
    let calls = AtomicUsize::new(0);
    let engine = faulty(settings, move |_, _| {
        // Now at a picture's beginning, now in the middle of an answer.
        let call = calls.fetch_add(1, Ordering::Relaxed);
        if (call.wrapping_mul(2_654_435_761) >> 9).is_multiple_of(5) {
            return Err(DeviceFault::OutOfMemory.into());
        }
        Ok(())
    });
    let client = Client::new(&engine);
    let (mut good, mut failed) = (0, 0);
    for round in 0..60 {
        let key = client.show(round);
        let answer = client.answer(client.ask(Some(key), &[], "what?", 2));
        match answer.error {
            None => good += 1,
            Some(error) => {
                assert_eq!(error.code, ErrorCode::OutOfMemory);
                failed += 1;
            }
        }
    }
    assert!(good > 0 && failed > 0, "{good} {failed}");
    assert_eq!(engine.open_requests(), 0);
}

/// Nothing more can be computed in this process: everything is refused, and the state says why.
#[test]
fn a_lost_device_refuses_all_that_is_open_and_all_that_comes() {
    let engine = faulty(Settings::default(), |_, ids| {
        if is_culprit(ids) {
            return Err(DeviceFault::Lost.into());
        }
        Ok(())
    });
    let clients: Vec<Client> = (0..4).map(|_| Client::new(&engine)).collect();
    let asked: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(i, client)| {
            let question = if i == 3 { CULPRIT } else { "hello" };
            client.ask(None, &[], question, 400)
        })
        .collect();
    for (client, request) in clients.iter().zip(asked) {
        let answer = client.answer(request);
        assert!(
            answer.finish == Some(FinishReason::Length)
                || answer.error.unwrap().code == ErrorCode::WorkerFailed
        );
    }
    let status = engine.status();
    let since = Instant::now();
    while !status.borrow().lost {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(status.borrow().state, State::Failed);
    assert!(status.borrow().error.as_ref().unwrap().contains("lost"));
    let refused = clients[0].refused(clients[0].ask(None, &[], "and now?", 5));
    assert_eq!(refused.code, ErrorCode::WorkerFailed);
    // What is to be freed is, since nothing is left.
    clients[0].forget(clients[0].key(1));
    clients[0].end();
    clients[0].freed(api::Freed::Session);
    assert_eq!(engine.open_requests(), 0);
}

/// Every page is used by what runs: that one answer ends, and says so.
#[test]
fn a_full_cache_is_told_as_memory_that_is_missing() {
    let fault = guard::Fault::from(scheduler::CacheFull);
    let guard::Fault::Job(failure) = fault else {
        panic!("it ends a job");
    };
    assert_eq!(failure.code, ErrorCode::OutOfMemory);
    assert!(failure.retry_after_ms.is_some() && failure.detail.is_some());
}
