//! The ids of a conversation, in the published checkpoint's format.
//!
//! `[gMASK]<sop>`, then for each message `<|role|>`, a newline, the picture's three placeholders if this is the first
//! question, and the text; then `<|assistant|>` asks for the answer, which begins with a newline of its own. The
//! newline and the text are encoded apart: together they could share a token. A message with neither text nor picture
//! leaves no trace: no role, no newline.

use api::Turn;

use crate::text::{TextError, Tokenizer};

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
mod tests;
