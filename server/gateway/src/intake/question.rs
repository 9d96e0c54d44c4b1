//! What every door asks of a question before it is taken.

use wire::{ErrorCode, Limits};

use api::{Defaults, Failure, SamplingParams};

/// Whether it can be answered at all.
///
/// # Errors
/// `empty_text`, `text_too_long`.
pub fn check_text(text: &str, limits: &Limits) -> Result<(), Failure> {
    if wire::is_blank(text) {
        let message = "The question is empty: write something to ask.";
        return Err(Failure::new(ErrorCode::EmptyText, message));
    }
    let (length, most) = (text.chars().count() as u64, limits.text_chars);
    if length > most {
        let message = format!(
            "The question has {length} characters, but at most {most} are taken: shorten it."
        );
        return Err(Failure::new(ErrorCode::TextTooLong, message));
    }
    Ok(())
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
