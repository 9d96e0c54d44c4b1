use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::tokenizer::tests::small;
use super::*;

const EOS: u32 = 0;

/// Scores that depend on the last token and how many there are, as a model's would.
fn scores(vocabulary: usize, ids: &[u32]) -> Vec<f32> {
    let last = ids.last().copied().unwrap_or(7);
    let mut random = StdRng::seed_from_u64(u64::from(last) << 20 | ids.len() as u64);
    (0..vocabulary)
        .map(|_| random.random_range(-4.0..4.0))
        .collect()
}

/// The ids from `answer` on and the text that each decides; what is left of the text; why it ended.
fn rest(answer: &mut Answer, vocabulary: usize, mut ids: Vec<u32>) -> (Vec<Step>, String) {
    let mut steps = Vec::new();
    loop {
        let step = answer.next(&mut scores(vocabulary, &ids)).unwrap();
        ids.push(step.id);
        let over = step.end.is_some();
        steps.push(step);
        if over {
            return (steps, answer.finish());
        }
    }
}

#[test]
fn an_answer_goes_on_exactly_from_any_cut() {
    let tokenizer = Arc::new(small());
    let vocabulary = tokenizer.vocab_size();
    let mut random = StdRng::seed_from_u64(5);
    let (mut cuts, mut held, mut split, mut ends) = (0, 0, 0, [0; 2]);
    for seed in 0..72 {
        let mut params = SamplingParams {
            temperature: [0.0, 0.7, 1.5][seed % 3],
            top_p: [1.0, 0.8][seed % 2],
            top_k: [0, 3, 40][seed / 2 % 3],
            repetition_penalty: [1.0, 1.3][seed / 3 % 2],
            presence_penalty: [0.0, 1.5, -0.5][seed / 4 % 3],
            frequency_penalty: [0.0, 0.7][seed / 5 % 2],
            logit_bias: (0..seed as u32 % 4).map(|id| (40 + id, 3.0)).collect(),
            max_new_tokens: 40,
            seed: seed as u64,
            ..SamplingParams::default()
        };
        let prompt: Vec<u32> = (0..8)
            .map(|_| random.random_range(0..vocabulary as u32))
            .collect();
        let make =
            |params: &SamplingParams| Answer::new(tokenizer.clone(), params, &prompt, &[EOS], 40);
        if seed % 4 > 0 {
            // A piece of what it would say, and what will never come but begins like it.
            let (steps, left) = rest(&mut make(&params), vocabulary, Vec::new());
            let said: String = steps
                .iter()
                .map(|step| step.text.as_str())
                .chain([left.as_str()])
                .collect();
            let chars: Vec<char> = said.chars().collect();
            let from = random.random_range(0..chars.len().max(2) - 1);
            let piece: String = chars.iter().skip(from).take(seed % 4 + 1).collect();
            params.stop = vec![format!("{piece}\u{1}"), piece];
            params.stop.retain(|stop| !stop.is_empty());
        }
        let (whole, left) = rest(&mut make(&params), vocabulary, Vec::new());
        ends[usize::from(whole.last().unwrap().end == Some(FinishReason::Length))] += 1;
        for cut in 0..whole.len() {
            let (before, after) = whole.split_at(cut);
            let so_far: Vec<u32> = before.iter().map(|step| step.id).collect();
            let mut again = make(&params);
            let said = before.iter().map(|step| step.text.as_str()).collect();
            assert_eq!(again.replay(&so_far).unwrap(), (said, None));
            held += usize::from(before.last().is_some_and(|step| step.text.is_empty()));
            let whole_text = before
                .iter()
                .flat_map(|step| tokenizer.token_bytes(step.id).unwrap_or_default().to_vec());
            split += usize::from(String::from_utf8(whole_text.collect()).is_err());
            let (steps, rest_of_text) = rest(&mut again, vocabulary, so_far);
            assert_eq!(
                (steps.as_slice(), &rest_of_text),
                (after, &left),
                "seed {seed}, cut {cut}"
            );
            assert_eq!(again.tokens(), whole.len());
            cuts += 1;
        }
        let ids: Vec<u32> = whole.iter().map(|step| step.id).collect();
        let end = whole.last().unwrap().end;
        let (_, ended) = make(&params).replay(&ids).unwrap();
        assert_eq!(ended, end, "seed {seed}, to its end");
    }
    // It was about what it is meant to be about: text held back, characters split over tokens, both ways to end.
    assert!(
        cuts > 800 && held > 80 && split > 80 && ends.iter().all(|n| *n > 5),
        "{cuts} {held} {split} {ends:?}"
    );
}

#[test]
fn what_was_chosen_depends_on_no_draw_before() {
    let tokenizer = Arc::new(small());
    let params = SamplingParams {
        temperature: 1.0,
        top_p: 0.3,
        top_k: 0,
        max_new_tokens: 8,
        seed: 3,
        ..SamplingParams::default()
    };
    // With a nucleus so small some tokens take many draws, others one.
    let third = |before: [u32; 2]| {
        let mut answer = Answer::new(tokenizer.clone(), &params, &[], &[], 8);
        for last in before {
            answer
                .next(&mut scores(tokenizer.vocab_size(), &[last]))
                .unwrap();
        }
        let step = answer.next(&mut scores(tokenizer.vocab_size(), &[1, 2]));
        step.unwrap().id
    };
    let all: Vec<u32> = (0..20).map(|n| third([n, 3 * n + 1])).collect();
    assert_eq!(all, [all[0]; 20]);
}

#[test]
fn a_few_scores_are_no_answer_to_who_wants_all() {
    let tokenizer = Arc::new(small());
    let greedy = SamplingParams {
        temperature: 0.0,
        repetition_penalty: 1.0,
        ..SamplingParams::default()
    };
    let answer = || Answer::new(tokenizer.clone(), &greedy, &[], &[EOS], 8);
    let few = Largest::new(vec![(9, 2.0), (5, 2.0), (7, 1.0)]);
    assert_eq!(answer().wanted(), Wanted::Largest(1));
    assert_eq!(answer().next_among(&few).unwrap().id, 5);
    let mut told = answer().with_logprobs(Some(2));
    assert_eq!(told.wanted(), Wanted::All);
    assert!(told.next_among(&few).is_err());
}
