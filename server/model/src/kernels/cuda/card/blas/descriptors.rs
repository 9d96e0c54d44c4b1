//! What cuBLASLt is told of a product.

use candle_core::DType;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self as lt, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtEpilogue_t, cublasLtMatmulDescAttributes_t, cudaDataType,
};

use crate::kernels::cuda::layout::Address;

/// A product's shape and kind: what an algorithm is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub rows: usize,
    pub out: usize,
    pub inp: usize,
    pub dtype: DType,
    pub bias: bool,
    /// Adds to what is there.
    pub adds: bool,
    /// Elements from a row of the result to the next.
    pub stride: usize,
}

impl Shape {
    /// The shape that stands for all those that one algorithm is as good for: they differ in their number of rows alone.
    pub fn alike(self) -> Self {
        const FEW: usize = 256;
        let rows = match self.rows {
            0..=FEW => self.rows.next_power_of_two(),
            rows => rows.next_multiple_of(FEW),
        };
        Shape { rows, ..self }
    }
}

/// What a product is made of; dropped with all its descriptors.
pub struct Descriptors {
    pub product: sys::cublasLtMatmulDesc_t,
    pub weight: sys::cublasLtMatrixLayout_t,
    pub x: sys::cublasLtMatrixLayout_t,
    pub y: sys::cublasLtMatrixLayout_t,
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
    pub fn new(shape: &Shape, bias: Option<Address>) -> std::result::Result<Self, CublasError> {
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
