//! What every door asks of a question before it is taken.

use api::answer::MAX_LOGPROBS;
use wire::{ErrorCode, Limits};

use api::{AnswerFormat, Defaults, Failure, SamplingParams};

/// Whether it can be answered at all.
///
/// # Errors
/// `empty_text`, `text_too_long`.
pub fn check_text(text: &str, limits: &Limits) -> Result<(), Failure> {
    if wire::is_blank(text) {
        let message = "The question is empty: write something to ask.";
        return Err(Failure::new(ErrorCode::EmptyText, message));
    }
    check_length("question", text, limits)
}

/// Whether a system turn can stand before the others.
///
/// # Errors
/// `text_too_long`.
pub fn check_system(text: &str, limits: &Limits) -> Result<(), Failure> {
    check_length("system turn", text, limits)
}

fn check_length(what: &str, text: &str, limits: &Limits) -> Result<(), Failure> {
    let (length, most) = (text.chars().count() as u64, limits.text_chars);
    if length > most {
        let message = format!(
            "The {what} has {length} characters, but at most {most} are taken: shorten it."
        );
        return Err(Failure::new(ErrorCode::TextTooLong, message));
    }
    Ok(())
}

/// Whether so many tokens can be told beside each of its answer's.
///
/// # Errors
/// `bad_message`.
pub fn check_logprobs(asked: Option<u32>) -> Result<(), Failure> {
    match asked {
        Some(count) if count > MAX_LOGPROBS => {
            let message = format!("logprobs must be from 0 to {MAX_LOGPROBS}, not {count}.");
            Err(Failure::new(ErrorCode::BadMessage, message))
        }
        _ => Ok(()),
    }
}

/// The format that its answer has to have, if any.
///
/// # Errors
/// `bad_format`.
pub fn format(asked: Option<AnswerFormat>) -> Result<Option<AnswerFormat>, Failure> {
    let format = asked.filter(|format| *format != AnswerFormat::Text);
    if let Some(format) = &format {
        let checked = format.check();
        checked.map_err(|problem| Failure::new(ErrorCode::BadFormat, problem))?;
    }
    Ok(format)
}

/// How to draw its answer's tokens: as asked, else as the checkpoint says, with a seed.
///
/// # Errors
/// `bad_sampling`.
pub fn sampling(
    asked: Option<&wire::Sampling>,
    defaults: &Defaults,
    limits: &Limits,
) -> Result<SamplingParams, Failure> {
    let asked = asked.cloned().unwrap_or_default();
    let sampling = defaults.with(&asked, limits.max_new_tokens, api::random_seed());
    sampling.map_err(|problem| Failure::new(ErrorCode::BadSampling, problem))
}
