//! Looking at a picture, slice by slice between the tokens of others.

use std::time::Instant;

use api::{EncodeTimings, PictureKey};

use crate::executor::{Executor, Progress};
use crate::guard::{Fault, guarded};
use crate::scheduler::{Cached, Look, Page, Scheduler, numbers};

/// The picture that is being looked at.
pub struct Looking<L> {
    key: PictureKey,
    look: L,
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

/// Stops looking at what was forgotten since.
pub fn let_go<L>(looking: &mut Option<Looking<L>>, scheduler: &Scheduler) {
    let now_at = scheduler.looking();
    looking.take_if(|looking| Some(looking.key) != now_at);
}

/// A slice of looking at the picture at hand, or at the next one: a good half of a token's time beside somebody's answer, else a
/// whole stage.
///
/// # Errors
/// Looking at that picture has ended.
pub fn look<E: Executor>(
    looking: &mut Option<Looking<E::Look>>,
    scheduler: &mut Scheduler,
    executor: &mut E,
) -> Result<(), Box<Failed>> {
    let_go(looking, scheduler);
    match looking {
        Some(_) => look_on(looking, scheduler, executor),
        None => {
            *looking = begin(scheduler, executor)?;
            Ok(())
        }
    }
}

fn begin<E: Executor>(
    scheduler: &mut Scheduler,
    executor: &mut E,
) -> Result<Option<Looking<E::Look>>, Box<Failed>> {
    let Some((Look { key, pixels, since }, pages)) =
        scheduler.look(executor.opening().entries().len())
    else {
        return Ok(None);
    };
    let started = Instant::now();
    let begun = pages.map_err(Fault::from).and_then(|pages| {
        let look = guarded(|| executor.look(&pixels, numbers(&pages)))?;
        Ok((look, pages))
    });
    let (look, pages) = begun.map_err(|fault| Box::new(Failed { key, fault }))?;
    Ok(Some(Looking {
        key,
        look,
        pages,
        since,
        started,
        vision_ms: 0.0,
    }))
}

fn look_on<E: Executor>(
    place: &mut Option<Looking<E::Look>>,
    scheduler: &mut Scheduler,
    executor: &mut E,
) -> Result<(), Box<Failed>> {
    let Some(mut looking) = place.take() else {
        return Ok(());
    };
    let key = looking.key;
    let beside = scheduler.is_decoding();
    let progress = guarded(|| executor.look_on(&mut looking.look, beside));
    let progress = progress.map_err(|fault| Box::new(Failed { key, fault }))?;
    let elapsed_ms = looking.started.elapsed().as_secs_f64() * 1e3;
    match progress {
        Progress::Seeing | Progress::Reading => *place = Some(looking),
        Progress::Seen => {
            looking.vision_ms = elapsed_ms;
            *place = Some(looking);
        }
        Progress::Done => {
            let waited = looking.started.saturating_duration_since(looking.since);
            let timings = EncodeTimings {
                queue_ms: waited.as_secs_f64() * 1e3,
                vision_ms: looking.vision_ms,
                prefill_ms: elapsed_ms - looking.vision_ms,
            };
            let cached = Cached {
                entries: executor.opening().entries().to_vec(),
                pages: looking.pages,
            };
            scheduler.looked(cached, timings, Instant::now());
        }
    }
    Ok(())
}
