//! A card: its kernels, loaded once, and how they are launched.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUfunction_attribute, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchAttributeValue, CUlaunchConfig, CUmemPool_attribute, CUmemoryPool, cuLaunchKernelEx,
};
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, result,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaStorageSlice, DeviceId, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, Tensor, bail};
use half::{bf16, f16};
use parking_lot::Mutex;

use super::gemm::Blas;
use super::staging::Staging;

include!(concat!(env!("OUT_DIR"), "/cuda.rs"));

/// An address in the card's memory.
pub type Address = u64;

/// A card with its kernels.
pub struct Gpu {
    pub device: CudaDevice,
    pub stream: Arc<CudaStream>,
    pub blas: Mutex<Blas>,
    pub staging: Mutex<Staging>,
    /// Where weights in blocks are made plain, a part at a time.
    pub scratch: Mutex<Scratch>,
    /// Streaming multiprocessors.
    pub processors: usize,
    /// Bytes of shared memory that a block can have.
    pub shared_memory: usize,
    /// Where each kernel is.
    kernels: HashMap<&'static str, Arc<CudaModule>>,
    /// Those that were launched so far.
    functions: Mutex<HashMap<String, Function>>,
}

/// Memory that is taken once and used again and again, in the stream's order.
#[derive(Default)]
pub struct Scratch {
    memory: Option<CudaSlice<u8>>,
    bytes: usize,
}

impl Scratch {
    /// So many bytes will be asked for.
    pub fn expect(&mut self, bytes: usize) {
        self.bytes = self.bytes.max(bytes);
    }

    /// Where there are as many bytes as any weight expects.
    pub fn address(&mut self, gpu: &Gpu) -> Result<Address> {
        let memory = match self.memory.take() {
            Some(memory) if memory.len() >= self.bytes => memory,
            // SAFETY: it is written before it is read.
            _ => unsafe { gpu.stream.alloc(self.bytes) }.w()?,
        };
        let address = memory.device_ptr(&gpu.stream).0;
        self.memory = Some(memory);
        Ok(address)
    }
}

#[derive(Clone)]
struct Function {
    function: CudaFunction,
    /// Bytes of shared memory that it was allowed so far.
    shared: u32,
}

/// How many blocks of how many threads.
#[derive(Clone, Copy)]
pub struct Launch {
    pub grid: (usize, usize, usize),
    pub threads: usize,
    /// Bytes of shared memory.
    pub shared: usize,
    /// All blocks must be running at once, since they meet.
    pub cooperative: bool,
}

impl Launch {
    pub fn new(grid: (usize, usize, usize), threads: usize) -> Self {
        Launch {
            grid,
            threads,
            shared: 0,
            cooperative: false,
        }
    }

    pub fn shared(self, bytes: usize) -> Self {
        Launch {
            shared: bytes,
            ..self
        }
    }
}

/// When the kernels of hopper.cu are used, where the card has them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hopper {
    WhereFast = 0,
    /// For measuring what they bring, and for tests.
    Never = 1,
    /// Also for sizes that another kernel is faster for: for tests.
    Always = 2,
}

static HOPPER: AtomicU8 = AtomicU8::new(Hopper::WhereFast as u8);

/// From now on, on all cards.
pub fn use_hopper(when: Hopper) {
    HOPPER.store(when as u8, Ordering::Relaxed);
}

/// The addresses of a kernel's parameters, as [`Gpu::launch`] takes them: written in the call itself, since they are no
/// longer than it.
macro_rules! params {
    ($($param:expr),* $(,)?) => {
        &mut [$(std::ptr::from_ref(&$param).cast_mut().cast::<std::ffi::c_void>()),*]
    };
}
pub(super) use params;

impl Gpu {
    /// The card of a candle device.
    pub fn of(device: &CudaDevice) -> Result<Arc<Gpu>> {
        static GPUS: Mutex<Vec<(DeviceId, Arc<Gpu>)>> = Mutex::new(Vec::new());
        let mut gpus = GPUS.lock();
        if let Some((_, gpu)) = gpus.iter().find(|(id, _)| *id == device.id()) {
            return Ok(gpu.clone());
        }
        let gpu = Arc::new(Gpu::new(device)?);
        gpus.push((device.id(), gpu.clone()));
        Ok(gpu)
    }

    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context();
        let mut kernels = HashMap::new();
        for (cubin, names) in CUBINS {
            let module = context.load_module(Ptx::from_binary(cubin.to_vec())).w()?;
            kernels.extend(names.iter().map(|name| (*name, module.clone())));
        }
        let attribute = |which| context.attribute(which).w();
        use CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
        };
        // What older code may count on, also on a newer card.
        let most_shared = match BUILT_FOR.0 {
            80 | 87 => 163 << 10,
            86 | 89 => 99 << 10,
            _ => usize::MAX,
        };
        Ok(Gpu {
            blas: Mutex::new(Blas::new(&stream)?),
            staging: Mutex::default(),
            scratch: Mutex::default(),
            processors: attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            shared_memory: most_shared
                .min(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize),
            kernels,
            functions: Mutex::default(),
            device: device.clone(),
            stream,
        })
    }

    /// The kernel `name`, allowed `shared` bytes of shared memory.
    fn function(&self, name: &str, shared: u32) -> Result<CudaFunction> {
        let mut functions = self.functions.lock();
        if let Some(known) = functions.get(name)
            && known.shared >= shared
        {
            return Ok(known.function.clone());
        }
        let Some(module) = self.kernels.get(name) else {
            bail!("there is no CUDA kernel {name}")
        };
        let function = module.load_function(name).w()?;
        /// What every kernel may have.
        const PLAIN: u32 = 48 << 10;
        if shared > PLAIN {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared as i32).w()?;
        }
        let shared = shared.max(PLAIN);
        let known = Function {
            function: function.clone(),
            shared,
        };
        functions.insert(name.into(), known);
        Ok(function)
    }

    /// Whether Hopper's own kernel `name` is in this binary, and to be used.
    pub fn on_hopper(&self, name: &str) -> bool {
        Self::hopper() != Hopper::Never && self.kernels.contains_key(name)
    }

    /// When Hopper's own kernels are to be used.
    pub fn hopper() -> Hopper {
        match HOPPER.load(Ordering::Relaxed) {
            0 => Hopper::WhereFast,
            1 => Hopper::Never,
            _ => Hopper::Always,
        }
    }

    /// Launches the kernel `name`.
    ///
    /// # Safety
    /// `parameters` are what the kernel takes, in type and number, and what they point at is as large as it expects and
    /// lives until the kernel has run.
    pub unsafe fn launch(
        &self,
        name: &str,
        launch: Launch,
        parameters: &mut [*mut c_void],
    ) -> Result<()> {
        let (x, y, z) = launch.grid;
        if x == 0 || y == 0 || z == 0 {
            return Ok(());
        }
        let function = self.function(name, launch.shared as u32)?;
        self.stream.context().bind_to_thread().w()?;
        let mut attributes = [CUlaunchAttribute {
            id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
            pad: [0; 4],
            value: CUlaunchAttributeValue { cooperative: 1 },
        }];
        let config = CUlaunchConfig {
            gridDimX: x as u32,
            gridDimY: y as u32,
            gridDimZ: z as u32,
            blockDimX: launch.threads as u32,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared as u32,
            hStream: self.stream.cu_stream(),
            attrs: attributes.as_mut_ptr(),
            numAttrs: u32::from(launch.cooperative),
        };
        // SAFETY: the caller's; the configuration lives until the call returns.
        unsafe {
            cuLaunchKernelEx(
                &config,
                function.cu_function(),
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .w()
    }
}

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

/// Refuses a card that this binary was not built for, on which it would compute garbage. The error is a sentence.
pub fn check(device: &Device) -> std::result::Result<(), String> {
    let context = device
        .as_cuda_device()
        .map(|d| d.cuda_stream().context().clone())
        .map_err(|e| e.to_string())?;
    let (major, minor) = context.compute_capability().map_err(|e| e.to_string())?;
    let (card, (built, name)) = ((10 * major + minor) as u32, BUILT_FOR);
    // Code for 8.0 runs on every 8.x; code for 9.0a only there; PTX on every newer one.
    let runs = match name {
        _ if name.starts_with("compute_") => card >= built,
        _ if name.ends_with('a') => card == built,
        _ => card / 10 == built / 10 && card >= built,
    };
    match runs {
        true => Ok(()),
        false => Err(format!(
            "this binary was built for {name}, and {} is of compute capability {major}.{minor}: build it with \
             CUDA_COMPUTE_CAP={card}, or use --device cpu",
            context.name().unwrap_or_else(|_| "the card".into())
        )),
    }
}

/// Lets the driver keep freed memory for the next allocation instead of giving it back at every synchronisation.
pub fn keep_memory(device: &Device) -> Result<()> {
    let mut most = u64::MAX;
    let pool = pool(device)?;
    // SAFETY: the attribute takes a u64, which outlives the call.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut most).cast(),
        )
        .w()
    }
}

/// Gives freed memory back once.
pub fn give_memory_back(device: &Device) -> Result<()> {
    let pool = pool(device)?;
    device.synchronize()?;
    // SAFETY: only what is free in the pool leaves it.
    unsafe { result::mem_pool::trim_to(pool, 0).w() }
}

/// Takes so many bytes in one piece for whatever comes: taken bit by bit as it comes, they would be more. Before them what
/// stays for ever, so that it doesn't lie among them.
pub fn reserve_memory(device: &Device, bytes: usize) -> Result<()> {
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    let mut scratch = gpu.scratch.lock();
    if scratch.bytes > 0 {
        scratch.address(&gpu)?;
    }
    // SAFETY: nobody reads it; the pool keeps what is freed here.
    unsafe { gpu.stream.alloc::<u8>(bytes) }.w().map(drop)
}

/// Bytes that the driver's pool holds.
#[derive(Clone, Copy, Debug)]
pub struct PoolUse {
    /// Taken from the card.
    pub reserved: u64,
    /// Of those, in use.
    pub used: u64,
    /// In use at most since this was last asked.
    pub most_used: u64,
}

/// What the pool holds once everything that is under way is done.
pub fn pool_use(device: &Device) -> Result<PoolUse> {
    use CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
        CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    };
    let pool = pool(device)?;
    device.synchronize()?;
    let read = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: these attributes are a u64, which outlives the call.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) }
            .w()
            .map(|()| bytes)
    };
    let told = PoolUse {
        reserved: read(CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        used: read(CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        most_used: read(CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
    };
    let mut anew = 0u64;
    // SAFETY: as above; setting it to zero begins anew.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            CU_MEMPOOL_ATTR_USED_MEM_HIGH,
            (&raw mut anew).cast(),
        )
        .w()?;
    }
    Ok(told)
}

/// Where the device's memory comes from.
fn pool(device: &Device) -> Result<CUmemoryPool> {
    let stream = device.as_cuda_device()?.cuda_stream();
    let context = stream.context();
    context.bind_to_thread().w()?;
    // SAFETY: the context lives.
    unsafe { result::device::get_default_mem_pool(context.cu_device()).w() }
}

/// All that was asked of a card up to here.
pub struct Event(CudaEvent);

impl Event {
    pub fn record(device: &Device) -> Result<Self> {
        let gpu = Gpu::of(device.as_cuda_device()?)?;
        Ok(Event(gpu.stream.record_event(None).w()?))
    }

    pub fn wait(self) -> Result<()> {
        self.0.synchronize().w()
    }
}
