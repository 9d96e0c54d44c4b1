//! Tensors on the card: where they lie, and new ones.

use std::sync::Arc;

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Device, Result, Shape, Storage, Tensor, bail};
use half::{bf16, f16};

use super::gpu::Gpu;
use crate::kernels::cuda::layout::Address;

/// Where a contiguous tensor's elements begin, their type, and the card that they are on.
pub fn at(tensor: &Tensor) -> Result<(Address, DType, Arc<Gpu>)> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(cuda) = &*storage else {
        bail!("a tensor is on {:?}, not on the card", tensor.device())
    };
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, found {layout:?}")
    };
    let stream = cuda.device.cuda_stream();
    let address = match &cuda.slice {
        CudaStorageSlice::U8(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::U32(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::BF16(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::F16(s) => s.device_ptr(&stream).0,
        CudaStorageSlice::F32(s) => s.device_ptr(&stream).0,
        _ => bail!("no CUDA kernel for {:?}", tensor.dtype()),
    };
    let dtype = tensor.dtype();
    let address = address + (start * dtype.size_in_bytes()) as u64;
    Ok((address, dtype, Gpu::of(&cuda.device)?))
}

/// A new tensor whose elements are yet to be written.
pub fn unwritten(gpu: &Gpu, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let (device, n) = (&gpu.device, shape.elem_count());
    // SAFETY: whoever asks for it writes every element before any is read; any bits are an element of these types.
    let storage = unsafe {
        match dtype {
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(n)?, device.clone()),
            DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<f16>(n)?, device.clone()),
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(n)?, device.clone()),
            DType::U8 => CudaStorage::wrap_cuda_slice(device.alloc::<u8>(n)?, device.clone()),
            other => bail!("no CUDA kernel for {other:?}"),
        }
    };
    Ok(Tensor::from_storage(
        Storage::Cuda(storage),
        shape,
        BackpropOp::none(),
        false,
    ))
}

/// What kernels of this type are called.
pub fn type_name(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        DType::F32 => "f32",
        other => bail!("no CUDA kernel for {other:?}"),
    })
}

/// The elements whose bytes these are, on the card: [n] in `dtype`.
pub fn upload(bytes: &[u8], dtype: DType, device: &Device) -> Result<Tensor> {
    let size = dtype.size_in_bytes();
    if !bytes.len().is_multiple_of(size) {
        bail!("{} bytes are no whole elements of {dtype:?}", bytes.len())
    }
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    let out = unwritten(&gpu, bytes.len() / size, dtype)?;
    // SAFETY: it has as many bytes.
    unsafe { gpu.upload(bytes, at(&out)?.0)? };
    Ok(out)
}
