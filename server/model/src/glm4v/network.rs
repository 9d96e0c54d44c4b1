//! GLM-4V as an engine knows it.

use api::Pixels;
use candle_core::{Device, Result, Tensor};

use super::{Encoding, Model, Pass};
use crate::kernels::{Arena, Span};
use crate::network::{Network, Shape, Step};
use crate::prompt::Prompt;
use crate::scores::{Chosen, Scores};

impl Network for Model {
    type Encoding = Encoding;
    type Pass = Pass;

    const ENCODE_STAGES: usize = Encoding::KINDS;

    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn device(&self) -> &Device {
        Model::device(self)
    }

    fn weight_bytes(&self) -> u64 {
        Model::weight_bytes(self)
    }

    fn page_bytes(&self) -> usize {
        Model::page_bytes(self)
    }

    fn arena(&self, pages: usize) -> Result<Arena> {
        Model::arena(self, pages)
    }

    fn reserve_memory(&self) -> Result<()> {
        Model::reserve_memory(self)
    }

    fn start_encode(&self, pixels: &Pixels) -> Result<Encoding> {
        self.vision.start(pixels)
    }

    fn encode_stage(&self, encoding: &Encoding) -> usize {
        encoding.kind()
    }

    fn encode_rows(&self, encoding: &Encoding) -> usize {
        self.vision.rows(encoding)
    }

    fn encode_chunk(&self, encoding: &mut Encoding, most: usize) -> Result<Step> {
        self.vision.step(encoding, most)
    }

    fn embed(&self, prompt: &Prompt, vectors: Option<&Tensor>) -> Result<Tensor> {
        Model::embed(self, prompt, vectors)
    }

    fn layers(&self) -> usize {
        self.decoder.layers()
    }

    fn begin(&self, x: Tensor, spans: Vec<Span>, positions: &[u32]) -> Result<Pass> {
        Model::begin(self, x, spans, positions)
    }

    fn computed(&self, pass: &Pass) -> usize {
        pass.layers()
    }

    fn go_on(&self, pass: Pass, layers: usize, arena: &Arena) -> Result<(Pass, bool)> {
        Model::go_on(self, pass, layers, arena)
    }

    fn next(
        &self,
        ids: &[u32],
        spans: Vec<Span>,
        positions: &[u32],
        arena: &Arena,
        chosen: &[Chosen],
    ) -> Result<Vec<Scores>> {
        self.next_scores(ids, spans, positions, arena, chosen)
    }

    fn settle(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.device().is_cuda() {
            return crate::kernels::cuda::stop_measuring(self.device());
        }
        Ok(())
    }
}
