use api::{FinishReason, SamplingParams};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::tokenizer::tests::small;
use super::super::{Answer, Tokenizer};
use super::*;

/// The table is longer than the vocabulary.
const PADDING: usize = 40;

struct World {
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
    ends: Vec<u32>,
}

impl World {
    fn new() -> Self {
        let tokenizer = Arc::new(small());
        let names = ["<|endoftext|>", "<|user|>", "<|observation|>"];
        let ends = names.map(|name| tokenizer.special(name).unwrap()).to_vec();
        let entries = tokenizer.vocab_size() + PADDING;
        World {
            grammars: Grammars::new(&tokenizer, &ends, entries).unwrap(),
            tokenizer,
            ends,
        }
    }

    fn answer(&self, format: &AnswerFormat, params: &SamplingParams, most: usize) -> Answer {
        let answer = Answer::new(self.tokenizer.clone(), params, &[], &self.ends, most);
        answer.with_grammar(self.grammars.compile(format).unwrap())
    }

    /// Scores as of random weights.
    fn scores(&self, random: &mut StdRng) -> Vec<f32> {
        let entries = self.tokenizer.vocab_size() + PADDING;
        (0..entries)
            .map(|_| random.random_range(-4.0..4.0))
            .collect()
    }

    /// What random weights answer: text, ids, why it ended.
    fn say(
        &self,
        format: &AnswerFormat,
        seed: u64,
        most: usize,
    ) -> (String, Vec<u32>, FinishReason) {
        let params = SamplingParams {
            temperature: [0.0, 1.0][seed as usize % 2],
            frequency_penalty: [0.0, 1.0][seed as usize / 2 % 2],
            logit_bias: [(self.ends[0], 100.0)].into(),
            seed,
            ..SamplingParams::default()
        };
        let mut random = StdRng::seed_from_u64(seed);
        let mut answer = self.answer(format, &params, most);
        let (mut text, mut ids) = (String::new(), Vec::new());
        loop {
            let step = answer.next(&mut self.scores(&mut random)).unwrap();
            text += &step.text;
            ids.push(step.id);
            if let Some(end) = step.end {
                return (text + &answer.finish(), ids, end);
            }
        }
    }
}

fn schema(schema: Value) -> AnswerFormat {
    AnswerFormat::JsonSchema { schema }
}

fn regex(regex: &str) -> AnswerFormat {
    AnswerFormat::Regex {
        regex: regex.into(),
    }
}

fn receipt() -> AnswerFormat {
    schema(json!({
        "type": "object",
        "properties": {
            "shop": { "type": "string", "maxLength": 12 },
            "items": {
                "type": "array", "maxItems": 3,
                "items": {
                    "type": "object",
                    "properties": { "name": { "enum": ["tea", "Kuchen", "猫"] }, "count": { "type": "integer", "minimum": 0, "maximum": 99 } },
                    "required": ["name", "count"], "additionalProperties": false
                }
            },
            "paid": { "type": "boolean" }
        },
        "required": ["shop", "items", "paid"], "additionalProperties": false
    }))
}

#[test]
fn an_answer_that_ends_has_its_format() {
    let world = World::new();
    let choice = AnswerFormat::Choice {
        choice: vec!["yes".into(), "no (1.5*x)\n".into(), " 猫 ".into()],
    };
    let lark = AnswerFormat::Grammar {
        grammar: "start: \"a\" list \"b\"\nlist: /[0-9]{1,3}/ | \"(\" list \")\"".into(),
    };
    let mut stopped = 0;
    for seed in 0..40 {
        let (text, ids, end) = world.say(&receipt(), seed, 400);
        assert!(
            ids.iter()
                .all(|id| world.ends.contains(id) || world.tokenizer.token_bytes(*id).is_some())
        );
        if end == FinishReason::Stop {
            stopped += 1;
            let value: Value = serde_json::from_str(&text).unwrap();
            let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["shop", "items", "paid"], "{text}");
            assert!(value["items"].as_array().unwrap().len() <= 3 && value["paid"].is_boolean());
            assert!(!text.contains(&" ".repeat(9)));
        }
        let (text, _, end) = world.say(&choice, seed, 40);
        assert_eq!(end, FinishReason::Stop);
        assert!(
            ["yes", "no (1.5*x)\n", " 猫 "].contains(&text.as_str()),
            "{text:?}"
        );
        let (text, _, end) = world.say(&regex(r"[a-c]{2,4}(/\d)?"), seed, 40);
        assert_eq!(end, FinishReason::Stop);
        assert!(
            (2..=6).contains(&text.len()) && text.starts_with(['a', 'b', 'c']),
            "{text}"
        );
        let (text, _, end) = world.say(&lark, seed, 40);
        if end == FinishReason::Stop {
            assert!(text.starts_with('a') && text.ends_with('b'), "{text}");
        }
    }
    assert!(stopped >= 39, "{stopped}");
}

/// Nothing of an answer that was cut can't be gone on with, and a rebuilt one goes on exactly.
#[test]
fn an_answer_goes_on_exactly_from_any_cut() {
    let world = World::new();
    let params = SamplingParams {
        temperature: 1.0,
        presence_penalty: 0.5,
        seed: 3,
        ..SamplingParams::default()
    };
    let scores = |place: usize| {
        let mut random = StdRng::seed_from_u64(place as u64);
        world.scores(&mut random)
    };
    for format in [receipt(), regex("(ab|cd)*x"), AnswerFormat::JsonObject] {
        let mut answer = world.answer(&format, &params, 60).with_logprobs(Some(2));
        let mut steps = Vec::new();
        while steps
            .last()
            .is_none_or(|step: &super::super::Step| step.end.is_none())
        {
            steps.push(answer.next(&mut scores(steps.len())).unwrap());
        }
        for cut in 0..steps.len() {
            let so_far: Vec<u32> = steps[..cut].iter().map(|step| step.id).collect();
            let mut again = world.answer(&format, &params, 60).with_logprobs(Some(2));
            let (_, end) = again.replay(&so_far).unwrap();
            assert_eq!(end, None);
            for (place, step) in steps.iter().enumerate().skip(cut) {
                assert_eq!(again.next(&mut scores(place)).unwrap(), *step, "cut {cut}");
            }
        }
    }
}

/// All ids that end an answer are open where the format lets it end, and nowhere else.
#[test]
fn ends_are_open_where_the_format_is_whole() {
    let world = World::new();
    let entries = world.tokenizer.vocab_size() + PADDING;
    let mut grammar = world.grammars.compile(&regex("ab?")).unwrap();
    let open = |grammar: &mut Grammar, place| {
        let mut logits = vec![0.0; entries];
        grammar.mask(&mut logits, place).unwrap();
        let open = |id: &usize| logits[*id] == 0.0;
        (0..entries)
            .filter(open)
            .map(|id| id as u32)
            .collect::<Vec<_>>()
    };
    let id = |text: &str| world.tokenizer.encode(text).unwrap()[0];
    let newline = world.tokenizer.newline()[0];
    let first = open(&mut grammar, 0);
    assert!(first.contains(&newline) && first.contains(&id("a")));
    assert!(!world.ends.iter().any(|end| first.contains(end)));
    // The model's newline is outside of the format.
    assert!(grammar.is_outside(newline, 0) && !grammar.is_outside(newline, 1));
    grammar.advance(None);
    assert!(!open(&mut grammar, 1).contains(&newline));
    grammar.accept(&[id("a")]).unwrap();
    let second = open(&mut grammar, 2);
    assert!(world.ends.iter().all(|end| second.contains(end)));
    assert!(second.contains(&id("b")));
    grammar.accept(&[id("b")]).unwrap();
    let mut ends = world.ends.clone();
    ends.sort();
    assert_eq!(open(&mut grammar, 3), ends);
}

#[test]
fn what_cannot_be_had_is_refused_in_a_sentence() {
    let world = World::new();
    let lark = |grammar: &str| AnswerFormat::Grammar {
        grammar: grammar.into(),
    };
    let deep =
        |open: &str, close: &str| format!("{}a{}", open.repeat(20_000), close.repeat(20_000));
    for format in [
        schema(json!({ "type": "dance" })),
        schema(json!({ "type": "string", "unknownKeyword": 3, "format": "no-such-format" })),
        schema(json!({ "$ref": "https://example.com/schema.json" })),
        schema(json!(false)),
        regex("("),
        regex(&deep("(", ")")),
        lark("begin: \"a\""),
        lark("start: ("),
        lark(&format!("start: {}", deep("(", ")").replace('a', "\"a\""))),
        lark("start: <|user|>"),
    ] {
        let error = match world.grammars.compile(&format) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{format:?} was taken"),
        };
        assert!(error.len() < 400 && !error.contains('\n'), "{error}");
    }
    // A control token that a grammar asks for by its number never comes.
    let by_number = lark(&format!("start: <[{}]>", world.ends[0]));
    if let Ok(mut grammar) = world.grammars.compile(&by_number) {
        let mut logits = vec![0.0; world.tokenizer.vocab_size() + PADDING];
        grammar.accept(&[]).unwrap();
        assert!(grammar.mask(&mut logits, 1).is_err());
    }
}

#[test]
fn a_format_is_compiled_once() {
    let world = World::new();
    for number in 0..2 * KEPT {
        world
            .grammars
            .compile(&regex(&format!("a{number}")))
            .unwrap();
        world.grammars.compile(&regex("x")).unwrap();
    }
    let compiled = world.grammars.compiled.lock();
    assert_eq!(compiled.len(), KEPT);
    assert!(compiled.iter().any(|(format, _)| *format == regex("x")));
}

#[test]
fn masks_rule_out_what_they_lack() {
    let mut random = StdRng::seed_from_u64(1);
    for length in [1, 31, 32, 33, 100] {
        let words: Vec<u32> = (0..100usize.div_ceil(32))
            .map(|_| [0, u32::MAX, random.random()][random.random_range(0..3)])
            .collect();
        let mut logits = vec![1.0; length];
        apply(&words, &mut logits);
        for (id, logit) in logits.into_iter().enumerate() {
            assert_eq!(logit == 1.0, words[id / 32] >> (id % 32) & 1 == 1);
        }
    }
}
