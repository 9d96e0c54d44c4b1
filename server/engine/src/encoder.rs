//! Encoding pictures, slice by slice between the tokens of others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use api::{EncodeTimings, PictureKey};
use model::prompt::Prompt;

use crate::executor::{Executor, Progress, Source};
use crate::guard::{Fault, guarded};
use crate::scheduler::{Cached, EncodeJob, Page, Scheduler, numbers};
use crate::step_timings::Beside;

/// Pictures whose vectors are kept, so that another system turn before one costs its prefill and no more. Of the published
/// model each is 13 MB.
const KEPT: usize = 8;

/// What encodes a worker's pictures.
pub struct Encoder<E: Executor> {
    in_progress: Option<InProgress<E::Encoding>>,
    /// The vectors of the pictures encoded last, the latest used last.
    vectors: VecDeque<(PictureKey, E::Vectors)>,
}

/// The picture that is being encoded.
struct InProgress<L> {
    key: PictureKey,
    state: L,
    /// What stands before it, if anything does.
    prompt: Option<Arc<Prompt>>,
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

impl<E: Executor> Default for Encoder<E> {
    fn default() -> Self {
        Encoder {
            in_progress: None,
            vectors: VecDeque::new(),
        }
    }
}

impl<E: Executor> Encoder<E> {
    /// Stops encoding what was forgotten since, and lets go of what came of that.
    pub fn let_go(&mut self, scheduler: &Scheduler) {
        let now_at = scheduler.encoding();
        self.in_progress.take_if(|it| Some(it.key) != now_at);
        self.vectors.retain(|(key, _)| scheduler.holds(*key));
    }

    /// Lets go of all that it has.
    pub fn clear(&mut self) {
        *self = Encoder::default();
    }

    /// Whether a picture is being encoded.
    pub fn is_busy(&self) -> bool {
        self.in_progress.is_some()
    }

    /// A slice of encoding the picture at hand, or the next one: what may be computed `beside` somebody's tokens, else a whole
    /// stage.
    ///
    /// # Errors
    /// Encoding that picture has ended.
    pub fn encode(
        &mut self,
        scheduler: &mut Scheduler,
        executor: &mut E,
        beside: Beside,
    ) -> Result<(), Box<Failed>> {
        self.let_go(scheduler);
        match self.in_progress.take() {
            Some(encoding) => self.encode_chunk(encoding, scheduler, executor, beside),
            None => self.begin(scheduler, executor),
        }
    }

    fn begin(&mut self, scheduler: &mut Scheduler, executor: &mut E) -> Result<(), Box<Failed>> {
        let plain = executor.opening().entries().len();
        let Some((job, pages)) = scheduler.next_to_encode(plain) else {
            return Ok(());
        };
        let EncodeJob {
            key,
            pixels,
            prompt,
            since,
        } = job;
        let started = Instant::now();
        let known = self.vectors.iter().position(|(known, _)| *known == key);
        let known = known.and_then(|at| self.vectors.remove(at));
        let source = match &known {
            Some((_, vectors)) => Source::Vectors(vectors.clone()),
            None => Source::Pixels(&pixels),
        };
        self.vectors.extend(known);
        let begun = pages.map_err(Fault::from).and_then(|pages| {
            let (prompt, numbers) = (prompt.clone(), numbers(&pages));
            let state = guarded(|| executor.start_encode(source, prompt, numbers))?;
            Ok((state, pages))
        });
        let (state, pages) = begun.map_err(|fault| Box::new(Failed { key, fault }))?;
        self.in_progress = Some(InProgress {
            key,
            state,
            prompt,
            pages,
            since,
            started,
            vision_ms: 0.0,
        });
        Ok(())
    }

    fn encode_chunk(
        &mut self,
        mut encoding: InProgress<E::Encoding>,
        scheduler: &mut Scheduler,
        executor: &mut E,
        beside: Beside,
    ) -> Result<(), Box<Failed>> {
        let key = encoding.key;
        let progress = guarded(|| executor.encode_chunk(&mut encoding.state, beside));
        let progress = progress.map_err(|fault| Box::new(Failed { key, fault }))?;
        let elapsed_ms = encoding.started.elapsed().as_secs_f64() * 1e3;
        match progress {
            Progress::Encoding | Progress::Prefilling => self.in_progress = Some(encoding),
            Progress::Encoded => {
                if let Some(vectors) = executor.vectors(&encoding.state) {
                    self.vectors.push_back((key, vectors));
                    if self.vectors.len() > KEPT {
                        self.vectors.pop_front();
                    }
                }
                encoding.vision_ms = elapsed_ms;
                self.in_progress = Some(encoding);
            }
            Progress::Done => {
                let waited = encoding.started.saturating_duration_since(encoding.since);
                let timings = EncodeTimings {
                    queue_ms: waited.as_secs_f64() * 1e3,
                    vision_ms: encoding.vision_ms,
                    prefill_ms: elapsed_ms - encoding.vision_ms,
                };
                let prompt = encoding.prompt.as_deref();
                let cached = Cached {
                    entries: prompt.unwrap_or(executor.opening()).entries().to_vec(),
                    pages: encoding.pages,
                };
                scheduler.encoded(cached, timings, Instant::now());
            }
        }
        Ok(())
    }
}
