//! The ids of a conversation, in the published checkpoint's format.
//!
//! `[gMASK]<sop>`, then for each message `<|role|>`, a newline, the picture's three placeholders if this is the question that
//! it came with, and the text; then `<|assistant|>` asks for the answer, which begins with a newline of its own. The
//! newline and the text are encoded apart: together they could share a token. A message with neither text nor picture
//! leaves no trace: no role, no newline.

use crate::text::{TextError, Tokenizer};
use api::Conversation;

/// The prompt that asks for a conversation's next answer, and where in it the three placeholders begin that give way to the
/// picture's vectors.
///
/// # Errors
/// Those of [`Tokenizer::encode`].
pub fn prompt(
    tokenizer: &Tokenizer,
    conversation: &Conversation<'_>,
) -> Result<(Vec<u32>, Option<usize>), TextError> {
    let control = tokenizer.control();
    let mut ids = vec![control.gmask, control.sop];
    if !conversation.system.is_empty() {
        ids.push(control.system);
        ids.extend(tokenizer.newline());
        ids.extend(tokenizer.encode(conversation.system)?);
    }
    let mut picture = None;
    let answered = conversation.history.iter();
    let answered = answered.map(|turn| (turn.question.as_str(), Some(turn)));
    let asked = [(conversation.question, None)];
    for (index, (question, turn)) in answered.chain(asked).enumerate() {
        let pictured = conversation.picture == Some(index);
        if pictured || !question.is_empty() {
            ids.push(control.user);
            ids.extend(tokenizer.newline());
        }
        if pictured {
            picture = Some(ids.len());
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
    Ok((ids, picture))
}

#[cfg(test)]
mod tests;
