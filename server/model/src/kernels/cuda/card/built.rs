//! What this binary was built for.

use candle_core::Device;

include!(concat!(env!("OUT_DIR"), "/cuda.rs"));

/// The compute capability of a card, times ten.
pub fn capability(device: &Device) -> Option<u32> {
    let context = device
        .as_cuda_device()
        .ok()?
        .cuda_stream()
        .context()
        .clone();
    let (major, minor) = context.compute_capability().ok()?;
    Some((10 * major + minor) as u32)
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
