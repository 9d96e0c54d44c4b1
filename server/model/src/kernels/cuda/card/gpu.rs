//! A card: its kernels, loaded once, and how they are launched.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUfunction_attribute, CUlaunchAttribute, CUlaunchAttributeID,
    CUlaunchAttributeValue, CUlaunchConfig, cuLaunchKernelEx,
};
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule, CudaStream};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{DeviceId, WrapErr};
use candle_core::{CudaDevice, Result, bail};
use parking_lot::Mutex;

use super::blas::Blas;
use super::built::{BUILT_FOR, CUBINS};
use super::hopper::Hopper;
use super::launch::Launch;
use super::scratch::Scratch;
use super::staging::Staging;
use crate::kernels::cuda::layout::Address;

/// A card with its kernels.
pub struct Gpu {
    /// The card as candle knows it.
    pub device: CudaDevice,
    /// The one that everything runs on, in order.
    pub stream: Arc<CudaStream>,
    /// The matrix products of cuBLASLt.
    pub blas: Mutex<Blas>,
    /// The way up from the host's memory.
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

#[derive(Clone)]
struct Function {
    function: CudaFunction,
    /// Bytes of shared memory that it was allowed so far.
    shared: u32,
}

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
        Hopper::now() != Hopper::Never && self.kernels.contains_key(name)
    }

    /// Copies `bytes` to `to`, by all threads. They may change once this returns.
    ///
    /// # Safety
    /// There is room for them, which nothing but this stream uses.
    pub unsafe fn upload(&self, bytes: &[u8], to: Address) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.staging.lock().upload(&self.stream, bytes, to) }
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
