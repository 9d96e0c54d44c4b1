//! The ids of a conversation, in the published checkpoint's format.
//!
//! `[gMASK]<sop>`, then for each message `<|role|>`, a newline, the picture's three placeholders if this is the first
//! question, and the text; then `<|assistant|>` asks for the answer, which begins with a newline of its own. The
//! newline and the text are encoded apart: together they could share a token. A message with neither text nor picture
//! leaves no trace: no role, no newline.

use super::{TextError, Tokenizer};

/// A question and its answer, earlier in the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// As the user wrote it.
    pub question: String,
    /// As the user read it; empty if it ended before its first word.
    pub answer: String,
    /// As the model made it, leading newline included and stop token excluded. Exact ids keep a cache valid, for
    /// the same text may be spelled by other tokens; without them the answer is encoded as the original would.
    pub answer_ids: Option<Vec<u32>>,
}

/// The prompt that asks for the answer to `question` after `turns`. The three placeholders stand where the model puts
/// the picture's vectors.
///
/// # Errors
/// Those of [`Tokenizer::encode`].
pub fn prompt(
    tokenizer: &Tokenizer,
    turns: &[Turn],
    question: &str,
    has_picture: bool,
) -> Result<Vec<u32>, TextError> {
    let control = tokenizer.control();
    let mut ids = vec![control.gmask, control.sop];
    let answered = turns
        .iter()
        .map(|turn| (turn.question.as_str(), Some(turn)));
    for (index, (question, turn)) in answered.chain([(question, None)]).enumerate() {
        let pictured = index == 0 && has_picture;
        if pictured || !question.is_empty() {
            ids.push(control.user);
            ids.extend(tokenizer.newline());
        }
        if pictured {
            ids.extend([
                control.begin_of_image,
                control.end_of_text,
                control.end_of_image,
            ]);
        }
        ids.extend(tokenizer.encode(question)?);
        let Some(turn) = turn.filter(|turn| !turn.answer.is_empty()) else {
            continue;
        };
        ids.push(control.assistant);
        match &turn.answer_ids {
            Some(exact) => ids.extend(exact),
            None => {
                ids.extend(tokenizer.newline());
                ids.extend(tokenizer.encode(&turn.answer)?);
            }
        }
    }
    ids.push(control.assistant);
    Ok(ids)
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
