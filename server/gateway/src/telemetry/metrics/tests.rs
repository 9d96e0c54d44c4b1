use super::check::{conventions, parse};
use super::*;
use api::{Counted, FleetWorker, WorkerStanding};

#[test]
fn prometheus_can_read_it_and_finds_nothing_to_complain_about() {
    let metrics = Metrics::new();
    let gauges = Gauges {
        memory_size: 1 << 30,
        ..Gauges::default()
    };
    metrics.measured(0, Measured::Gauges(gauges));
    for (ms, slots) in [(4.0, 1), (1e9, 2)] {
        let decode = true;
        metrics.measured(0, Measured::Pass(Pass { ms, slots, decode }));
    }
    let usage = Usage {
        prompt_tokens: 30,
        image_tokens: 20,
        cached_tokens: 25,
        completion_tokens: 7,
    };
    let timings = AnswerTimings {
        total_ms: 120.0,
        ..AnswerTimings::default()
    };
    metrics.answered(FinishReason::Stop, &usage, &timings);
    let families = parse(&metrics.text(Snapshot::new())).unwrap();
    conventions(&families).unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| {
        let base = name.trim_end_matches("_sum").trim_end_matches("_count");
        let found = families[base].samples.iter().find(|(sample, has, _)| {
            sample == name
                && has
                    .iter()
                    .map(|(k, v)| (k.as_str(), v.as_str()))
                    .eq(labels.iter().copied())
        });
        found.unwrap().2
    };
    assert_eq!(value("glimpse_requests_total", &[("outcome", "stop")]), 1.0);
    assert_eq!(value("glimpse_prompt_tokens_cached_total", &[]), 25.0);
    assert_eq!(value("glimpse_completion_tokens_total", &[]), 7.0);
    assert_eq!(value("glimpse_decode_step_seconds_count", &[]), 2.0);
    assert_eq!(
        value("glimpse_stage_seconds_sum", &[("stage", "answer")]),
        0.12
    );
}

#[test]
fn a_worker_stands_as_it_told_last() {
    let metrics = Metrics::new();
    let told = [(0, 5, 40.0), (1, 7, 0.0), (0, 6, 20.0)];
    for (worker, turn, token_ms) in told {
        metrics.health(Health {
            worker,
            turn,
            pages: 100,
            used_pages: 30,
            token_ms,
            ..Health::default()
        });
    }
    let families = parse(&metrics.text(Snapshot::new())).unwrap();
    conventions(&families).unwrap();
    let values = |name: &str| -> Vec<(String, String, f64)> {
        let samples = families[name].samples.iter();
        let each = samples.map(|(_, labels, value)| (labels[0].clone(), *value));
        each.map(|((label, worker), value)| (label, worker, value))
            .collect()
    };
    let of = |worker: &str, value| ("worker".to_owned(), worker.to_owned(), value);
    let both = |one, other| vec![of("0", one), of("1", other)];
    assert_eq!(values("glimpse_worker_turns_total"), both(6.0, 7.0));
    assert_eq!(values("glimpse_worker_pages"), both(100.0, 100.0));
    assert_eq!(values("glimpse_worker_used_pages"), both(30.0, 30.0));
    assert_eq!(values("glimpse_worker_token_seconds"), both(0.02, 0.0));
}

#[test]
fn a_fleet_is_told_by_its_workers_names_and_a_lost_one_not() {
    let metrics = Metrics::new();
    let worker = |name: &str, standing| FleetWorker {
        name: name.into(),
        standing,
        sessions: 4,
        devices: vec![Health::default()],
        gauges: vec![(
            0,
            Gauges {
                waiting: 9,
                cache_size: 100,
                ..Gauges::default()
            },
        )],
        passes: vec![(0, Counted::default())],
    };
    metrics.fleet(Fleet {
        workers: vec![
            worker("one", WorkerStanding::Ready),
            worker("two", WorkerStanding::Lost),
        ],
        waiting: 2,
        running: 1,
        longest_wait_ms: 1500.0,
        pictures: None,
    });
    let families = parse(&metrics.text(Snapshot::new())).unwrap();
    conventions(&families).unwrap();
    let first = |name: &str| families[name].samples[0].2;
    // Its own, not all of the workers'.
    assert_eq!(first("glimpse_requests_waiting"), 2.0);
    assert_eq!(first("glimpse_cache_size_bytes"), 100.0);
    assert_eq!(first("glimpse_queue_wait_seconds"), 1.5);
    assert_eq!(families["glimpse_fleet_workers"].samples.len(), 5);
    assert_eq!(families["glimpse_worker_sessions"].samples.len(), 1);
    assert_eq!(families["glimpse_worker_passes_total"].samples.len(), 2);
    assert!(!families.contains_key("glimpse_decode_step_seconds"));
    assert!(!families.contains_key("glimpse_picture_store_used_bytes"));
}

#[test]
fn the_parser_complains() {
    let head = "# HELP a_total x\n# TYPE a_total counter\n";
    for (text, complaint) in [
        ("a_total 1\n".to_owned(), "before its HELP"),
        (format!("{head}a_total one\n"), "invalid float"),
        (format!("{head}a_total{{b=c}} 1\n"), "bad labels"),
        (format!("{head}a_total 1"), "no end"),
    ] {
        let problem = parse(&text).err().unwrap();
        assert!(problem.contains(complaint), "{problem}");
    }
    let wrong = "# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n";
    assert!(conventions(&parse(wrong).unwrap()).is_err());
    let wrong = "# HELP a x\n# TYPE a counter\na 1\n";
    assert!(conventions(&parse(wrong).unwrap()).is_err());
}

#[test]
fn gauges_are_sums_over_the_workers_that_are_there() {
    let metrics = Metrics::new();
    let tells = |worker, memory_used, waiting| {
        let gauges = Gauges {
            memory_used,
            waiting,
            ..Gauges::default()
        };
        metrics.measured(worker, Measured::Gauges(gauges));
        let sum = metrics.gauges();
        (sum.memory_used, sum.waiting)
    };
    assert_eq!(tells(0, 5, 0), (5, 0));
    assert_eq!(tells(1, 3, 0), (8, 0));
    assert_eq!(tells(0, 2, 0), (5, 0));
    assert_eq!(tells(1, 3, 1), (5, 1));
    metrics.health(Health {
        worker: 1,
        state: State::Failed,
        ..Health::default()
    });
    assert_eq!(tells(0, 2, 4), (2, 4));
}
