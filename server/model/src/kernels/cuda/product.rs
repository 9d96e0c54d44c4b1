//! Products on Hopper whose results are worked on before they are written, product.cuh.

use candle_core::{DType, Result, Tensor, bail};

use super::card::{Hopper, Launch, PANEL, at, params, tensor_map, type_name};
use super::layout::WARP_GROUP;
use super::layout::product::{GROUPS, PART, ROWS, SHARED, STAGES, WEIGHTS};
use super::plain::Plain;
use crate::kernels::then::Then;

/// `Tiles` of product.cuh: the stages' weights and rows of x, results on their way, and two barriers for each stage.
const _: () = {
    let stage = (WEIGHTS + ROWS) * PANEL * 2;
    let results = GROUPS * 2 * PART * PANEL * 2;
    assert!(SHARED == STAGES * (stage + 2 * 8) + results);
};

/// What the kernel is called.
fn kernel(then: Then<'_>, dtype: DType) -> Result<String> {
    let name = match then {
        Then::Gelu { .. } => "gelu",
        Then::Swiglu => "swiglu",
    };
    Ok(format!("product_{name}_{}", type_name(dtype)?))
}

/// Rows of the weight that make a column of the result.
pub fn weights_of_a_column(then: Then<'_>) -> usize {
    match then {
        Then::Gelu { .. } => 1,
        Then::Swiglu => 2,
    }
}

/// Whether [`columns`] is there for `x` [rows, in] and so many rows of weights, and the fast way: where its tiles keep the card's
/// processors at work for most of the time.
pub fn pays(x: &Tensor, weights: usize, then: Then<'_>) -> Result<bool> {
    let (rows, (_, dtype, gpu)) = (x.dim(0)?, at(x)?);
    let pairs = gpu.processors / 2;
    if rows == 0 || weights == 0 || pairs == 0 || !gpu.on_hopper(&kernel(then, dtype)?) {
        return Ok(false);
    }
    let jobs = rows.div_ceil(2 * ROWS) * weights.div_ceil(WEIGHTS);
    let room = jobs.div_ceil(pairs) * pairs * 2 * ROWS * WEIGHTS;
    Ok(5 * rows * weights >= 4 * room || Hopper::now() == Hopper::Always)
}

/// Writes the columns of `y` [rows, n] from `first` on, as many as `weight` makes: what `then` says of `x` [rows, in] and
/// `weight`. A bias is all of y's. All lie at multiples of 16 bytes; false, and nothing done, where they do not, or are of
/// different types.
pub fn columns(
    y: &Tensor,
    first: usize,
    x: &Tensor,
    weight: Plain,
    then: Then<'_>,
) -> Result<bool> {
    let ((x_at, dtype, gpu), (y_at, y_type, _)) = (at(x)?, at(y)?);
    let of_each = weights_of_a_column(then);
    let (n, name) = (weight.out / of_each, kernel(then, dtype)?);
    let (rows, stride) = weight.sizes(y, first, n, x)?;
    let depth = weight.inp;
    if n * of_each != weight.out {
        bail!("{} rows of weights make no whole columns", weight.out)
    }
    let from = 2 * first as u64;
    let bias_at = match then {
        Then::Gelu { bias } if bias.dims() != [stride] || bias.dtype() != dtype => {
            bail!("the bias of {stride} columns has another shape or type")
        }
        Then::Gelu { bias } => at(bias)?.0 + from,
        Then::Swiglu => 0,
    };
    let y_at = y_at + from;
    let even = |n: usize| n.is_multiple_of(8);
    let aligned = [x_at, weight.at, y_at].iter().all(|a| a.is_multiple_of(16));
    if [weight.dtype, y_type] != [dtype; 2] || ![depth, stride, n].into_iter().all(even) || !aligned
    {
        return Ok(false);
    }
    let box_of = WEIGHTS / 2 / of_each;
    let x_map = tensor_map(x_at, dtype, [1, rows, depth], [1, ROWS])?;
    let weights = tensor_map(weight.at, dtype, [of_each, n, depth], [of_each, box_of])?;
    // Bytes of weights that stay in the second-level cache while all rows go by.
    const KEPT: usize = 10 << 20;
    let band = (KEPT / (WEIGHTS * depth * 2)).max(1);
    let launch =
        Launch::new((gpu.processors / 2 * 2, 1, 1), (GROUPS + 1) * WARP_GROUP).shared(SHARED);
    let [rows, n, stride, depth, band] = [rows, n, stride, depth, band].map(|n| n as i32);
    // SAFETY: the maps are of x and of the weight, y has these columns in as many rows, and the bias an element for each.
    unsafe {
        match then {
            Then::Gelu { .. } => gpu.launch(
                &name,
                launch,
                params![x_map, weights, y_at, stride, bias_at, rows, n, depth, band],
            )?,
            Then::Swiglu => gpu.launch(
                &name,
                launch,
                params![x_map, weights, y_at, stride, rows, n, depth, band],
            )?,
        }
    }
    Ok(true)
}
