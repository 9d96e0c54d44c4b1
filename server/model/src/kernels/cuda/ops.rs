//! Activations, norms and copies.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{DType, Device, Result, Tensor, bail};

use super::super::then::Then;
use super::gpu::{Address, Gpu, Launch, at, params, type_name, unwritten};
use super::staging::upload;

/// Whether every one of these allows loads of 16 bytes, and the elements in one.
fn width(dtype: DType, n: usize, addresses: &[Address]) -> (&'static str, usize) {
    let wide = 16 / dtype.size_in_bytes();
    let fits = n.is_multiple_of(wide) && addresses.iter().all(|a| a.is_multiple_of(16));
    if fits { ("wide", wide) } else { ("narrow", 1) }
}

fn same_type(types: &[DType]) -> Result<DType> {
    match types.iter().all(|t| *t == types[0]) {
        true => Ok(types[0]),
        false => bail!("a kernel got tensors of different types, {types:?}"),
    }
}

/// A thread for every `width` columns, a block for some rows.
fn over_rows(rows: usize, n: usize, width: usize) -> Launch {
    const THREADS: usize = 256;
    /// Rows of one block, so that what is the same for each is read once.
    const ROWS: usize = 4;
    let columns = n.div_ceil(width);
    let threads = columns.next_multiple_of(32).min(THREADS);
    Launch::new(
        (columns.div_ceil(threads), rows.div_ceil(ROWS).min(65535), 1),
        threads,
    )
}

/// Launches a kernel that takes two addresses, rows and n, as wide as those allow.
///
/// # Safety
/// There lies what the kernel expects of so many rows of n.
unsafe fn of_two(
    gpu: &Gpu,
    kernel: &str,
    dtype: DType,
    both: [Address; 2],
    rows: usize,
    n: usize,
) -> Result<()> {
    let (name, width) = width(dtype, n, &both);
    let name = format!("{kernel}_{}_{name}", type_name(dtype)?);
    let launch = over_rows(rows, n, width);
    // SAFETY: the caller's.
    unsafe {
        gpu.launch(
            &name,
            launch,
            params![both[0], both[1], rows as i32, n as i32],
        )
    }
}

fn with_bias(kernel: &str, x: &Tensor, bias: &Tensor) -> Result<()> {
    let n = bias.dim(0)?;
    if x.dim(candle_core::D::Minus1)? != n {
        bail!("a bias of {n} for {:?}", x.shape())
    }
    let ((x_at, x_type, gpu), (bias_at, bias_type, _)) = (at(x)?, at(bias)?);
    let dtype = same_type(&[x_type, bias_type])?;
    let rows = x.elem_count() / n;
    // SAFETY: x is [rows, n], the bias [n].
    unsafe { of_two(&gpu, kernel, dtype, [x_at, bias_at], rows, n) }
}

/// x + bias, in place.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<()> {
    with_bias("add_bias", x, bias)
}

/// gelu(x + bias), in place.
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<()> {
    with_bias("bias_gelu", x, bias)
}

/// A new [rows, n] from `x` [rows, width] by a kernel that takes (x, out, rows, n).
fn mapped(kernel: &str, x: &Tensor, n: usize) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let (x_at, dtype, gpu) = at(x)?;
    let out = unwritten(&gpu, (rows, n), dtype)?;
    let both = [x_at, at(&out)?.0];
    // SAFETY: the callers give a kernel that reads x [rows, its width] and writes [rows, n].
    unsafe { of_two(&gpu, kernel, dtype, both, rows, n)? };
    Ok(out)
}

/// gelu(x): `x` [rows, n].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    mapped("gelu", x, x.dim(1)?)
}

/// silu(gate) · up: `x` [rows, 2n].
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    mapped("swiglu", x, x.dim(1)? / 2)
}

/// What `then` says of a product that is there.
pub fn after(then: Then<'_>, product: Tensor) -> Result<Tensor> {
    match then {
        Then::Gelu { bias } => bias_gelu(&product, bias).map(|()| product),
        Then::Swiglu => swiglu(&product),
    }
}

/// The rows `ids` of `table`.
pub fn gather(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let (tokens, n) = table.dims2()?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= tokens) {
        bail!("token {id} of {tokens}")
    }
    let (table_at, dtype, gpu) = at(table)?;
    let out = unwritten(&gpu, (ids.len(), n), dtype)?;
    let out_at = at(&out)?.0;
    let ids = Tensor::new(ids, table.device())?;
    let (name, width) = width(dtype, n, &[table_at, out_at]);
    let (name, rows) = (
        format!("gather_{}_{name}", type_name(dtype)?),
        ids.elem_count(),
    );
    // SAFETY: every id is a row of the table, and out is [ids, n].
    unsafe {
        gpu.launch(
            &name,
            over_rows(rows, n, width),
            params![table_at, at(&ids)?.0, out_at, rows as i32, n as i32],
        )?;
    }
    Ok(out)
}

fn norm(kernel: &str, out: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    /// What a warp's threads keep in registers, and what a block's do.
    const SHORT: usize = 2048;
    const LONGEST: usize = 8192;
    const THREADS: usize = 256;
    let (rows, n) = y.dims2()?;
    let weights = if kernel == "rms_norm" { n } else { 2 * n };
    if weight.elem_count() != weights || out.elem_count() != y.elem_count() || n > LONGEST {
        bail!(
            "{kernel} of {:?} with a weight of {:?}; rows of up to {LONGEST} are served",
            y.shape(),
            weight.shape()
        )
    }
    let ((out_at, a, gpu), (y_at, b, _), (weight_at, c, _)) = (at(out)?, at(y)?, at(weight)?);
    let dtype = same_type(&[a, b, c])?;
    let (name, elements) = width(dtype, n, &[out_at, y_at, weight_at]);
    let (name, blocks) = match n {
        ..=SHORT if elements > 1 => ("short", rows.div_ceil(THREADS / 32)),
        _ => (name, rows),
    };
    let name = format!("{kernel}_{}_{name}", type_name(dtype)?);
    // SAFETY: out and y are [rows, n], the weight as long as the kernel takes it.
    unsafe {
        gpu.launch(
            &name,
            Launch::new((blocks, 1, 1), THREADS),
            params![out_at, y_at, weight_at, rows as i32, n as i32, eps as f32],
        )
    }
}

/// Layer norm: `weight` [2, n].
pub fn layer_norm(y: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let out = unwritten(&at(y)?.2, y.shape(), y.dtype())?;
    norm("layer_norm", &out, y, weight, eps).map(|()| out)
}

/// x += layer_norm(y), in place.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    norm("add_layer_norm", x, y, weight, eps)
}

/// RMS norm: `weight` [n].
pub fn rms_norm(y: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let out = unwritten(&at(y)?.2, y.shape(), y.dtype())?;
    norm("rms_norm", &out, y, weight, eps).map(|()| out)
}

/// Copies `len` elements within a tensor, which must not overlap.
pub fn copy_within(tensor: &Tensor, from: usize, to: usize, len: usize) -> Result<()> {
    if from.max(to) + len > tensor.elem_count() || from.abs_diff(to) < len {
        bail!(
            "{len} elements from {from} to {to} of {}",
            tensor.elem_count()
        )
    }
    let (base, dtype, gpu) = at(tensor)?;
    let size = dtype.size_in_bytes();
    let address = |element: usize| base + (element * size) as u64;
    gpu.stream.context().bind_to_thread().w()?;
    // SAFETY: both ranges lie in the tensor.
    unsafe {
        result::memcpy_dtod_async(
            address(to),
            address(from),
            len * size,
            gpu.stream.cu_stream(),
        )
        .w()
    }
}

/// Cuts a picture's bytes [size, size, 3], in the host's memory, into rows of a patch each, channel, y, x, in `dtype`; `values`
/// has the value of each byte in each channel.
pub fn patches(
    pixels: &[u8],
    values: &[[f32; 256]; 3],
    size: usize,
    patch: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let grid = size / patch.max(1);
    if grid * patch != size
        || pixels.len() != 3 * size * size
        || i32::try_from(pixels.len()).is_err()
    {
        bail!(
            "{} bytes for patches of {patch} of {size}×{size}×3",
            pixels.len()
        )
    }
    let values = values.as_flattened();
    // SAFETY: as many bytes as the values have, and any are a byte.
    let values =
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    let (pixels, values) = (
        upload(pixels, DType::U8, device)?,
        upload(values, DType::F32, device)?,
    );
    let (pixels_at, _, gpu) = at(&pixels)?;
    let out = unwritten(&gpu, (grid * grid, 3 * patch * patch), dtype)?;
    let name = format!("patches_{}", type_name(dtype)?);
    let launch = Launch::new((pixels.elem_count().div_ceil(256), 1, 1), 256);
    // SAFETY: the pixels are size·size·3, out has as many elements, and there is a value for each byte of each channel.
    unsafe {
        gpu.launch(
            &name,
            launch,
            params![
                pixels_at,
                at(&values)?.0,
                at(&out)?.0,
                size as i32,
                patch as i32
            ],
        )?;
    }
    Ok(out)
}
