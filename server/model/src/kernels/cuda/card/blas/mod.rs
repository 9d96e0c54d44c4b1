//! cuBLASLt's products, and for shapes alike the algorithm that was measured to be fastest while the model warmed up.

mod descriptors;

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self as lt, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    self, cublasLtMatmulHeuristicResult_t as Algorithm, cublasLtMatmulPreferenceAttributes_t,
};
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{Error, Result, bail};

use self::descriptors::Descriptors;
pub use self::descriptors::Shape;
use crate::kernels::cuda::layout::Address;

/// cuBLASLt with its memory to work in, and what was chosen so far.
pub struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    chosen: HashMap<Shape, Algorithm>,
    /// By [`Shape::alike`].
    measured: HashMap<Shape, Algorithm>,
    /// Nothing is measured any more: that takes longer than an answer's first token may.
    settled: bool,
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

/// Where a product's parts lie, at multiples of 16 bytes.
#[derive(Clone, Copy)]
pub struct Operands {
    pub x: Address,
    pub weight: Address,
    pub bias: Option<Address>,
    pub y: Address,
}

impl Blas {
    /// The library for products on `stream`.
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
    fn candidates(&self, d: &Descriptors) -> std::result::Result<Vec<Algorithm>, CublasError> {
        let (preference, room) = (lt::create_matmul_pref()?, WORKSPACE);
        // Where a sum is taken in parts, these stay in f32 too.
        let parts = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let mut found = [const { MaybeUninit::<Algorithm>::uninit() }; CANDIDATES];
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
    /// The operands are what `shape` says, and used by nothing but `stream`.
    pub unsafe fn product(
        &mut self,
        stream: &Arc<CudaStream>,
        shape: Shape,
        of: Operands,
    ) -> Result<()> {
        let d = Descriptors::new(&shape, of.bias).map_err(failed)?;
        let run = Run {
            handle: self.handle,
            workspace: self.workspace.device_ptr(stream).0,
            stream,
            d: &d,
            of,
            adds: shape.adds,
        };
        if let Some(algorithm) = self.chosen.get(&shape) {
            // SAFETY: the caller's.
            return unsafe { run.with(algorithm, of.y) };
        }
        if let Some(algorithm) = self.measured.get(&shape.alike()).copied()
            // SAFETY: the caller's.
            && unsafe { run.with(&algorithm, of.y) }.is_ok()
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
            // SAFETY: the caller's.
            best = unsafe { run.fastest(&candidates, &shape) }?.unwrap_or(best);
            self.measured.insert(shape.alike(), best);
        }
        self.chosen.insert(shape, best);
        // SAFETY: the caller's.
        unsafe { run.with(&best, of.y) }
    }

    /// Ends the measuring of algorithms: new shapes take what was found for those alike, or the library's own choice.
    pub fn settle(&mut self) {
        self.settled = true;
    }
}

/// A product that is ready to be run, with one algorithm or another.
struct Run<'a> {
    handle: sys::cublasLtHandle_t,
    workspace: Address,
    stream: &'a Arc<CudaStream>,
    d: &'a Descriptors,
    of: Operands,
    adds: bool,
}

impl Run<'_> {
    /// Runs it, and writes the result to `to`.
    ///
    /// # Safety
    /// The operands are what the descriptors say, and `to` is y or as large.
    unsafe fn with(&self, algorithm: &Algorithm, to: Address) -> Result<()> {
        let (one, add) = (1f32, if self.adds { 1f32 } else { 0f32 });
        // SAFETY: the caller's.
        unsafe {
            lt::matmul(
                self.handle,
                self.d.product,
                (&raw const one).cast(),
                (&raw const add).cast(),
                self.of.weight as *const c_void,
                self.d.weight,
                self.of.x as *const c_void,
                self.d.x,
                self.of.y as *const c_void,
                self.d.y,
                to as *mut c_void,
                self.d.y,
                &algorithm.algo,
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream.cu_stream().cast(),
            )
        }
        .map_err(failed)
    }

    /// The algorithm that takes least time; `None` where none of them runs. What y holds is as before where the product is
    /// added to it, and otherwise overwritten.
    ///
    /// # Safety
    /// The operands are what the descriptors and `shape` say.
    unsafe fn fastest(&self, candidates: &[Algorithm], shape: &Shape) -> Result<Option<Algorithm>> {
        // What is added to must be added to once: else into memory of its own.
        let bytes = shape.rows * shape.stride * shape.dtype.size_in_bytes();
        let other: Option<CudaSlice<u8>> = shape
            .adds
            // SAFETY: nobody reads it.
            .then(|| unsafe { self.stream.alloc(bytes) }.w())
            .transpose()?;
        let aside = match &other {
            Some(other) => other.device_ptr(self.stream).0,
            None => self.of.y,
        };
        let event = || {
            self.stream
                .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
        };
        let (mut least, mut best) = (f32::INFINITY, None);
        // In turn, so that what slows the card for a moment slows none of them alone.
        for _ in 0..PASSES {
            for candidate in candidates {
                // SAFETY: the caller's; what lies aside is as large as y.
                if unsafe { self.with(candidate, aside) }.is_err() {
                    continue;
                }
                let before = event().w()?;
                for _ in 0..ROUNDS {
                    // SAFETY: as above.
                    unsafe { self.with(candidate, aside) }?;
                }
                let took = before.elapsed_ms(&event().w()?).w()?;
                if took < least {
                    (least, best) = (took, Some(*candidate));
                }
            }
        }
        Ok(best)
    }
}
