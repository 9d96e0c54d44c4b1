//! The tokenizer of the published folder: `tokenizers`' byte-level BPE, built from a tiktoken file.
//!
//! tiktoken knows no merges: it joins whichever two neighbours spell the token of lowest rank, the leftmost of equals.
//! `tokenizers` wants a list of merges, and one a token is enough to be exact. Where a token comes about inside a piece,
//! no join has crossed its ends, so those inside it came in the order in which they come when it stands alone: its last
//! join is always the same ([`last_join`]), and a token that joins do not reach alone is reached nowhere. Such a token
//! counts where it is a whole piece (`ignore_merges`), as in tiktoken.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::TextError;

/// The tiktoken file of the published folder.
pub const MODEL_FILE: &str = "tokenizer.model";
/// The file that names the special tokens.
pub const CONFIG_FILE: &str = "tokenizer_config.json";

/// How text is cut into pieces before any merge; part of the published tokenizer's code, not of its files.
const SPLIT_PATTERN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Ids over this are refused, for the tables here are as long as the largest id.
const MAX_ID: u32 = 1 << 22;

/// Text to ids, and ids to bytes. Control tokens live beside the text: no text encodes to one.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    /// The bytes of all ordinary tokens, one after the other …
    bytes: Vec<u8>,
    /// … and where each id's are; empty for ids that have none.
    spans: Vec<(u32, u32)>,
    special_ids: HashMap<String, u32>,
    specials: HashSet<u32>,
    control: ControlTokens,
    newline: Vec<u32>,
}

/// The ids that the conversation's format is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlTokens {
    /// `[gMASK]`
    pub gmask: u32,
    /// `<sop>`
    pub sop: u32,
    /// `<|system|>`
    pub system: u32,
    /// `<|user|>`
    pub user: u32,
    /// `<|assistant|>`
    pub assistant: u32,
    /// `<|begin_of_image|>`
    pub begin_of_image: u32,
    /// `<|endoftext|>`, which also holds the picture's place.
    pub end_of_text: u32,
    /// `<|end_of_image|>`
    pub end_of_image: u32,
}

impl Tokenizer {
    /// Reads a tokenizer from the bytes of `tokenizer.model` and `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TextError::File`] names the file, the line or token, and what is wrong with it.
    pub fn from_files(tokenizer_model: &[u8], tokenizer_config: &[u8]) -> Result<Self, TextError> {
        let ranks = read_ranks(tokenizer_model)?;
        let special_ids = read_specials(tokenizer_config)?;
        let specials: HashSet<u32> = special_ids.values().copied().collect();

        let longest = ranks
            .iter()
            .map(|(_, id)| *id)
            .chain(specials.iter().copied())
            .max();
        let mut spans = vec![(0, 0); longest.map_or(0, |id| id as usize + 1)];
        let mut bytes = Vec::with_capacity(tokenizer_model.len() / 2);
        for (token, id) in &ranks {
            if specials.contains(id) {
                let problem = format!("id {id} is also a token of {MODEL_FILE}");
                return Err(TextError::file(CONFIG_FILE, problem));
            }
            let start = bytes.len() as u32;
            bytes.extend_from_slice(token);
            spans[*id as usize] = (start, bytes.len() as u32);
        }

        let named = |name: &str| {
            special_ids.get(name).copied().ok_or_else(|| {
                let problem =
                    format!("added_tokens_decoder has no {name}, which the conversation needs");
                TextError::file(CONFIG_FILE, problem)
            })
        };
        let control = ControlTokens {
            gmask: named("[gMASK]")?,
            sop: named("<sop>")?,
            system: named("<|system|>")?,
            user: named("<|user|>")?,
            assistant: named("<|assistant|>")?,
            begin_of_image: named("<|begin_of_image|>")?,
            end_of_text: named("<|endoftext|>")?,
            end_of_image: named("<|end_of_image|>")?,
        };

        let mut tokenizer = Self {
            bpe: build_bpe(&ranks)?,
            bytes,
            spans,
            special_ids,
            specials,
            control,
            newline: Vec::new(),
        };
        tokenizer.newline = tokenizer.encode("\n")?;
        Ok(tokenizer)
    }

    /// The ids of plain text: `<|assistant|>` in it is letters.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the split pattern gives up on a text; no known text makes it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.bpe.encode_fast(text, false);
        Ok(encoding
            .map_err(|e| TextError::Encode(e.to_string()))?
            .get_ids()
            .to_vec())
    }

    /// The ids of `"\n"`, which stands between a role and its text.
    pub fn newline(&self) -> &[u32] {
        &self.newline
    }

    /// The ids of the conversation's format.
    pub fn control(&self) -> &ControlTokens {
        &self.control
    }

    /// The id of a special token, by its name as in `tokenizer_config.json`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.special_ids.get(name).copied()
    }

    /// The name of a special token, as in `tokenizer_config.json`.
    pub fn special_name(&self, id: u32) -> Option<&str> {
        let mut named = self.special_ids.iter();
        named
            .find(|(_, named)| **named == id)
            .map(|(name, _)| &**name)
    }

    /// Whether the id is one of `tokenizer_config.json`'s.
    pub fn is_special(&self, id: u32) -> bool {
        self.specials.contains(&id)
    }

    /// The bytes of an ordinary token, which may be a part of a character; `None` for special tokens and for the
    /// ids that only pad the embedding table.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let (start, end) = *self.spans.get(id as usize)?;
        (start < end).then(|| &self.bytes[start as usize..end as usize])
    }

    /// All of it as `tokenizer.json`, which other programs read. In a text for those, the name of a special token is that token.
    ///
    /// # Errors
    /// [`TextError::File`] if the special tokens' ids are not the next after the others: that form of file can't say so.
    pub fn to_json(&self) -> Result<String, TextError> {
        let mut named: Vec<_> = self.special_ids.iter().collect();
        named.sort_by_key(|(_, id)| **id);
        let mut tokenizer = self.bpe.clone();
        tokenizer.with_decoder(Some(ByteLevel::default()));
        let tokens = named
            .iter()
            .map(|(name, _)| AddedToken::from(name.as_str(), true));
        let added = tokenizer.add_special_tokens(tokens);
        for (name, id) in named {
            if added.is_err() || tokenizer.token_to_id(name) != Some(*id) {
                let problem =
                    format!("{name} has the id {id}, which a tokenizer.json can't give it");
                return Err(TextError::file(CONFIG_FILE, problem));
            }
        }
        let json = tokenizer.to_string(false);
        json.map_err(|error| TextError::Encode(error.to_string()))
    }

    /// One more than the largest id; the model's table may be longer.
    pub fn vocab_size(&self) -> usize {
        self.spans.len()
    }
}

/// The lines `base64(bytes) rank`, in the order of rank.
fn read_ranks(file: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, TextError> {
    let mut ranks = Vec::with_capacity(file.len() / 16);
    for (number, line) in file.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let entry = parse_line(line).ok_or_else(|| {
            let problem = format!("line {} is not `base64 rank`", number + 1);
            TextError::file(MODEL_FILE, problem)
        })?;
        ranks.push(entry);
    }
    ranks.sort_by_key(|(_, rank)| *rank);
    if let Some(twins) = ranks.windows(2).find(|pair| pair[0].1 == pair[1].1) {
        let problem = format!("two tokens have rank {}", twins[0].1);
        return Err(TextError::file(MODEL_FILE, problem));
    }
    Ok(ranks)
}

fn parse_line(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let space = line.iter().position(|&b| b == b' ')?;
    let token = BASE64.decode(&line[..space]).ok()?;
    let rank = std::str::from_utf8(&line[space + 1..]).ok()?.parse().ok()?;
    (!token.is_empty() && rank <= MAX_ID).then_some((token, rank))
}

/// `added_tokens_decoder`: every added token counts, whether or not the file calls it special.
fn read_specials(file: &[u8]) -> Result<HashMap<String, u32>, TextError> {
    #[derive(Deserialize)]
    struct Config {
        added_tokens_decoder: HashMap<String, Special>,
    }
    #[derive(Deserialize)]
    struct Special {
        content: String,
    }
    let wrong = |problem: String| TextError::file(CONFIG_FILE, problem);
    let config: Config = crate::json::read(file).map_err(wrong)?;
    let mut specials = HashMap::new();
    for (id, token) in config.added_tokens_decoder {
        let id = id.parse().ok().filter(|&id| id <= MAX_ID);
        let id = id.ok_or_else(|| wrong(format!("the id of {} is no id", token.content)))?;
        if let Some(other) = specials.insert(token.content.clone(), id) {
            let name = token.content;
            return Err(wrong(format!("{name} has two ids, {other} and {id}")));
        }
    }
    Ok(specials)
}

fn build_bpe(ranks: &[(Vec<u8>, u32)]) -> Result<tokenizers::Tokenizer, TextError> {
    let wrong = |problem: String| TextError::file(MODEL_FILE, problem);
    let letters = byte_letters();
    let spell = |bytes: &[u8]| -> String { bytes.iter().map(|&b| letters[b as usize]).collect() };

    let spelled: Vec<String> = ranks.iter().map(|(token, _)| spell(token)).collect();
    let ids = ranks.iter().map(|(_, rank)| *rank);
    let vocab: Vocab = spelled.iter().cloned().zip(ids).collect();
    if vocab.len() < ranks.len() {
        return Err(wrong("a token stands there twice".into()));
    }
    if let Some(byte) = (0..=u8::MAX).find(|&byte| !vocab.contains_key(&spell(&[byte]))) {
        return Err(wrong(format!(
            "there is no token for the byte 0x{byte:02x}"
        )));
    }
    let merges = spelled.par_iter().filter_map(|token| {
        let (left, right) = token.split_at(last_join(token, &vocab)?);
        Some((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect();
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(true)
        // Prompts are short; the cache would only grow, once for every thread.
        .cache_capacity(0)
        .build()
        .map_err(|e| wrong(e.to_string()))?;

    let pattern = SplitPattern::Regex(SPLIT_PATTERN.into());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map_err(|e| wrong(format!("the split pattern does not compile: {e}")))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)),
    ])));
    Ok(tokenizer)
}

/// Where the two tokens meet that tiktoken joins last on its way to `token`, an offset in it; `None` if joins do not
/// get there.
fn last_join(token: &str, vocab: &Vocab) -> Option<usize> {
    let rank =
        |start: usize, end: usize| vocab.get(&token[start..end]).copied().unwrap_or(u32::MAX);
    // Each part's start, and the rank of the part joined with the next one.
    let mut parts: Vec<(usize, u32)> = token.char_indices().map(|(at, _)| (at, u32::MAX)).collect();
    let end_of = |parts: &[(usize, u32)], index: usize| {
        parts.get(index + 1).map_or(token.len(), |part| part.0)
    };
    for index in 1..parts.len() {
        parts[index - 1].1 = rank(parts[index - 1].0, end_of(&parts, index));
    }
    while parts.len() > 2 {
        let ranked = parts
            .iter()
            .enumerate()
            .map(|(index, part)| (part.1, index));
        let (_, lowest) = ranked.min().filter(|(rank, _)| *rank != u32::MAX)?;
        parts.remove(lowest + 1);
        // The part has grown, so its join with the next one is another, and the one before's with it.
        for index in lowest.saturating_sub(1)..=lowest {
            let next = index + 1 < parts.len();
            parts[index].1 = if next {
                rank(parts[index].0, end_of(&parts, index + 1))
            } else {
                u32::MAX
            };
        }
    }
    parts.get(1).map(|second| second.0)
}

/// The letter that stands for each byte in byte-level vocabularies: printable Latin-1 for itself, the others from
/// U+0100 on (the same table as `tokenizers`' `ByteLevel`, which does not make it public).
fn byte_letters() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
        }
    })
}

#[cfg(test)]
pub(crate) mod tests;
