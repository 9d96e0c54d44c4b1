//! Runs everything once that will be served, so that the first user is as fast as the tenth.

use std::time::Instant;

use api::Pixels;
use candle_core::{Result, Tensor};
use model::device::tell_memory;
use model::kernels::{PAGE, Span};
use model::network::Network;
use model::prompt::Prompt;
use model::scores::{Chosen, Wanted};

use crate::executor::{Executor, OnDevice};
use crate::step_timings::{Beside, StepTimings};

impl<N: Network> OnDevice<N> {
    /// Runs passes of every size that up to `slots` slots need. The cache is used from its beginning, and nothing of that is
    /// kept.
    pub fn warm_up(&mut self, slots: usize) -> Result<()> {
        let size = self.model.shape().picture_side;
        self.model.reserve_memory()?;
        tell_memory(self.model.device(), "with the KV cache, and reserved");
        let pixels = Pixels::new(size, vec![128; Pixels::bytes(size)]);
        let is_card = self.model.device().is_cuda();
        if is_card {
            // It measures its products at first.
            let mut unused = StepTimings::new(N::ENCODE_STAGES);
            encode(&self.model, &pixels, &mut unused, Beside::Nothing)?;
        }
        let vectors = encode(&self.model, &pixels, &mut self.timings, Beside::Nothing)?;
        tell_memory(self.model.device(), "after a picture");
        let rows = vectors.dim(0)?;
        // Of each slot its own pages.
        let span = |len: usize, slot: usize| {
            let pages = len.div_ceil(PAGE) as u32;
            Span {
                start: 0,
                len,
                pages: (slot as u32 * pages..(slot as u32 + 1) * pages).collect(),
            }
        };
        let mut places = Prompt::new(self.opening().axes());
        places.extend(std::iter::repeat_n(0, rows));
        // Slices of other work are cut by what is measured here from the first one on; a card measures its products at first.
        for _ in 0..if is_card { 2 } else { 1 } {
            self.model.device().synchronize()?;
            let started = Instant::now();
            let (spans, layers) = (vec![span(rows, 0)], self.model.layers());
            let positions = places.positions(0..rows);
            let pass = self.model.begin(vectors.clone(), spans, positions)?;
            self.model.go_on(pass, layers, &self.arena)?;
            self.model.device().synchronize()?;
            self.timings
                .prefilled(started.elapsed(), rows, layers, layers);
        }
        tell_memory(self.model.device(), "after its prefill");
        // A card's products are measured for each size of question.
        let lens: &[usize] = match is_card {
            true => &[128, 64, 32, 16, 4, 1],
            false => &[4, 1],
        };
        for batch in 1..=slots {
            let fits = |len: usize| len <= rows && batch * len.div_ceil(PAGE) <= self.arena.pages();
            for &len in lens.iter().filter(|len| fits(**len)) {
                for turn in 0..3 {
                    let started = Instant::now();
                    let ids = vec![0; batch * len];
                    let positions = places.positions(0..len).repeat(batch);
                    let spans = (0..batch).map(|slot| span(len, slot)).collect();
                    let chosen = |wanted| move |span| Chosen { span, wanted };
                    // Whichever way the scores come back later.
                    let wanted = [
                        Wanted::All,
                        Wanted::Largest(1),
                        Wanted::Largest(Wanted::MOST),
                    ];
                    let all: Vec<Chosen> = (0..batch).map(chosen(wanted[turn])).collect();
                    self.model
                        .next(&ids, spans, &positions, &self.arena, &all)?;
                    if (len, turn) == (1, 2) {
                        self.timings.forward(started.elapsed(), batch, batch);
                    }
                }
                let what = format!("after {batch} × {len} tokens");
                tell_memory(self.model.device(), &what);
            }
        }
        if is_card {
            // The sizes of products beside somebody who decodes.
            encode(&self.model, &pixels, &mut self.timings, Beside::Tokens)?;
        }
        Ok(())
    }

    /// Ends the measuring of kernels: no later pass waits for it.
    pub fn settle(&self) -> Result<()> {
        self.model.settle()
    }
}

/// Sends a picture through the vision tower, in slices as `beside` asks for, and tells `timings` what each
/// took.
fn encode<N: Network>(
    model: &N,
    pixels: &Pixels,
    timings: &mut StepTimings,
    beside: Beside,
) -> Result<Tensor> {
    let mut encoding = model.start_encode(pixels)?;
    loop {
        let (started, kind) = (Instant::now(), model.encode_stage(&encoding));
        let rows = model.encode_rows(&encoding);
        let most = timings.next_rows(&timings.slice(beside), kind, rows);
        let step = model.encode_chunk(&mut encoding, most.unwrap_or(rows))?;
        model.device().synchronize()?;
        timings.vision(kind, started.elapsed(), step.rows);
        if let Some(vectors) = step.vectors {
            return Ok(vectors);
        }
    }
}
