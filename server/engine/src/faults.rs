//! Faults that tests put in the way of an executor's work.

use std::sync::Arc;

use candle_core::Result;
use model::prompt::Prompt;

use crate::executor::{Executor, Layer, Progress, Source};
use crate::scheduler::Piece;
use crate::step_timings::{Beside, StepTimings};

/// Told what is begun ("answer", "picture", or a page's way "out" or "in") and the token ids that go in; fails or panics where it likes.
pub type Hook = Box<dyn FnMut(&str, &[u32]) -> Result<()> + Send>;

/// Puts a hook before each piece of an executor's work.
pub struct Hooked(pub Hook);

impl Layer for Hooked {
    fn wrap<E: Executor>(self, executor: E) -> impl Executor {
        Faulty {
            executor,
            hook: self.0,
        }
    }
}

struct Faulty<E> {
    executor: E,
    hook: Hook,
}

impl<E: Executor> Executor for Faulty<E> {
    type Encoding = E::Encoding;
    type Vectors = E::Vectors;

    fn copy(&mut self, from: u32, to: u32) -> Result<()> {
        self.executor.copy(from, to)
    }

    fn page_out(&mut self, page: u32, host: u32) -> Result<()> {
        (self.hook)("out", &[])?;
        self.executor.page_out(page, host)
    }

    fn page_in(&mut self, host: u32, page: u32) -> Result<()> {
        (self.hook)("in", &[])?;
        self.executor.page_in(host, page)
    }

    fn run(&mut self, pieces: &[Piece]) -> Result<Vec<Option<Vec<f32>>>> {
        let ids: Vec<u32> = pieces.iter().flat_map(|p| &p.ids).copied().collect();
        (self.hook)("answer", &ids)?;
        self.executor.run(pieces)
    }

    fn start_encode(
        &mut self,
        picture: Source<'_, E::Vectors>,
        prompt: Option<Arc<Prompt>>,
        pages: Vec<u32>,
    ) -> Result<E::Encoding> {
        (self.hook)("picture", &[])?;
        self.executor.start_encode(picture, prompt, pages)
    }

    fn vectors(&self, encoding: &E::Encoding) -> Option<E::Vectors> {
        self.executor.vectors(encoding)
    }

    fn encode_chunk(&mut self, encoding: &mut E::Encoding, beside: Beside) -> Result<Progress> {
        (self.hook)("picture", &[])?;
        self.executor.encode_chunk(encoding, beside)
    }

    fn opening(&self) -> &Prompt {
        self.executor.opening()
    }

    fn renew(&mut self) -> Result<()> {
        self.executor.renew()
    }

    fn timings(&self) -> &StepTimings {
        self.executor.timings()
    }

    fn page_bytes(&self) -> usize {
        self.executor.page_bytes()
    }

    fn picture_entries(&self) -> usize {
        self.executor.picture_entries()
    }

    fn memory(&self) -> Option<(u64, u64)> {
        self.executor.memory()
    }
}
