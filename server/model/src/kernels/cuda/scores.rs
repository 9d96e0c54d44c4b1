//! Brings scores to the host: all of a table's, or the largest alone, which `scores.cu` finds.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, PinnedHostSlice, result};
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

use super::card::{Gpu, Launch, at, params};
use super::layout::Address;
use super::layout::scores::{GROUP, LISTED, SEEKER_GROUPS, SEEKERS, WARP_GROUPS};
use crate::scores::{Largest, Scores, Wanted};

/// Words of a row's list.
const LIST: usize = 1 + 2 * LISTED;

/// What brings the scores of up to `rows` sequences to the host.
pub struct ScoreReader {
    gpu: Arc<Gpu>,
    rows: usize,
    vocabulary: usize,
    /// Groups of a row's scores.
    groups: usize,
    /// [rows, groups]
    keys: CudaSlice<u32>,
    /// [rows, LIST]
    found: CudaSlice<u32>,
    host_found: PinnedHostSlice<u32>,
    /// [rows, vocabulary]
    host_scores: PinnedHostSlice<f32>,
}

impl ScoreReader {
    /// Memory for tables of up to `rows` rows.
    pub fn new(gpu: &Arc<Gpu>, rows: usize, vocabulary: usize) -> Result<Self> {
        let (groups, context) = (vocabulary.div_ceil(GROUP), gpu.stream.context());
        // SAFETY: the card writes all of it before it is read.
        unsafe {
            Ok(ScoreReader {
                rows,
                vocabulary,
                groups,
                keys: gpu.stream.alloc(rows * groups).w()?,
                found: gpu.stream.alloc(rows * LIST).w()?,
                host_found: context.alloc_pinned_with_flags(rows * LIST, 0).w()?,
                host_scores: context.alloc_pinned_with_flags(rows * vocabulary, 0).w()?,
                gpu: gpu.clone(),
            })
        }
    }

    /// Memory for tables like this one, [rows, vocabulary].
    pub fn of(table: &Tensor) -> Result<Self> {
        let (rows, vocabulary) = table.dims2()?;
        ScoreReader::new(&at(table)?.2, rows, vocabulary)
    }

    /// Whether it has memory for a table.
    pub fn fits(&self, table: &Tensor) -> bool {
        let fits = |(rows, vocabulary)| rows <= self.rows && vocabulary == self.vocabulary;
        table.dims2().is_ok_and(fits)
    }

    /// What is wanted of the first rows of a table that it [fits](ScoreReader::fits), in f32.
    ///
    /// # Errors
    /// Those of [`ScoreReader::read`], or the table is another.
    pub fn read_table(&mut self, table: &Tensor, wanted: &[Wanted]) -> Result<Vec<Scores>> {
        let (scores, dtype, _) = at(table)?;
        if !self.fits(table) || dtype != DType::F32 || wanted.len() > table.dim(0)? {
            bail!("the scores of {:?}, {dtype:?}", table.shape())
        }
        // SAFETY: it is a table of so many rows.
        unsafe { self.read(scores, wanted) }
    }

    /// What is wanted of the first rows of a table, once the card has computed what it was asked for. Where the largest can't be
    /// told apart from many others, or one of the scores is no number, all of a row come.
    ///
    /// # Errors
    /// There are more rows than the memory is for, or the card fails.
    ///
    /// # Safety
    /// `scores` are f32 [rows, vocabulary] on the card, with at least as many rows as `wanted` has.
    pub unsafe fn read(&mut self, scores: Address, wanted: &[Wanted]) -> Result<Vec<Scores>> {
        if wanted.len() > self.rows {
            bail!(
                "the scores of {} rows, of {} at most",
                wanted.len(),
                self.rows
            )
        }
        let most = wanted.iter().filter_map(|wanted| match wanted {
            Wanted::Largest(count) => Some((*count).clamp(1, Wanted::MOST)),
            Wanted::All => None,
        });
        // Of more than these no block keeps the keys.
        let most = most
            .max()
            .filter(|_| self.groups <= SEEKERS * SEEKER_GROUPS);
        let (mut whole, mut listed) = (Vec::new(), Vec::new());
        for (row, wanted) in wanted.iter().enumerate() {
            match (wanted, most) {
                (Wanted::Largest(_), Some(_)) => listed.push(row),
                _ => whole.push(row),
            }
        }
        if let Some(most) = most {
            // SAFETY: the caller's.
            unsafe { self.list(scores, wanted.len(), most)? };
        }
        // SAFETY: the caller's; the host's memory is read after the card has written it.
        unsafe { self.copy(scores, &whole)? };
        self.gpu.stream.synchronize().w()?;
        let mut results: Vec<Option<Scores>> = vec![None; wanted.len()];
        let mut rest = Vec::new();
        for row in listed {
            match self.listed(row)? {
                Some(largest) => results[row] = Some(Scores::Largest(largest)),
                None => rest.push(row),
            }
        }
        if !rest.is_empty() {
            // SAFETY: as above.
            unsafe { self.copy(scores, &rest)? };
            self.gpu.stream.synchronize().w()?;
        }
        whole.extend(rest);
        for (row, scores) in self.whole(&whole)? {
            results[row] = Some(Scores::All(scores));
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Has the card list the largest scores of each row, and copy the lists.
    unsafe fn list(&mut self, scores: Address, rows: usize, most: usize) -> Result<()> {
        const THREADS: usize = 256;
        let gpu = &self.gpu;
        let keys = self.keys.device_ptr(&gpu.stream).0;
        let found = self.found.device_ptr(&gpu.stream).0;
        let (n, groups) = (self.vocabulary as i32, self.groups as i32);
        let blocks = self.groups.div_ceil(WARP_GROUPS * THREADS / 32);
        let all = Launch::new((blocks, rows, 1), THREADS);
        let one = Launch::new((rows, 1, 1), SEEKERS);
        // SAFETY: the caller's, and the memory is as large as the kernels take it for so many rows.
        unsafe {
            gpu.launch("group_keys", all, params![scores, keys, n, groups])?;
            let most = most as i32;
            gpu.launch(
                "largest_scores",
                one,
                params![scores, keys, found, n, groups, most],
            )?;
            let host = &mut self.host_found.as_mut_slice().w()?[..rows * LIST];
            result::memcpy_dtoh_async(host, found, gpu.stream.cu_stream()).w()
        }
    }

    /// Has the card copy all scores of these rows.
    unsafe fn copy(&mut self, scores: Address, rows: &[usize]) -> Result<()> {
        let (gpu, n) = (&self.gpu, self.vocabulary);
        gpu.stream.context().bind_to_thread().w()?;
        let host = self.host_scores.as_mut_slice().w()?;
        // Rows that lie on end go in one piece.
        for run in rows.chunk_by(|a, b| a + 1 == *b) {
            let from = scores + (run[0] * n * size_of::<f32>()) as Address;
            let to = &mut host[run[0] * n..(run[0] + run.len()) * n];
            // SAFETY: the caller's.
            unsafe { result::memcpy_dtoh_async(to, from, gpu.stream.cu_stream()).w()? };
        }
        Ok(())
    }

    /// A row's list; `None` if there is none.
    fn listed(&self, row: usize) -> Result<Option<Largest>> {
        let list = &self.host_found.as_slice().w()?[row * LIST..][..LIST];
        let (count, list) = (list[0] as usize, &list[1..]);
        if count > LISTED {
            return Ok(None);
        }
        let (ids, scores) = (&list[..count], &list[LISTED..][..count]);
        let found = ids.iter().zip(scores);
        let found = found.map(|(id, score)| (*id, f32::from_bits(*score)));
        Ok(Some(Largest::new(found.collect())))
    }

    /// The copied scores of these rows.
    fn whole(&self, rows: &[usize]) -> Result<Vec<(usize, Vec<f32>)>> {
        let host = self.host_scores.as_slice().w()?;
        let of_row = |row: &usize| {
            (
                *row,
                host[row * self.vocabulary..][..self.vocabulary].to_vec(),
            )
        };
        // Half a megabyte each: for two, waking threads takes as long.
        Ok(match rows.len() {
            ..=2 => rows.iter().map(of_row).collect(),
            _ => rows.par_iter().map(of_row).collect(),
        })
    }
}
