//! Encoding a picture, slice by slice between the tokens of others.

use std::time::Instant;

use api::{EncodeTimings, PictureKey};

use crate::executor::{Executor, Progress};
use crate::guard::{Fault, guarded};
use crate::scheduler::{Cached, EncodeJob, Page, Scheduler, numbers};

/// The picture that is being encoded.
pub struct EncodeInProgress<L> {
    key: PictureKey,
    state: L,
    /// Where it will be.
    pages: Vec<Page>,
    since: Instant,
    started: Instant,
    vision_ms: f64,
}

/// What a slice came to, where it failed.
pub struct Failed {
    pub key: PictureKey,
    pub fault: Fault,
}

/// Stops encoding what was forgotten since.
pub fn abort_if_forgotten<L>(encoding: &mut Option<EncodeInProgress<L>>, scheduler: &Scheduler) {
    let now_at = scheduler.encoding();
    encoding.take_if(|encoding| Some(encoding.key) != now_at);
}

/// A slice of encoding the picture at hand, or the next one: a good half of a token's time beside somebody's answer, else a
/// whole stage.
///
/// # Errors
/// Encoding that picture has ended.
pub fn encode<E: Executor>(
    encoding: &mut Option<EncodeInProgress<E::Encoding>>,
    scheduler: &mut Scheduler,
    executor: &mut E,
) -> Result<(), Box<Failed>> {
    abort_if_forgotten(encoding, scheduler);
    match encoding {
        Some(_) => encode_chunk(encoding, scheduler, executor),
        None => {
            *encoding = begin(scheduler, executor)?;
            Ok(())
        }
    }
}

fn begin<E: Executor>(
    scheduler: &mut Scheduler,
    executor: &mut E,
) -> Result<Option<EncodeInProgress<E::Encoding>>, Box<Failed>> {
    let Some((EncodeJob { key, pixels, since }, pages)) =
        scheduler.next_to_encode(executor.opening().entries().len())
    else {
        return Ok(None);
    };
    let started = Instant::now();
    let begun = pages.map_err(Fault::from).and_then(|pages| {
        let state = guarded(|| executor.start_encode(&pixels, numbers(&pages)))?;
        Ok((state, pages))
    });
    let (state, pages) = begun.map_err(|fault| Box::new(Failed { key, fault }))?;
    Ok(Some(EncodeInProgress {
        key,
        state,
        pages,
        since,
        started,
        vision_ms: 0.0,
    }))
}

fn encode_chunk<E: Executor>(
    place: &mut Option<EncodeInProgress<E::Encoding>>,
    scheduler: &mut Scheduler,
    executor: &mut E,
) -> Result<(), Box<Failed>> {
    let Some(mut encoding) = place.take() else {
        return Ok(());
    };
    let key = encoding.key;
    let beside = scheduler.is_decoding();
    let progress = guarded(|| executor.encode_chunk(&mut encoding.state, beside));
    let progress = progress.map_err(|fault| Box::new(Failed { key, fault }))?;
    let elapsed_ms = encoding.started.elapsed().as_secs_f64() * 1e3;
    match progress {
        Progress::Encoding | Progress::Prefilling => *place = Some(encoding),
        Progress::Encoded => {
            encoding.vision_ms = elapsed_ms;
            *place = Some(encoding);
        }
        Progress::Done => {
            let waited = encoding.started.saturating_duration_since(encoding.since);
            let timings = EncodeTimings {
                queue_ms: waited.as_secs_f64() * 1e3,
                vision_ms: encoding.vision_ms,
                prefill_ms: elapsed_ms - encoding.vision_ms,
            };
            let cached = Cached {
                entries: executor.opening().entries().to_vec(),
                pages: encoding.pages,
            };
            scheduler.encoded(cached, timings, Instant::now());
        }
    }
    Ok(())
}
