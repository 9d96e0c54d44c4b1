//! How much memory attention takes.

use crate::kernels::PAGE;

/// Packed rows of a block of `paged_*`, and of `vision_*`.
pub const ROWS: usize = 128;

/// Shared memory of a block: its queries, then two stages of keys and values.
pub fn shared_bytes(rows: usize, head_size: usize) -> usize {
    (rows + 4 * PAGE) * head_size.next_multiple_of(64) * 2
}

/// Floats of a block's share of a tile.
pub fn share_floats(rows: usize, head_size: usize) -> usize {
    rows * (head_size + 2)
}
