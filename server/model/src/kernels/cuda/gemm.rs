//! Products by cuBLASLt: the bias as their epilogue, the residual as what they add to, and for shapes alike the algorithm
//! that was measured to be fastest while the model warmed up.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self as lt, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtEpilogue_t, cublasLtMatmulDescAttributes_t,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreferenceAttributes_t, cudaDataType,
};
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{DType, Device, Error, Result, Tensor, bail};

use super::super::then::Then;
use super::gpu::{Address, Gpu, at, unwritten};
use super::ops::after;
use super::product;

/// A product's shape and kind: what an algorithm is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    out: usize,
    inp: usize,
    dtype: DType,
    bias: bool,
    /// Adds to what is there.
    adds: bool,
    /// Elements from a row of the result to the next.
    stride: usize,
}

/// cuBLASLt with its memory to work in, and what was chosen so far.
pub struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    chosen: HashMap<Shape, cublasLtMatmulHeuristicResult_t>,
    /// By [`Shape::alike`].
    measured: HashMap<Shape, cublasLtMatmulHeuristicResult_t>,
    /// Nothing is measured any more: that takes longer than an answer's first token may.
    settled: bool,
}

impl Shape {
    /// The same for all shapes that are as good as this one for an algorithm: they differ in their number of rows alone.
    fn alike(self) -> Self {
        const FEW: usize = 256;
        let rows = match self.rows {
            0..=FEW => self.rows.next_power_of_two(),
            rows => rows.next_multiple_of(FEW),
        };
        Shape { rows, ..self }
    }
}

// SAFETY: the library's handle may be used from any thread, and it is behind a lock.
unsafe impl Send for Blas {}

const WORKSPACE: usize = 32 << 20;
/// Algorithms that are measured for a shape, how often, and products for each time.
const CANDIDATES: usize = 8;
const PASSES: usize = 3;
const ROUNDS: usize = 3;
/// Fewer rows than this take the library's own choice.
const WORTH_MEASURING: usize = 16;

fn failed(e: CublasError) -> Error {
    Error::Cuda(Box::new(e)).context("a product failed on the card")
}

/// What a product is made of; dropped with all its descriptors.
struct Descriptors {
    product: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and used by nobody any more. Failing leaks a few bytes.
        unsafe {
            let _ = lt::destroy_matmul_desc(self.product);
            for layout in [self.weight, self.x, self.y] {
                let _ = lt::destroy_matrix_layout(layout);
            }
        }
    }
}

impl Descriptors {
    /// The library counts columns first: what we call yᵀ = weight · xᵀ.
    fn new(shape: &Shape, bias: Option<Address>) -> std::result::Result<Self, CublasError> {
        let kind = match shape.dtype {
            DType::BF16 => cudaDataType::CUDA_R_16BF,
            _ => cudaDataType::CUDA_R_16F,
        };
        let (rows, out, inp) = (shape.rows as u64, shape.out as u64, shape.inp as u64);
        let all = Descriptors {
            product: lt::create_matmul_desc(
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cudaDataType::CUDA_R_32F,
            )?,
            weight: lt::create_matrix_layout(kind, inp, out, inp as i64)?,
            x: lt::create_matrix_layout(kind, inp, rows, inp as i64)?,
            y: lt::create_matrix_layout(kind, out, rows, shape.stride as i64)?,
        };
        use cublasLtMatmulDescAttributes_t as Attribute;
        /// cuBLAS's number for a transposed matrix.
        const TRANSPOSED: i32 = 1;
        all.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED)?;
        if let Some(bias) = bias {
            all.set(
                Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            )?;
            all.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
            all.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &kind)?;
        }
        Ok(all)
    }

    fn set<T>(
        &self,
        attribute: cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> std::result::Result<(), CublasError> {
        let value: *const T = value;
        // SAFETY: the value is of the attribute's type and outlives the call.
        unsafe {
            lt::set_matmul_desc_attribute(self.product, attribute, value.cast(), size_of::<T>())
        }
    }
}

impl Blas {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        Ok(Blas {
            handle: lt::create_handle().map_err(failed)?,
            // SAFETY: the library writes before it reads.
            workspace: unsafe { stream.alloc(WORKSPACE) }.w()?,
            chosen: HashMap::new(),
            measured: HashMap::new(),
            settled: false,
        })
    }

    /// The library's candidates for a shape, best guess first.
    fn candidates(
        &self,
        d: &Descriptors,
    ) -> std::result::Result<Vec<cublasLtMatmulHeuristicResult_t>, CublasError> {
        let (preference, room) = (lt::create_matmul_pref()?, WORKSPACE);
        // Where a sum is taken in parts, these stay in f32 too.
        let parts = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let mut found =
            [const { MaybeUninit::<cublasLtMatmulHeuristicResult_t>::uninit() }; CANDIDATES];
        let mut count = 0;
        // SAFETY: the descriptors live, and there is room for as many results as are asked for.
        let result = unsafe {
            use cublasLtMatmulPreferenceAttributes_t as Attribute;
            let set = |attribute, value: *const c_void, size| {
                lt::set_matmul_pref_attribute(preference, attribute, value, size)
            };
            set(
                Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const room).cast(),
                size_of::<usize>(),
            )
            .and_then(|()| {
                set(
                    Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                    (&raw const parts).cast(),
                    size_of::<u32>(),
                )
            })
            .and_then(|()| {
                // What is promised of the addresses, instead of the 256 that are taken for granted.
                let bytes = 16u32;
                [
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                    Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                ]
                .into_iter()
                .try_for_each(|a| set(a, (&raw const bytes).cast(), size_of::<u32>()))
            })
            .and_then(|()| {
                sys::cublasLtMatmulAlgoGetHeuristic(
                    self.handle,
                    d.product,
                    d.weight,
                    d.x,
                    d.y,
                    d.y,
                    preference,
                    CANDIDATES as i32,
                    found.as_mut_ptr().cast(),
                    &mut count,
                )
                .result()
            })
        };
        // SAFETY: made above.
        unsafe { lt::destroy_matmul_pref(preference)? };
        result?;
        Ok(found
            .iter()
            .take(count as usize)
            // SAFETY: the library filled in as many as it counted.
            .map(|f| unsafe { f.assume_init() })
            .filter(|f| f.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS)
            .collect())
    }

    /// y = x · weightᵀ (+ bias), or y += that.
    ///
    /// # Safety
    /// The addresses hold what `shape` says, at multiples of 16 bytes.
    unsafe fn product(
        &mut self,
        gpu: &Gpu,
        shape: Shape,
        x: Address,
        weight: Address,
        bias: Option<Address>,
        y: Address,
    ) -> Result<()> {
        let d = Descriptors::new(&shape, bias).map_err(failed)?;
        let workspace = self.workspace.device_ptr(&gpu.stream).0;
        let run = |algorithm: &cublasLtMatmulHeuristicResult_t, to: Address| {
            let (one, add) = (1f32, if shape.adds { 1f32 } else { 0f32 });
            // SAFETY: the caller's; `to` is y or as large.
            unsafe {
                lt::matmul(
                    self.handle,
                    d.product,
                    (&raw const one).cast(),
                    (&raw const add).cast(),
                    weight as *const c_void,
                    d.weight,
                    x as *const c_void,
                    d.x,
                    y as *const c_void,
                    d.y,
                    to as *mut c_void,
                    d.y,
                    &algorithm.algo,
                    workspace as *mut c_void,
                    WORKSPACE,
                    gpu.stream.cu_stream().cast(),
                )
            }
            .map_err(failed)
        };
        if let Some(algorithm) = self.chosen.get(&shape) {
            return run(algorithm, y);
        }
        if let Some(algorithm) = self.measured.get(&shape.alike()).copied()
            && run(&algorithm, y).is_ok()
        {
            self.chosen.insert(shape, algorithm);
            return Ok(());
        }
        let candidates = self.candidates(&d).map_err(failed)?;
        let Some(mut best) = candidates.first().copied() else {
            bail!(
                "cuBLASLt has no product of {}×{} by {}",
                shape.rows,
                shape.inp,
                shape.out
            )
        };
        if shape.rows >= WORTH_MEASURING && candidates.len() > 1 && !self.settled {
            // What is added to must be added to once: else into memory of its own.
            let other = shape
                .adds
                .then(|| unwritten(gpu, (shape.rows, shape.stride), shape.dtype))
                .transpose()?;
            let aside = match &other {
                Some(other) => at(other)?.0,
                None => y,
            };
            let mut least = f32::INFINITY;
            // In turn, so that what slows the card for a moment slows none of them alone.
            for _ in 0..PASSES {
                for candidate in &candidates {
                    let event = || {
                        gpu.stream
                            .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
                    };
                    if run(candidate, aside).is_err() {
                        continue;
                    }
                    let before = event().w()?;
                    for _ in 0..ROUNDS {
                        run(candidate, aside)?;
                    }
                    let took = before.elapsed_ms(&event().w()?).w()?;
                    if took < least {
                        (least, best) = (took, *candidate);
                    }
                }
            }
            self.measured.insert(shape.alike(), best);
        }
        self.chosen.insert(shape, best);
        run(&best, y)
    }
}

/// From now on no algorithm is measured on `device`: new shapes take what was found for those alike, or the library's
/// own choice.
///
/// # Errors
/// If the device is no card.
pub fn stop_measuring(device: &Device) -> Result<()> {
    Gpu::of(device.as_cuda_device()?)?.blas.lock().settled = true;
    Ok(())
}

/// cuBLASLt's fast algorithms want rows of 16-byte multiples.
fn regular(dtype: DType, inp: usize, out: usize, addresses: &[Address]) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
        && inp.is_multiple_of(8)
        && out.is_multiple_of(8)
        && addresses.iter().all(|a| a.is_multiple_of(16))
}

/// A weight [out, in], where it lies.
#[derive(Clone, Copy)]
pub struct Plain {
    pub at: Address,
    pub dtype: DType,
    pub out: usize,
    pub inp: usize,
}

/// The columns of `y` [rows, n] from `first` on, as many as `weight` has rows: x · weightᵀ + bias, or where `adds` says so
/// what is there and that. `bias` is all of y's. False, and nothing done, where cuBLASLt has no fast way.
pub fn columns(
    y: &Tensor,
    first: usize,
    x: &Tensor,
    weight: Plain,
    bias: Option<&Tensor>,
    adds: bool,
) -> Result<bool> {
    let ((rows, inp), (y_rows, stride)) = (x.dims2()?, y.dims2()?);
    let ((x_at, dtype, gpu), (y_at, y_type, _)) = (at(x)?, at(y)?);
    let size = dtype.size_in_bytes();
    let from = |address: Address| address + (first * size) as Address;
    let bias_at = bias.map(at).transpose()?.map(|(b, _, _)| from(b));
    let y_at = from(y_at);
    if y_rows != rows || inp != weight.inp || first + weight.out > stride {
        bail!(
            "a product of {:?} with {}×{} into columns from {first} of {:?}",
            x.shape(),
            weight.out,
            weight.inp,
            y.shape()
        )
    }
    if bias.is_some_and(|b| b.dims() != [stride]) {
        bail!("the bias of {stride} columns has another shape")
    }
    let addresses = [x_at, weight.at, y_at, bias_at.unwrap_or_default()];
    if weight.dtype != dtype
        || y_type != dtype
        || !stride.is_multiple_of(8)
        || !regular(dtype, inp, weight.out, &addresses)
    {
        return Ok(false);
    }
    let shape = Shape {
        rows,
        out: weight.out,
        inp,
        dtype,
        bias: bias.is_some(),
        adds,
        stride,
    };
    // SAFETY: these shapes were compared above, and all lives on this stream.
    unsafe {
        gpu.blas
            .lock()
            .product(&gpu, shape, x_at, weight.at, bias_at, y_at)?;
    }
    Ok(true)
}

fn plain(weight: &Tensor) -> Result<Plain> {
    let ((out, inp), (at, dtype, _)) = (weight.dims2()?, at(weight)?);
    Ok(Plain {
        at,
        dtype,
        out,
        inp,
    })
}

/// x · weightᵀ + bias: `x` [rows, in], `weight` [out, in].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = &x.contiguous()?;
    let (_, dtype, gpu) = at(x)?;
    let y = unwritten(&gpu, (x.dim(0)?, weight.dim(0)?), dtype)?;
    if columns(&y, 0, x, plain(weight)?, bias, false)? {
        return Ok(y);
    }
    let y = x.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        super::add_bias(&y, bias)?;
    }
    Ok(y)
}

/// What `then` says of `x` [rows, in] and `weight` [out, in].
pub fn linear_then(x: &Tensor, weight: &Tensor, then: Then<'_>) -> Result<Tensor> {
    let x = &x.contiguous()?;
    let plain = plain(weight)?;
    if product::pays(x, plain.out, then)? {
        let (_, dtype, gpu) = at(x)?;
        let n = plain.out / product::weights_of_a_column(then);
        let y = unwritten(&gpu, (x.dim(0)?, n), dtype)?;
        if product::columns(&y, 0, x, plain, then)? {
            return Ok(y);
        }
    }
    after(then, linear(x, weight, None)?)
}

/// onto + x · weightᵀ, in place of `onto` [rows, out].
pub fn linear_onto(onto: Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if columns(&onto, 0, x, plain(weight)?, None, true)? {
        return Ok(onto);
    }
    onto + x.matmul(&weight.t()?)?
}
