//! Products with a dense weight of the same type.

use candle_core::{Result, Tensor};

/// x · weightᵀ: `x` is [rows, in], `weight` [out, in], the result [rows, out].
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    #[cfg(target_arch = "x86_64")]
    if few::fits(x, weight)? {
        return x.apply_op2_no_bwd(weight, &few::Product);
    }
    x.matmul(&weight.t()?)
}

/// Few rows: a step of up to sixteen answers, a short question, a slice of a longer one. A general product first packs the
/// whole weight anew, which then takes longer than to multiply with it; here it is read once, where it lies.
#[cfg(target_arch = "x86_64")]
mod few {
    use candle_core::backend::BackendStorage;
    use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
    use rayon::prelude::*;

    use crate::kernels::cpu::avx512;
    use crate::kernels::cpu::product::sizes::sizes;
    use crate::kernels::cpu::storage::{as_f32, from_f32};
    use crate::kernels::cpu::tasks::Shared;

    /// With more rows than these the packing is worth it.
    const ROWS: usize = 64;

    /// Columns of the result that a task makes.
    const COLUMNS: usize = 64;

    /// Whether the product is of this kind, and the processor can do it.
    pub fn fits(x: &Tensor, weight: &Tensor) -> Result<bool> {
        Ok(x.device().is_cpu()
            && x.dtype() == DType::F32
            && weight.dtype() == DType::F32
            && x.dim(0)? <= ROWS
            && x.is_contiguous()
            && weight.is_contiguous()
            && avx512::is_here())
    }

    /// x · weightᵀ for few rows of x.
    pub struct Product;

    impl CustomOp2 for Product {
        fn name(&self) -> &'static str {
            "few-rows-product"
        }

        fn cpu_fwd(
            &self,
            x: &CpuStorage,
            xl: &Layout,
            weight: &CpuStorage,
            wl: &Layout,
        ) -> Result<(CpuStorage, Shape)> {
            let (rows, n, k) = sizes(xl.shape(), wl.shape())?;
            let (data, weight) = (as_f32(x, xl)?, as_f32(weight, wl)?);
            let mut out = vec![0f32; rows * n];
            product((rows, n, k), &data, &weight, &mut out);
            Ok((from_f32(out, x.dtype())?, Shape::from((rows, n))))
        }
    }

    /// out [rows, n] = x [rows, k] · weightᵀ, `weight` [n, k].
    fn product((rows, n, k): (usize, usize, usize), x: &[f32], weight: &[f32], out: &mut [f32]) {
        /// Waking a thread costs more than a small product. With few rows the weight's way from memory is what takes
        /// time, as long as some five rows' work.
        const WORTH_WAKING: usize = 3_500_000;
        assert!(x.len() == rows * k && weight.len() == n * k && out.len() == rows * n);
        let out = Shared::new(out);
        let task = |task: usize| {
            let columns = task * COLUMNS..n.min((task + 1) * COLUMNS);
            let weight = &weight[columns.start * k..columns.end * k];
            let put = |r: usize, c: usize, sums: &[f32]| {
                // SAFETY: tasks write disjoint columns of `out`, which outlives them.
                let target = unsafe { out.slice(r * n + columns.start + c, sums.len()) };
                target.copy_from_slice(sums);
            };
            // SAFETY: `fits` found AVX-512.
            unsafe { avx512::products(k, x, weight, put) }
        };
        let tasks = n.div_ceil(COLUMNS);
        if rows.max(5) * n * k < WORTH_WAKING {
            (0..tasks).for_each(task);
        } else {
            (0..tasks).into_par_iter().for_each(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Against double precision: odd sizes, one row to more than are few, and rows out of the middle of others.
    #[test]
    fn a_product_is_that_in_double_precision() {
        let device = Device::Cpu;
        for k in [1, 16, 31, 256, 771] {
            for (rows, n) in [(1, 1), (2, 37), (3, 130), (6, 1024), (64, 65), (65, 66)] {
                let weight = Tensor::randn(0f32, 0.5, (n, k), &device).unwrap();
                let x = Tensor::randn(0f32, 1.0, (rows + 2, k), &device).unwrap();
                let x = x.narrow(0, 1, rows).unwrap();
                let got = product(&x, &weight).unwrap();
                assert_eq!(got.dims(), [rows, n]);
                let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
                let exact = wide(&x).matmul(&wide(&weight).t().unwrap()).unwrap();
                let off = (wide(&got) - exact).unwrap().abs().unwrap();
                let off = off.max_all().unwrap().to_scalar::<f64>().unwrap();
                assert!(
                    off < 4e-6 * (k as f64).sqrt(),
                    "{rows}×{k}×{n}: off by {off}"
                );
            }
        }
    }

    /// What a row gives does not depend on the rows beside it.
    #[test]
    fn a_row_alone_is_the_same_to_the_bit() {
        let device = Device::Cpu;
        let weight = Tensor::randn(0f32, 0.5, (75, 96), &device).unwrap();
        let x = Tensor::randn(0f32, 1.0, (7, 96), &device).unwrap();
        let all = product(&x, &weight).unwrap().to_vec2::<f32>().unwrap();
        for (row, all) in all.iter().enumerate() {
            let alone = product(&x.narrow(0, row, 1).unwrap(), &weight).unwrap();
            let alone = alone.to_vec2::<f32>().unwrap();
            if std::arch::is_x86_feature_detected!("avx512f") {
                assert_eq!(&alone[0], all);
            }
        }
    }
}
