//! Products of matrices that lie in slices, on one thread.

/// A matrix in a slice: element (r, c) is at r · row + c · column.
pub struct Matrix<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Matrix<'a> {
    /// The matrix whose rows begin `stride` apart in `data`.
    pub fn rows(data: &'a [f32], stride: usize) -> Self {
        Matrix {
            data,
            row: stride,
            column: 1,
        }
    }

    /// The matrix whose columns begin `stride` apart in `data`.
    pub fn columns(data: &'a [f32], stride: usize) -> Self {
        Matrix {
            data,
            row: 1,
            column: stride,
        }
    }
}

/// target (+)= a · b on this thread, for an m×k and a k×n matrix; `target` has rows `stride` apart.
pub fn multiply(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    (target, stride): (&mut [f32], usize),
    add: bool,
) {
    assert!((m - 1) * stride + n <= target.len());
    // SAFETY: the target is ours, and long enough.
    unsafe { multiply_at((m, n, k), a, b, (target.as_mut_ptr(), stride), add) }
}

/// target (+)= a · b on this thread, for an m×k and a k×n matrix; `target` has rows `stride` apart, and what lies between
/// them is somebody else's.
///
/// # Safety
/// The target's m rows of n, `stride` apart, are there to be written, and nobody else reads or writes them meanwhile.
pub unsafe fn multiply_at(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    (target, stride): (*mut f32, usize),
    add: bool,
) {
    let last =
        |rows: usize, columns: usize, m: &Matrix<'_>| (rows - 1) * m.row + (columns - 1) * m.column;
    assert!(last(m, k, &a) < a.data.len() && last(k, n, &b) < b.data.len());
    // SAFETY: the assertion above bounds what is read, and the target is the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target,
            1,
            stride as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        )
    }
}
