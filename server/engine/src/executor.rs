//! What runs turns on a device. It decides nothing, and nothing of questions, sessions or time limits is known here.

use std::sync::Arc;
use std::time::Instant;

use api::Pixels;
use candle_core::{Result, Tensor};
use model::device::device_memory;
use model::kernels::{Arena, HostPages, Mark, Span};
use model::network::Network;
use model::prompt::Prompt;
use model::scores::{Chosen, Scores, Wanted};

use crate::scheduler::Piece;
use crate::step_timings::{Beside, StepTimings};

/// A device with a model and a cache on it. One whose work panics may be in any state until [`Executor::renew`].
pub trait Executor {
    /// A picture that is being encoded.
    type Encoding;
    /// A picture's own vectors, whatever stands before it. Clones share the memory.
    type Vectors: Clone;

    /// Copies a page of the cache.
    fn copy(&mut self, from: u32, to: u32) -> Result<()>;

    /// Copies a page of the cache into the host's memory, to one of the pages there.
    fn page_out(&mut self, page: u32, host: u32) -> Result<()>;

    /// Copies it back into a page of the cache.
    fn page_in(&mut self, host: u32, page: u32) -> Result<()>;

    /// Computes the pieces in one pass; for each that is its sequence's last, the next token's scores, at least as many as are
    /// wanted of it.
    fn run(&mut self, pieces: &[Piece], wanted: &[Wanted]) -> Result<Vec<Option<Scores>>>;

    /// Begins to encode a picture, or to go on from its vectors, until what `prompt` says is in `pages`: the entries up to the
    /// picture's end; without one those of [`Executor::opening`].
    fn start_encode(
        &mut self,
        picture: Source<'_, Self::Vectors>,
        prompt: Option<Arc<Prompt>>,
        pages: Vec<u32>,
    ) -> Result<Self::Encoding>;

    /// A picture's vectors, once it is encoded.
    fn vectors(&self, encoding: &Self::Encoding) -> Option<Self::Vectors>;

    /// A slice of that, short enough to fit between two tokens where it is `beside` somebody's.
    fn encode_chunk(&mut self, encoding: &mut Self::Encoding, beside: Beside) -> Result<Progress>;

    /// What the cache holds for every conversation that has no system turn and begins with a picture, once that was encoded.
    fn opening(&self) -> &Prompt;

    /// An empty cache, once all that was asked of the device is done.
    fn renew(&mut self) -> Result<()>;

    /// How long things take.
    fn timings(&self) -> &StepTimings;

    /// Bytes of a page of the cache.
    fn page_bytes(&self) -> usize;

    /// Entries of the cache that a picture takes.
    fn picture_entries(&self) -> usize;

    /// The device's own memory, free and in all, if it has some.
    fn memory(&self) -> Option<(u64, u64)>;
}

/// Puts something around an executor: tests put faults in its way.
pub trait Layer {
    fn wrap<E: Executor>(self, executor: E) -> impl Executor;
}

/// A layer that changes nothing.
pub struct Identity;

impl Layer for Identity {
    fn wrap<E: Executor>(self, executor: E) -> impl Executor {
        executor
    }
}

/// What is known of a picture.
pub enum Source<'a, V> {
    Pixels(&'a Pixels),
    /// What came of encoding the picture before.
    Vectors(V),
}

/// How far encoding a picture has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// In the vision tower.
    Encoding,
    /// Just out of it.
    Encoded,
    /// In the decoder.
    Prefilling,
    /// The picture's entries are in the cache.
    Done,
}

/// A model on its device.
pub struct OnDevice<N: Network> {
    pub(super) model: N,
    pub(super) arena: Arena,
    /// Where pages of answers go that make room for others.
    host: HostPages,
    pub(super) timings: StepTimings,
    opening: Arc<Prompt>,
}

/// A picture being encoded.
pub struct EncodeState<N: Network> {
    pages: Vec<u32>,
    /// The entries up to the picture's end.
    prompt: Arc<Prompt>,
    /// The picture's own, once it is out of the tower.
    vectors: Option<Tensor>,
    stage: Stage<N>,
}

enum Stage<N: Network> {
    Vision {
        encoding: N::Encoding,
        /// What a card was asked for before the last stage: it is never more than two behind, so that no question has to wait
        /// for the whole tower.
        behind: Option<Mark>,
    },
    /// The vectors of the whole opening, of which so many are in the cache.
    Prefill {
        vectors: Tensor,
        done: usize,
        /// What is computed of them now, and how many entries that is.
        pass: Option<(N::Pass, usize)>,
    },
}

impl<N: Network> OnDevice<N> {
    /// A model with a KV cache of `pages` pages, and room for `host_pages` of them in the host's memory; `opening` is the prompt
    /// that all conversations about a picture begin with.
    pub fn new(model: N, opening: Prompt, pages: usize, host_pages: usize) -> Result<Self> {
        let arena = model.arena(pages)?;
        Ok(OnDevice {
            host: arena.host(host_pages)?,
            arena,
            timings: StepTimings::new(N::ENCODE_STAGES),
            opening: Arc::new(opening),
            model,
        })
    }

    /// The decoder's part of encoding a picture.
    fn start_prefill(&self, prompt: &Prompt, vectors: &Tensor) -> Result<Stage<N>> {
        Ok(Stage::Prefill {
            vectors: self.model.embed(prompt, Some(vectors))?,
            done: 0,
            pass: None,
        })
    }

    fn encode(
        &mut self,
        encoding: &mut N::Encoding,
        behind: &mut Option<Mark>,
        beside: Beside,
    ) -> Result<Option<Tensor>> {
        let started = Instant::now();
        let mut slice = self.timings.slice(beside);
        let beside = beside != Beside::Nothing;
        let vectors = loop {
            let kind = self.model.encode_stage(encoding);
            let rows = self.model.encode_rows(encoding);
            let Some(most) = self.timings.next_rows(&slice, kind, rows) else {
                break None;
            };
            let step = self.model.encode_chunk(encoding, most)?;
            self.timings.put(&mut slice, kind, step.rows);
            // Alone, a stage is asked for at a time: somebody may come.
            if step.vectors.is_some() || !beside {
                break step.vectors;
            }
        };
        let here = Mark::set(self.model.device())?;
        if beside || vectors.is_some() {
            here.wait()?;
        } else if let Some(before) = behind.replace(here) {
            before.wait()?;
        }
        if beside {
            self.timings.sliced(slice, started.elapsed());
        }
        Ok(vectors)
    }

    /// Whether all of it is in the cache.
    fn prefill(
        &mut self,
        prompt: &Prompt,
        vectors: &Tensor,
        start: &mut usize,
        under_way: &mut Option<(N::Pass, usize)>,
        pages: &[u32],
        beside: Beside,
    ) -> Result<bool> {
        let started = Instant::now();
        let entries = prompt.entries().len();
        let left = (entries - *start).min(StepTimings::PREFILL);
        let all = self.model.layers();
        let len = match &under_way {
            Some((_, len)) => *len,
            None => self.timings.prefill_rows(left, all, beside),
        };
        let layers = self.timings.prefill_layers(len, all, beside);
        let pass = match under_way.take() {
            Some((pass, _)) => pass,
            None => {
                let span = Span {
                    start: *start,
                    len,
                    pages: pages.to_vec(),
                };
                let positions = prompt.positions(*start..*start + len);
                let rows = vectors.narrow(0, *start, len)?.contiguous()?;
                self.model.begin(rows, vec![span], positions)?
            }
        };
        let before = self.model.computed(&pass);
        let (pass, done) = self.model.go_on(pass, layers, &self.arena)?;
        self.model.device().synchronize()?;
        let computed = layers.min(all - before);
        self.timings
            .prefilled(started.elapsed(), len, computed, all);
        if done {
            *start += len;
        } else {
            *under_way = Some((pass, len));
        }
        Ok(*start == entries)
    }
}

impl<N: Network> Executor for OnDevice<N> {
    type Encoding = EncodeState<N>;
    type Vectors = Tensor;

    fn copy(&mut self, from: u32, to: u32) -> Result<()> {
        self.arena.copy_page(from, to)
    }

    fn page_out(&mut self, page: u32, host: u32) -> Result<()> {
        self.arena.page_out(page, &mut self.host, host)
    }

    fn page_in(&mut self, host: u32, page: u32) -> Result<()> {
        self.arena.page_in(&self.host, host, page)
    }

    fn run(&mut self, pieces: &[Piece], wanted: &[Wanted]) -> Result<Vec<Option<Scores>>> {
        let started = Instant::now();
        let of_all = |list: fn(&Piece) -> &[u32]| -> Vec<u32> {
            pieces.iter().flat_map(list).copied().collect()
        };
        let (ids, positions) = (of_all(|piece| &piece.ids), of_all(|piece| &piece.positions));
        let spans = pieces.iter().map(|piece| piece.span.clone()).collect();
        let last = pieces.iter().zip(wanted).enumerate();
        let last = last.filter(|(_, (piece, _))| piece.is_last);
        let chosen = last.map(|(span, (_, &wanted))| Chosen { span, wanted });
        let last: Vec<Chosen> = chosen.collect();
        let scores = self
            .model
            .next(&ids, spans, &positions, &self.arena, &last)?;
        let answers = pieces.iter().filter(|piece| piece.span.len == 1).count();
        self.timings.forward(started.elapsed(), ids.len(), answers);
        let mut results = vec![None; pieces.len()];
        for (chosen, scores) in last.into_iter().zip(scores) {
            results[chosen.span] = Some(scores);
        }
        Ok(results)
    }

    fn start_encode(
        &mut self,
        picture: Source<'_, Tensor>,
        prompt: Option<Arc<Prompt>>,
        pages: Vec<u32>,
    ) -> Result<EncodeState<N>> {
        let prompt = prompt.unwrap_or_else(|| self.opening.clone());
        let (stage, vectors) = match picture {
            Source::Pixels(pixels) => {
                let (encoding, behind) = (self.model.start_encode(pixels)?, None);
                (Stage::Vision { encoding, behind }, None)
            }
            Source::Vectors(vectors) => (self.start_prefill(&prompt, &vectors)?, Some(vectors)),
        };
        Ok(EncodeState {
            pages,
            prompt,
            vectors,
            stage,
        })
    }

    fn vectors(&self, encoding: &EncodeState<N>) -> Option<Tensor> {
        encoding.vectors.clone()
    }

    fn encode_chunk(&mut self, encoding: &mut EncodeState<N>, beside: Beside) -> Result<Progress> {
        match &mut encoding.stage {
            Stage::Vision {
                encoding: tower,
                behind,
            } => {
                let Some(vectors) = self.encode(tower, behind, beside)? else {
                    return Ok(Progress::Encoding);
                };
                encoding.stage = self.start_prefill(&encoding.prompt, &vectors)?;
                encoding.vectors = Some(vectors);
                Ok(Progress::Encoded)
            }
            Stage::Prefill {
                vectors,
                done,
                pass,
            } => {
                let (prompt, pages) = (&encoding.prompt, &encoding.pages);
                match self.prefill(prompt, vectors, done, pass, pages, beside)? {
                    true => Ok(Progress::Done),
                    false => Ok(Progress::Prefilling),
                }
            }
        }
    }

    fn opening(&self) -> &Prompt {
        &self.opening
    }

    fn renew(&mut self) -> Result<()> {
        self.model.device().synchronize()?;
        let pages = self.arena.pages();
        // The old memory goes before the new is taken: the device has no room for both.
        self.arena = self.model.arena(1)?;
        self.arena = self.model.arena(pages)?;
        Ok(())
    }

    fn timings(&self) -> &StepTimings {
        &self.timings
    }

    fn page_bytes(&self) -> usize {
        self.model.page_bytes()
    }

    fn picture_entries(&self) -> usize {
        self.model.shape().picture_entries
    }

    fn memory(&self) -> Option<(u64, u64)> {
        device_memory(self.model.device())
    }
}
