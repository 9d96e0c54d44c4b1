use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::*;
use crate::text::candidates::{BLOCK, exp2};

const PLAIN: SamplingParams = SamplingParams {
    temperature: 1.0,
    top_p: 1.0,
    top_k: 0,
    repetition_penalty: 1.0,
    presence_penalty: 0.0,
    frequency_penalty: 0.0,
    logit_bias: BTreeMap::new(),
    max_new_tokens: 16,
    seed: 1,
    stop: Vec::new(),
};

/// Normally distributed logits.
fn noise(count: usize, spread: f32, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut uniform = || rng.random::<f32>();
    let twelve = |_| spread * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0);
    (0..count).map(twelve).collect()
}

/// What transformers does, by sorting, in double precision: each id's probability.
fn by_sorting(logits: &[f32], params: &SamplingParams, history: &[u32]) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    for &id in &history.iter().copied().collect::<HashSet<_>>() {
        let score = &mut scores[id as usize];
        *score = if *score < 0.0 {
            *score * params.repetition_penalty
        } else {
            *score / params.repetition_penalty
        };
    }
    scores.iter_mut().for_each(|s| *s /= params.temperature);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    if params.top_k > 0 && (params.top_k as usize) < order.len() {
        let least = scores[order[params.top_k as usize - 1]];
        order.retain(|&id| scores[id] >= least);
    }
    let largest = scores[order[0]];
    let total: f64 = order.iter().map(|&id| (scores[id] - largest).exp()).sum();
    let mut probabilities = vec![0.0; scores.len()];
    let mut before = 0.0;
    for id in order {
        let probability = (scores[id] - largest).exp() / total;
        if before < params.top_p {
            probabilities[id] = probability;
        }
        before += probability;
    }
    let kept: f64 = probabilities.iter().sum();
    probabilities.iter().map(|p| p / kept).collect()
}

/// Draws often and compares with the expected distribution: nothing outside it, everything as often as it says.
fn assert_distributed(logits: &[f32], params: &SamplingParams, prompt: &[u32]) {
    const DRAWS: usize = 20_000;
    let expected = by_sorting(logits, params, prompt);
    let mut counts = vec![0usize; logits.len()];
    for seed in 0..DRAWS as u64 {
        let params = SamplingParams {
            seed,
            ..params.clone()
        };
        let id = Sampler::new(&params, prompt)
            .sample(&mut logits.to_vec())
            .unwrap();
        counts[id as usize] += 1;
    }
    for (id, (&count, &p)) in counts.iter().zip(&expected).enumerate() {
        let mean = p * DRAWS as f64;
        // Five standard deviations, and one draw for the very rare.
        let tolerance = 5.0 * (mean * (1.0 - p)).sqrt() + 1e-9;
        let tolerance = if p > 0.0 { tolerance.max(3.0) } else { 0.0 };
        assert!(
            (count as f64 - mean).abs() <= tolerance,
            "{params:?}: id {id} came {count} times, not {mean:.1}"
        );
    }
}

#[test]
fn draws_from_transformers_distribution() {
    let logits = noise(60, 1.5, 3);
    let prompt = [4, 4, 9, 17, 30, 59];
    for temperature in [0.3, 0.8, 2.0] {
        for top_p in [0.05, 0.5, 0.8, 1.0] {
            for top_k in [0, 3, 20] {
                assert_distributed(
                    &logits,
                    &SamplingParams {
                        temperature,
                        top_p,
                        top_k,
                        ..PLAIN
                    },
                    &prompt,
                );
            }
        }
    }
    for repetition_penalty in [0.5, 1.2, 2.0] {
        let params = SamplingParams {
            repetition_penalty,
            top_p: 0.9,
            ..PLAIN
        };
        assert_distributed(&logits, &params, &prompt);
    }
}

#[test]
fn ties_and_blocks_and_ruled_out_tokens() {
    // Several blocks, only two ids left: one in the first, one in the last.
    let mut logits = vec![f32::NEG_INFINITY; 3 * BLOCK + 5];
    logits[7] = 1.0;
    logits[3 * BLOCK + 4] = 0.0;
    assert_distributed(&logits, &PLAIN, &[]);
    assert_distributed(&logits, &SamplingParams { top_k: 50, ..PLAIN }, &[]);
    // All alike: of equals the nucleus takes the first; top-k keeps all that equal its last.
    let flat = vec![0.25; 10];
    assert_distributed(
        &flat,
        &SamplingParams {
            top_p: 0.35,
            ..PLAIN
        },
        &[],
    );
    assert_distributed(&flat, &SamplingParams { top_k: 3, ..PLAIN }, &[]);
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let greedy = SamplingParams {
        temperature: 0.0,
        seed: 0,
        ..PLAIN
    };
    let mut logits = noise(1000, 1.0, 1);
    logits[300] = 20.0;
    logits[900] = 20.0;
    for _ in 0..3 {
        assert_eq!(
            Sampler::new(&greedy, &[])
                .sample(&mut logits.clone())
                .unwrap(),
            300
        );
    }
    assert_eq!(
        Sampler::new(&SamplingParams { top_k: 1, ..PLAIN }, &[])
            .sample(&mut logits)
            .unwrap(),
        300
    );
    let mut negative = [-3.0, -1.0, -2.0];
    assert_eq!(Sampler::new(&greedy, &[]).sample(&mut negative).unwrap(), 1);
}

#[test]
fn a_tiny_temperature_is_as_good_as_greedy() {
    let params = SamplingParams {
        temperature: 1e-300,
        ..PLAIN
    };
    let mut logits = noise(1000, 1.0, 1);
    logits[123] = 9.0;
    assert_eq!(Sampler::new(&params, &[]).sample(&mut logits).unwrap(), 123);
}

#[test]
fn the_penalty_counts_each_token_of_prompt_and_answer_once() {
    let greedy = SamplingParams {
        temperature: 0.0,
        repetition_penalty: 2.0,
        ..PLAIN
    };
    let logits = [8.0, 4.5, -1.0, 4.2, -1.5];
    let mut sampler = Sampler::new(&greedy, &[0, 0, 0, 2, 1_000_000]);
    let mut changed = logits;
    assert_eq!(sampler.sample(&mut changed).unwrap(), 1);
    assert_eq!(changed, [4.0, 4.5, -2.0, 4.2, -1.5]);
    // Its own token is halved next time.
    changed = logits;
    assert_eq!(sampler.sample(&mut changed).unwrap(), 3);
    assert_eq!(changed, [4.0, 2.25, -2.0, 4.2, -1.5]);
}

#[test]
fn the_same_seed_gives_the_same_answer_alone_or_beside_others() {
    let answer = |seed, beside: bool| -> Vec<u32> {
        let params = SamplingParams {
            seed,
            top_p: 0.9,
            ..PLAIN
        };
        let mut own = Sampler::new(&params, &[]);
        let mut other = Sampler::new(&SamplingParams { seed: 99, ..PLAIN }, &[]);
        let step = |step| {
            if beside {
                other.sample(&mut noise(700, 2.0, step + 1000)).unwrap();
            }
            own.sample(&mut noise(700, 2.0, step)).unwrap()
        };
        (0..40).map(step).collect()
    };
    assert_eq!(answer(5, false), answer(5, true));
    assert_ne!(answer(5, false), answer(6, false));
}

#[test]
fn unusable_logits_are_an_error() {
    for params in [
        PLAIN,
        SamplingParams {
            temperature: 0.0,
            ..PLAIN
        },
    ] {
        let error = |logits: &[f32]| {
            let result = Sampler::new(&params, &[]).sample(&mut logits.to_vec());
            result.unwrap_err().to_string()
        };
        for at in [0, 17, 39] {
            let mut logits = noise(40, 1.0, 2);
            logits[at] = f32::NAN;
            assert!(error(&logits).contains("NaN"));
            logits[at] = f32::INFINITY;
            assert!(error(&logits).contains("infinite"));
        }
        assert!(error(&[f32::NEG_INFINITY; 40]).contains("ruled out"));
        assert!(error(&[]).contains("ruled out"));
    }
    assert!(LogSoftmax::new(&[f32::NAN]).is_err());
}

#[test]
fn log_softmax_of_the_raw_logits() {
    let logits = noise(5000, 3.0, 8);
    let log = LogSoftmax::new(&logits).unwrap();
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    for id in [0, 77, 4999] {
        let expected = f64::from(logits[id]) - total.ln();
        assert!((log.of(id as u32).unwrap() - expected).abs() < 1e-9);
    }
    assert_eq!(log.of(5000), None);
    let mut order: Vec<usize> = (0..5000).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let top = log.top(20);
    assert_eq!(
        top.iter().map(|t| t.0 as usize).collect::<Vec<_>>(),
        order[..20]
    );
    assert_eq!(top[0].1, log.of(top[0].0).unwrap());
    assert_eq!(log.top(0), []);
    assert_eq!(log.top(9999).len(), 5000);
    let ties = LogSoftmax::new(&[1.0, 2.0, 2.0, 2.0]).unwrap().top(2);
    assert_eq!((ties[0].0, ties[1].0), (1, 2));
}

#[test]
fn the_largest_are_the_sorted_ones() {
    for (count, seed) in [(1, 1), (63, 2), (64, 3), (257, 4), (5000, 5)] {
        // Rounded, so that there are ties.
        let logits: Vec<f32> = noise(count, 10.0, seed).iter().map(|l| l.round()).collect();
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let mut maxima = Vec::new();
        assert_eq!(scan(&logits, &mut maxima).unwrap(), sorted[0]);
        for k in [1, 2, 50, 70, 79, 1000, 4999, 5000, 9000] {
            let least = sorted[k.min(count) - 1];
            let expected: Vec<u32> = (0..count as u32)
                .filter(|&id| logits[id as usize] >= least)
                .collect();
            let mut ids = vec![7];
            top(&logits, &maxima, k, &mut ids);
            assert_eq!(ids, expected, "{k} of {count}");
        }
    }
}

#[test]
fn exp2_is_2_to_the_x() {
    let mut x = 0.0f32;
    while x > -126.0 {
        let exact = f64::from(x).exp2();
        assert!(
            (f64::from(exp2(x)) / exact - 1.0).abs() < 4e-7,
            "{x}: {} {exact}",
            exp2(x)
        );
        x -= 0.000_731;
    }
    while x > -127.0 {
        assert!(
            (0.0..=f32::MIN_POSITIVE).contains(&exp2(x)),
            "{x}: {}",
            exp2(x)
        );
        x -= 0.000_731;
    }
    assert_eq!([exp2(0.0), exp2(-0.0)], [1.0; 2]);
    for x in [-127.0, -128.0, -1e30, f32::NEG_INFINITY] {
        assert_eq!(exp2(x).to_bits(), 0, "{x}");
    }
}

fn asked(json: &str) -> api::Sampling {
    serde_json::from_str(json).unwrap()
}

#[test]
fn defaults_come_from_the_checkpoint() {
    let file = br#"{"do_sample": true, "temperature": 0.8, "top_p": 0.8, "max_length": 8192,
        "eos_token_id": [151329, 151336, 151338], "transformers_version": "4.44.0"}"#;
    let defaults = super::defaults(file).unwrap();
    let params = defaults.with(&asked("{}"), 4096, 0).unwrap();
    let published = SamplingParams {
        temperature: 0.8,
        top_p: 0.8,
        top_k: 50,
        max_new_tokens: 1024,
        seed: 0,
        ..PLAIN
    };
    assert_eq!(params, published);
    // As transformers has it: 50 where nothing is said and it samples, off where null says so, and a request's own first.
    for (file, request, top_k) in [
        (r#"{"do_sample": true}"#, "{}", 50),
        (r#"{"do_sample": true, "top_k": null}"#, "{}", 0),
        (r#"{"do_sample": true, "top_k": 0}"#, "{}", 0),
        (r#"{"do_sample": true, "top_k": 1}"#, "{}", 1),
        (r#"{"do_sample": true}"#, r#"{"top_k": 0}"#, 0),
        (r#"{"do_sample": true}"#, r#"{"top_k": 7}"#, 7),
        (r#"{"do_sample": false}"#, "{}", 0),
        ("{}", "{}", 0),
    ] {
        let defaults = super::defaults(file.as_bytes()).unwrap();
        let params = defaults.with(&asked(request), 4096, 0).unwrap();
        assert_eq!(params.top_k, top_k, "{file} with {request}");
    }
    assert_eq!(
        defaults.with(&asked("{}"), 100, 0).unwrap().max_new_tokens,
        100
    );

    let own = r#"{"temperature": 0, "top_p": 0.5, "top_k": 7, "repetition_penalty": 1.1, "max_new_tokens": 9,
        "seed": 3, "stop": ["a", "b"]}"#;
    let expected = SamplingParams {
        temperature: 0.0,
        top_p: 0.5,
        top_k: 7,
        repetition_penalty: 1.1,
        max_new_tokens: 9,
        seed: 3,
        stop: vec!["a".into(), "b".into()],
        ..PLAIN
    };
    assert_eq!(defaults.with(&asked(own), 4096, 0).unwrap(), expected);

    let greedy = super::defaults(br#"{"temperature": 0.8}"#).unwrap();
    assert_eq!(greedy.with(&asked("{}"), 4096, 0).unwrap().temperature, 0.0);
    // Without a seed it is the one that is given, so that each answer can have its own.
    assert_eq!(greedy.with(&asked("{}"), 4096, 77).unwrap().seed, 77);
    assert_eq!(
        Defaults::default()
            .with(&asked("{}"), 4096, 0)
            .unwrap()
            .temperature,
        0.0
    );
    for broken in [
        "",
        "[]",
        r#"{"do_sample": true, "temperature": -1}"#,
        r#"{"top_p": 0}"#,
        r#"{"top_k": -1}"#,
    ] {
        let error = super::defaults(broken.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("generation_config.json: "), "{error}");
    }
}

#[test]
fn out_of_range_is_refused_by_name() {
    let refused = |ask: api::Sampling| Defaults::default().with(&ask, 4096, 0).unwrap_err();
    for (json, name) in [
        (r#"{"temperature": -0.1}"#, "temperature"),
        (r#"{"temperature": 2.01}"#, "temperature"),
        (r#"{"top_p": 0}"#, "top_p"),
        (r#"{"top_p": 1.0001}"#, "top_p"),
        (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
        (r#"{"repetition_penalty": 2.5}"#, "repetition_penalty"),
        (r#"{"presence_penalty": -2.1}"#, "presence_penalty"),
        (r#"{"frequency_penalty": 3}"#, "frequency_penalty"),
        (r#"{"logit_bias": {"1": 101}}"#, "logit_bias"),
        (r#"{"logit_bias": {"-1": 1}}"#, "logit_bias"),
        (r#"{"logit_bias": {"01": 1}}"#, "logit_bias"),
        (r#"{"logit_bias": {"cat": 1}}"#, "logit_bias"),
        (r#"{"max_new_tokens": 0}"#, "max_new_tokens"),
        (r#"{"max_new_tokens": 4097}"#, "max_new_tokens"),
        (r#"{"stop": [""]}"#, "stop"),
        (r#"{"stop": ["1","2","3","4","5","6","7","8","9"]}"#, "stop"),
    ] {
        let sentence = refused(asked(json));
        assert!(sentence.contains(name), "{json}: {sentence}");
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(api::Sampling {
            temperature: Some(value),
            ..Default::default()
        });
        refused(api::Sampling {
            top_p: Some(value),
            ..Default::default()
        });
        refused(api::Sampling {
            repetition_penalty: Some(value),
            ..Default::default()
        });
    }
    let long = |count| api::Sampling {
        stop: Some(vec!["图".repeat(count)]),
        ..Default::default()
    };
    refused(long(65));
    let small = Defaults::default().with_vocabulary(10);
    let bias = |id: u32| asked(&format!(r#"{{"logit_bias": {{"{id}": -100}}}}"#));
    let params = small.with(&bias(9), 4096, 0).unwrap();
    assert_eq!(params.logit_bias, BTreeMap::from([(9, -100.0)]));
    assert!(small.with(&bias(10), 4096, 0).is_err());
    let many = (0..1025).map(|id: u32| (id.to_string(), 1.0)).collect();
    refused(api::Sampling {
        logit_bias: Some(many),
        ..Default::default()
    });
    // Beyond what every client's numbers hold.
    refused(asked(r#"{"seed": 9007199254740992}"#));
    refused(asked(r#"{"top_k": 9007199254740992}"#));
    for fine in [
        long(64),
        asked(
            r#"{"temperature": 2, "top_p": 1, "repetition_penalty": 2, "max_new_tokens": 4096, "top_k": 0}"#,
        ),
        asked(r#"{"seed": 9007199254740991, "top_k": 9007199254740991}"#),
    ] {
        Defaults::default().with(&fine, 4096, 0).unwrap();
    }
}

/// The published size. The fastest of many, so that a busy machine does not count; optimised builds only.
/// `glimpse bench` tells how long it takes; here it is held against sorting the same scores, at its best beside the other's.
#[test]
fn a_token_takes_a_small_part_of_sorting() {
    const CANDIDATES: usize = 151_552;
    let prompt: Vec<u32> = (0..2000).map(|i| i * 71).collect();
    for (name, top_p, top_k, spread) in [
        ("top_p, flat", 0.8, 0, 0.1),
        ("top_p, spread", 0.8, 0, 3.0),
        ("small top_p, flat", 0.1, 0, 0.1),
        ("top_k", 1.0, 50, 2.0),
        ("top_p and top_k", 0.8, 50, 0.1),
        ("large top_k", 0.8, 1000, 1.0),
    ] {
        let logits = noise(CANDIDATES, spread, 4);
        let params = SamplingParams {
            temperature: 0.8,
            top_p,
            top_k,
            repetition_penalty: 1.1,
            ..PLAIN
        };
        let mut sampler = Sampler::new(&params, &prompt);
        let [mut sampled, mut sorted] = [Duration::MAX; 2];
        for _ in 0..10 {
            for _ in 0..20 {
                let mut logits = logits.clone();
                let start = Instant::now();
                sampler.sample(&mut logits).unwrap();
                sampled = sampled.min(start.elapsed());
            }
            let start = Instant::now();
            by_sorting(&logits, &params, &prompt);
            sorted = sorted.min(start.elapsed());
        }
        println!("{name}: {sampled:?}, by sorting {sorted:?}");
        if !cfg!(debug_assertions) {
            assert!(8 * sampled < sorted, "{name}: {sampled:?}, {sorted:?}");
        }
    }
}

#[test]
fn the_smallest_penalty_keeps_scores_finite() {
    let params = SamplingParams {
        repetition_penalty: 1e-60,
        ..PLAIN
    };
    let mut sampler = Sampler::new(&params, &[0, 1, 2]);
    let mut logits = [3.0, 0.0, f32::NEG_INFINITY, 1.0];
    assert_eq!(sampler.sample(&mut logits).unwrap(), 0);
}

#[test]
fn draws_are_those_of_the_seed_and_the_place() {
    /// By tests/sampling/make_draws.py.
    #[derive(Deserialize)]
    struct Case {
        seed: u64,
        position: u64,
        /// Times 2⁵³.
        draws: Vec<u64>,
    }
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../../../tests/sampling/draws.json")).unwrap();
    for case in cases {
        let params = SamplingParams {
            seed: case.seed,
            ..PLAIN
        };
        let mut rng = Sampler::new(&params, &[]).rng;
        // Whatever was drawn before.
        let _: [f64; 3] = rng.random();
        rng.set_stream(case.position);
        for expected in case.draws {
            assert_eq!(rng.random::<f64>() * 2f64.powi(53), expected as f64);
        }
    }
}

#[test]
fn a_sampled_answer_is_the_same_everywhere() {
    let answer = |params: &SamplingParams| -> Vec<u32> {
        let mut sampler = Sampler::new(params, &[]);
        (0..12)
            .map(|n| sampler.sample(&mut noise(500, 3.0, n)).unwrap())
            .collect()
    };
    let all = SamplingParams {
        temperature: 1.0,
        seed: 7,
        ..PLAIN
    };
    assert_eq!(
        answer(&all),
        [270, 483, 11, 259, 64, 11, 328, 19, 290, 273, 44, 195]
    );
    let narrow = SamplingParams {
        top_p: 0.5,
        top_k: 30,
        repetition_penalty: 1.2,
        ..all
    };
    assert_eq!(
        answer(&narrow),
        [219, 133, 446, 7, 64, 418, 35, 19, 290, 341, 44, 119]
    );
}

/// OpenAI's: what the answer has counts, and what was asked does not.
#[test]
fn presence_and_frequency_are_taken_and_bias_is_added() {
    let params = SamplingParams {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: BTreeMap::from([(3, -100.0), (4, 2.0), (99, 1.0)]),
        ..PLAIN
    };
    let mut sampler = Sampler::new(&params, &[1, 1]);
    for id in [2, 5, 2, 4] {
        sampler.accept(id);
    }
    let mut logits = [0.0; 6];
    sampler.adjust(&mut logits);
    assert_eq!(logits, [0.0, 0.0, -1.0, -100.0, 1.25, -0.75]);
}

#[test]
fn the_probabilities_told_are_the_models_own() {
    let logits = [1.0, 3.0, f32::NEG_INFINITY, 2.0];
    let told =
        LogSoftmax::new(&logits)
            .unwrap()
            .told(2, 2, &crate::text::tokenizer::tests::small());
    assert_eq!((told.id, told.logprob), (2, -9999.0));
    let ids: Vec<u32> = told.top.iter().map(|each| each.id).collect();
    assert_eq!(ids, [1, 3]);
    let sum: f64 = [1.0f64, 3.0, 2.0].iter().map(|x| x.exp()).sum();
    assert!((told.top[0].logprob - (3.0 - sum.ln())).abs() < 1e-9);
}

/// The largest of a table's logits, and some more, in any order.
fn largest(logits: &[f32], count: usize, seed: u64) -> Largest {
    let mut order: Vec<f32> = logits.to_vec();
    order.sort_by(|a, b| b.total_cmp(a));
    let mut rng = StdRng::seed_from_u64(seed);
    let some_more = (count + rng.random_range(0..20)).min(order.len());
    let least = order[some_more - 1];
    let found = (0u32..).zip(logits.iter().copied());
    let mut found: Vec<_> = found.filter(|(_, logit)| *logit >= least).collect();
    for at in (1..found.len()).rev() {
        found.swap(at, rng.random_range(0..=at));
    }
    Largest::new(found)
}

#[test]
fn the_largest_logits_choose_as_all_of_them_do() {
    let mut others = HashSet::new();
    for seed in 0..400u64 {
        let params = SamplingParams {
            temperature: [0.0, 0.3, 0.8, 1.0, 4.0][seed as usize % 5],
            top_p: [1.0, 0.8, 0.2][seed as usize % 3],
            top_k: [1, 2, 5, 50, 128][seed as usize / 5 % 5],
            seed,
            ..PLAIN
        };
        let mut logits = noise(1000, 2.0, seed);
        match seed % 4 {
            // Many that are equal, also to the last that counts.
            0 => logits.iter_mut().for_each(|logit| *logit = logit.round()),
            1 => logits[..990].fill(f32::NEG_INFINITY),
            _ => {}
        }
        let (mut by_all, mut by_some) = (Sampler::new(&params, &[]), Sampler::new(&params, &[]));
        for draw in 0..4 {
            let Wanted::Largest(count) = by_some.wanted() else {
                panic!("{params:?}")
            };
            let few = largest(&logits, count, seed + draw);
            let id = by_all.choose(&logits).unwrap();
            assert_eq!(by_some.choose_among(&few).unwrap(), id, "seed {seed}");
            others.insert(id);
        }
    }
    assert!(others.len() > 200, "{}", others.len());
    assert!(
        Sampler::new(&PLAIN, &[])
            .choose_among(&Largest::default())
            .is_err()
    );
}

#[test]
fn all_logits_are_wanted_where_another_may_come_forward() {
    let plain = SamplingParams { top_k: 50, ..PLAIN };
    let wanted = |params: &SamplingParams, answer: &[u32]| {
        let mut sampler = Sampler::new(params, &[3, 4]);
        answer.iter().for_each(|id| sampler.accept(*id));
        sampler.wanted()
    };
    assert_eq!(wanted(&plain, &[5]), Wanted::Largest(50));
    let greedy = SamplingParams {
        temperature: 0.0,
        ..PLAIN
    };
    assert_eq!(wanted(&greedy, &[5]), Wanted::Largest(1));
    let few: [SamplingParams; 3] = [
        SamplingParams {
            top_k: 0,
            ..plain.clone()
        },
        SamplingParams {
            top_k: 129,
            ..plain.clone()
        },
        SamplingParams {
            repetition_penalty: 1.1,
            ..plain.clone()
        },
    ];
    for params in few {
        assert_eq!(wanted(&params, &[]), Wanted::All, "{params:?}");
    }
    let biased = SamplingParams {
        logit_bias: [(7, 1.0)].into(),
        ..plain.clone()
    };
    assert_eq!(wanted(&biased, &[]), Wanted::All);
    for params in [
        SamplingParams {
            presence_penalty: 0.5,
            ..plain.clone()
        },
        SamplingParams {
            frequency_penalty: -0.5,
            ..plain
        },
    ] {
        assert_eq!(wanted(&params, &[]), Wanted::Largest(50));
        assert_eq!(wanted(&params, &[5]), Wanted::All);
    }
}
