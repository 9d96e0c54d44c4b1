//! Faults that tests put in the way of an executor's work.

use std::sync::Arc;

use candle_core::Result;
use model::prompt::Prompt;
use model::scores::{Largest, Scores, Wanted};

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
            passes: 0,
        }
    }
}

struct Faulty<E> {
    executor: E,
    hook: Hook,
    passes: u64,
}

fn no_more_than(scores: Scores, wanted: Wanted) -> Scores {
    let (Scores::All(all), Wanted::Largest(count)) = (&scores, wanted) else {
        return scores;
    };
    let mut order = all.clone();
    order.sort_by(|a, b| b.total_cmp(a));
    let least = order[count.min(order.len()) - 1];
    let found = (0u32..).zip(all.iter().copied());
    let found = found.filter(|(_, score)| *score >= least);
    Scores::Largest(Largest::new(found.collect()))
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

    fn run(&mut self, pieces: &[Piece], wanted: &[Wanted]) -> Result<Vec<Option<Scores>>> {
        let ids: Vec<u32> = pieces.iter().flat_map(|p| &p.ids).copied().collect();
        (self.hook)("answer", &ids)?;
        let mut all = self.executor.run(pieces, wanted)?;
        self.passes += 1;
        // Every second time no more than is wanted, as of a card.
        if self.passes.is_multiple_of(2) {
            for (scores, wanted) in all.iter_mut().zip(wanted) {
                *scores = scores.take().map(|scores| no_more_than(scores, *wanted));
            }
        }
        Ok(all)
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
