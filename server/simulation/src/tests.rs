//! Small fleets: jumped over or step by step, on one thread or two, everything happens at the same time.

use crate::card::Card;
use crate::fleet::{Machine, watched};
use crate::load::{Load, Rng};
use crate::results::Results;
use crate::wire::Wire;
use crate::worker::{Report, What};

fn machine(card: Card) -> Machine {
    Machine {
        card,
        wire: Wire::read(None).unwrap(),
        cores: 2,
        streams: 2,
        replicas: 1,
        threads: 1,
        jumps: true,
    }
}

fn history(load: &Load, machine: &Machine) -> (Vec<Report>, Results) {
    let mut reports = Vec::new();
    let results = watched(load, machine, &[], |report| reports.push(*report));
    // Windows may be others; what happens is in its order.
    reports.sort_by_key(|report| (report.at, report.worker));
    (reports, results)
}

/// A fleet of a few seconds in which everything happens.
fn any(seed: u64) -> (Load, Machine) {
    let mut rng = Rng::new(seed);
    let mut card = Card::read(["h100", "h200", "24gb"][rng.below(3) as usize]).unwrap();
    card.slots = 1 + rng.below(6) as usize;
    card.queue = rng.below(12) as usize;
    card.opening_entries = 10 + rng.below(150) as u16;
    card.pages = 12 + rng.below(60) as usize;
    card.host_pages = rng.below(20) as usize;
    card.tower_stages = 1 + rng.below(12) as usize;
    card.tower_ms = 1.0 + 100.0 * rng.part();
    let workers = 1 + rng.below(4) as u32;
    let load = Load {
        workers,
        gateways: 1 + rng.below(2) as u32,
        sessions: 1 + rng.below(30) as u32,
        seconds: 25.0,
        warm_up: 0.0,
        warm: rng.below(2) == 0,
        gap: 1.0 + 8.0 * rng.part(),
        new_pictures: rng.part() * 0.5,
        question: 1 + rng.below(60) as u32,
        answer: 1 + rng.below(150) as u32,
        bursts: vec![(10.0 * rng.part(), 3.0, 4.0)],
        losses: rng.part() * 600.0,
        away: 6.0,
        gateway_losses: vec![5.0],
        stampedes: vec![8.0 + 5.0 * rng.part()],
        seed,
    };
    (load, machine(card))
}

#[test]
fn what_is_jumped_over_happens_at_the_same_time() {
    let mut jumped = 0;
    for seed in 0..200 {
        let (load, machine) = any(seed);
        let (reports, results) = history(&load, &machine);
        let stepwise = Machine {
            jumps: false,
            ..machine.clone()
        };
        let (expected, all) = history(&load, &stepwise);
        let first = reports.iter().zip(&expected).find(|(a, b)| a != b);
        assert_eq!(first, None, "seed {seed}");
        assert_eq!(reports.len(), expected.len(), "seed {seed}");
        jumped += results.jumped;
        let results = Results {
            jumped: 0,
            ..results
        };
        assert_eq!(results, all, "seed {seed}");
    }
    assert!(jumped > 10_000, "{jumped} turns were jumped over");
}

#[test]
fn on_several_threads_everything_is_the_same() {
    for seed in 100..110 {
        let (load, machine) = any(seed);
        let alone = history(&load, &machine);
        for threads in [2, 3] {
            let machine = Machine {
                threads,
                ..machine.clone()
            };
            assert!(
                history(&load, &machine) == alone,
                "seed {seed}, {threads} threads"
            );
        }
    }
}

#[test]
fn what_a_lost_worker_had_is_answered_elsewhere_and_once() {
    let card = Card::read("h100").unwrap();
    let load = Load {
        workers: 10,
        sessions: 200,
        seconds: 40.0,
        warm_up: 0.0,
        gap: 10.0,
        stampedes: vec![10.0],
        away: 120.0,
        ..Load::default()
    };
    let (reports, results) = history(&load, &machine(card));
    assert!(results.losses == 1 && results.moved > 0, "{results:?}");
    assert_eq!(results.refused, 0);
    let mut ended: Vec<u64> = reports
        .iter()
        .filter_map(|it| match it.what {
            What::Ended { request, .. } => Some(request),
            _ => None,
        })
        .collect();
    let all = ended.len();
    ended.sort_unstable();
    ended.dedup();
    assert_eq!(ended.len(), all);
    // Nothing is heard of the lost one any more.
    let lost = reports.iter().find(|it| it.what == What::Lost).unwrap();
    assert!(
        !reports
            .iter()
            .any(|it| it.worker == lost.worker && it.at > lost.at)
    );
}

#[test]
fn newcomers_go_where_the_fewest_questions_are_open() {
    let load = Load {
        workers: 4,
        sessions: 4,
        seconds: 60.0,
        warm_up: 0.0,
        warm: false,
        gap: 1.0,
        ..Load::default()
    };
    let (reports, _) = history(&load, &machine(Card::read("h100").unwrap()));
    let mut workers: Vec<u32> = reports.iter().map(|it| it.worker).collect();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers, [0, 1, 2, 3]);
}
