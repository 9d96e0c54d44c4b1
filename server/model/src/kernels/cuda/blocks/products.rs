//! Products with weights of 4 or 8 bits: from the blocks themselves for few rows, with the plain weight for many.

use candle_core::{DType, Result, Tensor, bail};

use super::Blocks;
use crate::kernels::cuda::card::{Launch, at, params, type_name, unwritten};
use crate::kernels::cuda::layout::few_rows::{STAGES, TILES, WARPS};
use crate::kernels::cuda::layout::{Address, SLICE, TILE};
use crate::kernels::cuda::linear::{after, linear, linear_onto};
use crate::kernels::cuda::plain::{self, Plain};
use crate::kernels::cuda::product;
use crate::kernels::then::Then;

impl Blocks {
    /// y = x · weightᵀ + bias, or y and that, part by part with the plain weight: for many rows that is fastest. False,
    /// and nothing done, where there is no fast way.
    fn product(&self, y: &Tensor, x: &Tensor, bias: Option<&Tensor>, adds: bool) -> Result<bool> {
        let (gpu, dtype, part) = (&self.gpu, x.dtype(), self.part(x.dtype()));
        if !self.rows.is_multiple_of(8) {
            return Ok(false);
        }
        let mut scratch = gpu.scratch.lock();
        let plain = scratch.address(&gpu.stream)?;
        for first in (0..self.rows).step_by(part) {
            let rows = part.min(self.rows - first);
            let weight = self.rows_from(first, rows)?;
            // SAFETY: the scratch memory has room for a part, and what used it before is before this in the stream.
            unsafe { self.dequantize(weight, rows, 0, dtype, plain)? };
            let weight = Plain {
                at: plain,
                dtype,
                out: rows,
                inp: self.k,
            };
            if !plain::columns(y, first, x, weight, bias, adds)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What `then` says of x · weightᵀ, part by part with the plain weight; `None`, and nothing done, where that is not the
    /// fast way.
    fn product_then(&self, x: &Tensor, then: Then<'_>) -> Result<Option<Tensor>> {
        let (gpu, dtype) = (&self.gpu, x.dtype());
        let of_each = product::weights_of_a_column(then);
        let columns = self.rows / of_each;
        let part = (self.part(dtype) / of_each).min(columns);
        if !columns.is_multiple_of(TILE) || !product::pays(x, of_each * part, then)? {
            return Ok(None);
        }
        let y = unwritten(gpu, (x.dim(0)?, columns), dtype)?;
        let mut scratch = gpu.scratch.lock();
        let plain = scratch.address(&gpu.stream)?;
        for first in (0..columns).step_by(part) {
            let rows = part.min(columns - first);
            for i in 0..of_each {
                let to = plain + (i * rows * self.k * dtype.size_in_bytes()) as Address;
                let of = self.rows_from(i * columns + first, rows)?;
                // SAFETY: the scratch memory has room for a part, and what used it before is before this in the stream.
                unsafe { self.dequantize(of, rows, 0, dtype, to)? };
            }
            let weight = Plain {
                at: plain,
                dtype,
                out: of_each * rows,
                inp: self.k,
            };
            if !product::columns(&y, first, x, weight, then)? {
                return Ok(None);
            }
        }
        Ok(Some(y))
    }

    /// y = x · weightᵀ + bias, or y and that, from the blocks themselves, which are read once for every 32 rows. False,
    /// and nothing done, where that is not the fast way.
    fn few_rows(&self, y: &Tensor, x: &Tensor, bias: Option<&Tensor>, adds: bool) -> Result<bool> {
        /// With more rows than these a product with the plain weight is faster.
        const MOST: usize = 64;
        /// Units of a row that are in a `Slice` of formats.cuh.
        const SLICE_UNITS: usize = 8;
        let ((rows, k), (x_at, dtype, gpu)) = (x.dims2()?, at(x)?);
        let bias_at = bias.map(at).transpose()?.map_or(0, |(b, _, _)| b);
        if rows > MOST || !x_at.is_multiple_of(8) || dtype == DType::F32 {
            return Ok(false);
        }
        if k != self.k || bias.is_some_and(|b| b.dims() != [self.rows] || b.dtype() != dtype) {
            bail!("a product of {:?} with {}×{}", x.shape(), self.rows, self.k)
        }
        let names = format!("{}_{}", self.name(), type_name(dtype)?);
        let eights = if rows <= 16 { 2 } else { 4 };
        let groups = rows.div_ceil(8 * eights);
        let slices = k.div_ceil(SLICE_UNITS * self.unit());
        // In pieces of sixteen bytes.
        let size = groups * 8 * eights * slices * SLICE_UNITS * self.unit() / 8;
        let arranged = unwritten(&gpu, (size, 8), dtype)?;
        let (columns, y) = (at(&arranged)?.0, at(y)?.0);
        let arrange = Launch::new((size.div_ceil(256), 1, 1), 256);
        let grid = (self.rows.div_ceil(TILES * TILE), groups, 1);
        let multiply = Launch::new(grid, 32 * WARPS).shared(WARPS * STAGES * TILES * SLICE);
        // SAFETY: x and y have as many rows, of k and of the weight's rows; what lies between has its size, and is freed
        // behind this in the stream's order.
        unsafe {
            gpu.launch(
                &format!("arrange_{names}"),
                arrange,
                params![
                    x_at,
                    columns,
                    rows as i32,
                    k as i32,
                    eights as i32,
                    size as i32
                ],
            )?;
            gpu.launch(
                &format!("few_rows_{eights}_{names}"),
                multiply,
                params![
                    self.address(),
                    columns,
                    bias_at,
                    y,
                    rows as i32,
                    i32::from(adds)
                ],
            )?;
        }
        Ok(true)
    }

    /// x · weightᵀ + bias.
    pub fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let x = &x.contiguous()?;
        let y = unwritten(&self.gpu, (x.dim(0)?, self.rows), x.dtype())?;
        if self.few_rows(&y, x, bias, false)? {
            return Ok(y);
        }
        match self.product(&y, x, bias, false)? {
            true => Ok(y),
            false => linear(x, &self.dense(x.dtype())?, bias),
        }
    }

    /// What `then` says of x and this weight.
    pub fn linear_then(&self, x: &Tensor, then: Then<'_>) -> Result<Tensor> {
        let x = &x.contiguous()?;
        match self.product_then(x, then)? {
            Some(y) => Ok(y),
            None => after(then, self.linear(x, None)?),
        }
    }

    /// onto + x · weightᵀ, in place of `onto`.
    pub fn linear_onto(&self, onto: Tensor, x: &Tensor) -> Result<Tensor> {
        let x = &x.contiguous()?;
        if self.few_rows(&onto, x, None, true)? {
            return Ok(onto);
        }
        match self.product(&onto, x, None, true)? {
            true => Ok(onto),
            false => linear_onto(onto, x, &self.dense(x.dtype())?),
        }
    }
}
