//! A picture's bytes as the vision tower's first product takes them.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::card::{Launch, at, params, type_name, unwritten, upload};

/// Cuts a picture's bytes [size, size, 3], in the host's memory, into rows of a patch each, channel, y, x, in `dtype`; `values`
/// has the value of each byte in each channel. The result is [patches, 3 · patch²].
///
/// # Errors
/// The bytes are not as many, or patches don't fill the picture.
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
