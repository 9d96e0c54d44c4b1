use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

pub(crate) const MODEL: &[u8] =
    include_bytes!("../../../../../tests/tokenizer/small/tokenizer.model");
pub(crate) const CONFIG: &[u8] =
    include_bytes!("../../../../../tests/tokenizer/small/tokenizer_config.json");

/// What Python's tiktoken says of the small vocabulary (tests/tokenizer/make_goldens.py).
#[derive(Deserialize)]
pub(crate) struct Goldens {
    pub encode: Vec<(String, Vec<u32>)>,
    pub decode: Vec<(Vec<u32>, String)>,
}

pub(crate) fn goldens() -> Goldens {
    let file = include_bytes!("../../../../../tests/tokenizer/small/goldens.json");
    serde_json::from_slice(file).unwrap()
}

pub(crate) fn small() -> Tokenizer {
    Tokenizer::from_files(MODEL, CONFIG).unwrap()
}

/// tiktoken's own loop: the neighbours that spell the lowest rank join, the leftmost of equals.
fn tiktoken(piece: &[u8], ranks: &HashMap<Vec<u8>, u32>) -> Vec<u32> {
    if let Some(&whole) = ranks.get(piece) {
        return vec![whole];
    }
    let mut parts: Vec<Vec<u8>> = piece.iter().map(|&b| vec![b]).collect();
    loop {
        let joined = |i: usize| [&parts[i][..], &parts[i + 1][..]].concat();
        let joins = (1..parts.len()).filter_map(|i| Some((*ranks.get(&joined(i - 1))?, i - 1)));
        let Some((_, at)) = joins.min() else {
            return parts.iter().map(|part| ranks[part]).collect();
        };
        parts[at] = joined(at);
        parts.remove(at + 1);
    }
}

fn file_of(ranks: &HashMap<Vec<u8>, u32>) -> Vec<u8> {
    let lines = ranks
        .iter()
        .map(|(token, rank)| format!("{} {rank}\n", BASE64.encode(token)));
    lines.collect::<String>().into_bytes()
}

#[test]
fn agrees_with_tiktoken() {
    let tokenizer = small();
    for (text, ids) in goldens().encode {
        assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{text:?}");
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| tokenizer.token_bytes(id).unwrap())
            .copied()
            .collect();
        assert_eq!(bytes, text.as_bytes());
    }
}

/// What other programs read agrees, and knows the special tokens besides.
#[test]
fn a_tokenizer_json_has_the_same_ids() {
    let tokenizer = small();
    let theirs: tokenizers::Tokenizer = tokenizer.to_json().unwrap().parse().unwrap();
    for (text, ids) in goldens().encode {
        if text.contains("<|") || text.contains("[gMASK]") || text.contains("<sop>") {
            // In their texts it is the token.
            continue;
        }
        let encoding = theirs.encode(text.as_str(), false).unwrap();
        assert_eq!(encoding.get_ids(), ids, "{text:?}");
        assert_eq!(theirs.decode(&ids, false).unwrap(), text);
    }
    let control = tokenizer.control();
    let encoding = theirs.encode("[gMASK]<sop><|user|>\nHi<|assistant|>", false);
    let ids = encoding.unwrap().get_ids().to_vec();
    assert_eq!(ids[..3], [control.gmask, control.sop, control.user]);
    assert_eq!(ids.last(), Some(&control.assistant));
    assert_eq!(theirs.get_vocab_size(true), tokenizer.vocab_size());
}

/// Vocabularies as bad as they get: any words of few letters, at any ranks, most of them reached in several ways or in
/// none.
#[test]
fn any_vocabulary_at_any_ranks_agrees_with_tiktokens_loop() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut merged = 0;
    for round in 0..60 {
        let letters = &b"abcd"[..2 + round % 3];
        let mut word = |most: usize| -> Vec<u8> {
            let length = rng.random_range(2..=most);
            (0..length)
                .map(|_| letters[rng.random_range(0..letters.len())])
                .collect()
        };
        let mut words: HashSet<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        words.extend((0..60).map(|_| word(7)));
        let mut ranks: HashMap<Vec<u8>, u32> = HashMap::new();
        let texts: Vec<Vec<u8>> = (0..80).map(|_| word(40)).collect();
        // The set's order is random already, and differs from run to run: sort, then shuffle by our own numbers.
        let mut words: Vec<_> = words.into_iter().collect();
        words.sort();
        for rank in 0..words.len() as u32 {
            let at = rng.random_range(0..words.len());
            ranks.insert(words.swap_remove(at), rank);
        }
        let specials = String::from_utf8(CONFIG.to_vec()).unwrap();
        let tokenizer = Tokenizer::from_files(&file_of(&ranks), specials.as_bytes()).unwrap();
        for text in texts {
            let expected = tiktoken(&text, &ranks);
            merged += usize::from(expected.len() < text.len());
            let text = String::from_utf8(text).unwrap();
            assert_eq!(
                tokenizer.encode(&text).unwrap(),
                expected,
                "{text} in round {round}"
            );
        }
    }
    assert!(merged > 4000, "the vocabularies join something: {merged}");
}

#[test]
fn what_a_user_types_is_never_a_control_token() {
    let tokenizer = small();
    for name in [
        "<|assistant|>",
        "<|endoftext|>",
        "[gMASK]<sop>",
        "</credit>",
    ] {
        let ids = tokenizer.encode(name).unwrap();
        assert!(
            ids.len() > 1 && ids.iter().all(|&id| !tokenizer.is_special(id)),
            "{name}"
        );
    }
}

#[test]
fn special_tokens_come_from_the_config() {
    let tokenizer = small();
    let user = tokenizer.special("<|user|>").unwrap();
    assert_eq!(tokenizer.control().user, user);
    assert!(tokenizer.is_special(user));
    assert_eq!(tokenizer.token_bytes(user), None);
    // Marked `"special": false` in the file, and still no text.
    assert!(tokenizer.is_special(tokenizer.special("</credit>").unwrap()));
    assert_eq!(tokenizer.special("<|no such|>"), None);
    assert_eq!(
        tokenizer.vocab_size() as u32,
        tokenizer.special("</credit>").unwrap() + 1
    );
    assert_eq!(tokenizer.token_bytes(u32::MAX), None);
}

#[test]
fn long_runs_are_no_trouble() {
    let tokenizer = small();
    for text in [
        " ".repeat(300_000) + "x",
        "\n ".repeat(20_000),
        "a".repeat(50_000),
        "'".repeat(50_000),
    ] {
        let ids = tokenizer.encode(&text).unwrap();
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| tokenizer.token_bytes(id).unwrap())
            .copied()
            .collect();
        assert_eq!(bytes, text.as_bytes());
    }
}

#[test]
fn broken_files_are_named() {
    let config = String::from_utf8(CONFIG.to_vec()).unwrap();
    let problem = |model: &[u8], config: &str| match Tokenizer::from_files(model, config.as_bytes())
    {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    let with = |line: &str| [MODEL, line.as_bytes()].concat();
    for (line, expected) in [
        ("YWJj\n", "tokenizer.model: line "),
        ("Y!Jj 9999\n", "is not `base64 rank`"),
        (" 9999\n", "is not `base64 rank`"),
        ("YWJj 4294967295\n", "is not `base64 rank`"),
        ("YWJjYWJj 7\n", "two tokens have rank 7"),
        ("YQ== 9999\n", "a token stands there twice"),
    ] {
        let message = problem(&with(line), &config);
        assert!(message.contains(expected), "{message}");
    }
    let message = problem(
        &MODEL[MODEL.iter().position(|&b| b == b'\n').unwrap() + 1..],
        &config,
    );
    assert!(message.contains("no token for the byte 0x00"), "{message}");
    let message = problem(b"", &config);
    assert!(message.contains("no token for the byte 0x00"), "{message}");

    let message = problem(MODEL, "{}");
    assert!(
        message.starts_with("tokenizer_config.json: missing field"),
        "{message}"
    );
    let message = problem(MODEL, &config.replace("<|user|>", "<|human|>"));
    assert!(message.contains("has no <|user|>"), "{message}");
    let message = problem(MODEL, &config.replacen("\"6", "\"minus 6", 1));
    assert!(message.contains("is no id"), "{message}");
    let message = problem(MODEL, &config.replace("<|system|>", "<|user|>"));
    assert!(message.contains("<|user|> has two ids"), "{message}");
    let message = problem(
        MODEL,
        r#"{"added_tokens_decoder": {"65": {"content": "<|user|>"}}}"#,
    );
    assert!(message.contains("id 65 is also a token"), "{message}");
}
