//! The answer as text, while its tokens come.
//!
//! What the user reads is the answer and nothing else:
//!
//! * An id of `tokenizer_config.json`'s `added_tokens_decoder` is never shown, whether or not the file marks it
//!   `special` (decoders that look at the mark let `</credit>`-like names through), nor is an id without text, which
//!   only pads the embedding table. The same letters spelled by ordinary tokens are text: a sign in the picture may
//!   read `<|user|>`.
//! * White space before the first word, the newline that every answer begins with, is dropped.
//! * A character split over tokens waits until it is whole; bytes that can't become one turn into U+FFFD at once, one
//!   for each maximal invalid sequence, as `bytes.decode("utf-8", errors="replace")` does.
//! * Text that may be the beginning of a stop string waits until it is decided. The answer ends before the stop string
//!   that is complete first (the longest, of those that end together), however the text is cut into tokens.

use std::sync::Arc;

use super::Tokenizer;

/// Token ids in, pieces of the answer out: joined, the pieces are the answer.
pub struct AnswerStream {
    tokenizer: Arc<Tokenizer>,
    stop: Vec<String>,
    /// Bytes that are not yet a character.
    bytes: Vec<u8>,
    /// Text that may yet be part of a stop string.
    held: String,
    begun: bool,
    /// What can't be a character any more is left out at the end.
    whole: bool,
    stopped: bool,
}

impl AnswerStream {
    /// An answer that ends before any of `stop`; empty strings there are ignored.
    pub fn new(tokenizer: Arc<Tokenizer>, mut stop: Vec<String>) -> Self {
        stop.retain(|s| !s.is_empty());
        Self {
            tokenizer,
            stop,
            bytes: Vec::new(),
            held: String::new(),
            begun: false,
            whole: false,
            stopped: false,
        }
    }

    /// Shows white space at the beginning too, and of the bytes at the end only those of whole characters: nothing but what the
    /// tokens say.
    pub fn verbatim(self) -> Self {
        AnswerStream {
            begun: true,
            whole: true,
            ..self
        }
    }

    /// The text that this token decides; often a word, sometimes nothing.
    pub fn push(&mut self, id: u32) -> String {
        let mut shown = String::new();
        if self.stopped || self.tokenizer.is_special(id) {
            return shown;
        }
        if let Some(bytes) = self.tokenizer.token_bytes(id) {
            self.bytes.extend_from_slice(bytes);
        }
        let text = self.take_characters();
        self.show(&text, &mut shown);
        shown
    }

    /// The rest of the answer, once no token follows.
    pub fn finish(&mut self) -> String {
        let mut shown = String::new();
        let rest = std::mem::take(&mut self.bytes);
        if !self.whole {
            self.show(&String::from_utf8_lossy(&rest), &mut shown);
        }
        shown.push_str(&std::mem::take(&mut self.held));
        shown
    }

    /// Whether a stop string has ended the answer.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The whole characters of the waiting bytes; what could still become one stays.
    fn take_characters(&mut self) -> String {
        let mut text = String::new();
        let mut done = 0;
        let mut chunks = self.bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            if chunk.invalid().is_empty() {
                continue;
            }
            let at_end = chunks.peek().is_none();
            let unfinished = std::str::from_utf8(chunk.invalid())
                .is_err_and(|error| error.error_len().is_none());
            if at_end && unfinished {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += chunk.invalid().len();
        }
        self.bytes.drain(..done);
        text
    }

    fn show(&mut self, text: &str, shown: &mut String) {
        for character in text.chars() {
            if self.stopped {
                self.bytes.clear();
                return;
            }
            if !self.begun && character.is_whitespace() {
                continue;
            }
            self.begun = true;
            self.held.push(character);
            let held = &self.held;
            let complete = self
                .stop
                .iter()
                .filter(|stop| held.ends_with(stop.as_str()));
            if let Some(longest) = complete.map(String::len).max() {
                shown.push_str(&held[..held.len() - longest]);
                self.held.clear();
                self.stopped = true;
            } else {
                let kept = self.held.len() - self.undecided();
                shown.extend(self.held.drain(..kept));
            }
        }
    }

    /// How many of the last held bytes begin a stop string.
    fn undecided(&self) -> usize {
        let starts = self
            .held
            .char_indices()
            .map(|(start, _)| &self.held[start..]);
        let mut undecided = starts.filter(|end| self.stop.iter().any(|s| s.starts_with(end)));
        undecided.next().map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests;
