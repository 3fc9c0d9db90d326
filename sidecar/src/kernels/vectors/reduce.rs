//! The sums that everything here is made of, in one fixed order. Sixteen partial sums: component `i` is fused (one
//! rounding, `f32::mul_add`) into sum `i mod 16`, zeros filling up the last sixteen; the sums are then added 8, 4, 2 and
//! 1 apart. Every instruction set does this, so the bits never depend on the machine. Nothing here knows what a row is.

use super::isa::Simd;

/// Partial sums of every reduction.
pub const LANES: usize = 16;
/// A sum of squares between these neither lost digits to underflow nor came near overflow; others are redone in f64.
const SQUARES_MIN: f32 = f32::from_bits((127 - 80) << 23);
const SQUARES_MAX: f32 = f32::from_bits((127 + 80) << 23);

/// Whether an f32 sum of squares can be trusted as it is.
#[inline(always)]
pub(super) fn is_tame(squares: f32) -> bool {
    (SQUARES_MIN..=SQUARES_MAX).contains(&squares)
}

/// Adds the sixteen sums in the fixed order.
#[inline(always)]
fn total<T: Copy + std::ops::AddAssign>(mut sums: [T; LANES]) -> T {
    for apart in [8, 4, 2, 1] {
        for lane in 0..apart {
            let other = sums[lane + apart];
            sums[lane] += other;
        }
    }
    sums[0]
}

/// The last components, filled up with zeros.
#[inline(always)]
fn filled(tail: &[f32]) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    values[..tail.len()].copy_from_slice(tail);
    values
}

/// Takes sixteen components after another into sixteen sums by `step(a, b, sums)`.
#[inline(always)]
fn reduce<S: Simd>(simd: S, a: &[f32], b: &[f32], step: impl Fn(S::Lanes, S::Lanes, S::Lanes) -> S::Lanes) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = simd.load(&[0.0; LANES]);
    for at in 0..a.len().min(b.len()) {
        sums = step(simd.load(&a[at]), simd.load(&b[at]), sums);
    }
    if !a_tail.is_empty() {
        sums = step(simd.load(&filled(a_tail)), simd.load(&filled(b_tail)), sums);
    }
    total(simd.values(sums))
}

/// The inner product as f32 gives it; infinite or NaN where a sum overflows or a component is not finite.
#[inline(always)]
pub(super) fn dot_raw<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    reduce(
        simd,
        a,
        b,
        #[inline(always)]
        |a, b, sums| simd.fused(a, b, sums),
    )
}

/// The sums of squares of rows of one length, together, because a row alone waits for each of its steps. The bits are those of
/// [`dot_raw`] of each row with itself.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
pub(super) fn squares<S: Simd, const ROWS: usize>(simd: S, rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    // Indices, because iterators over registers are not inlined across instruction sets.
    let (mut sums, mut totals) = ([simd.load(&[0.0; LANES]); ROWS], [0.0; ROWS]);
    let whole = rows[0].len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        for row in 0..ROWS {
            let (values, _) = rows[row][at..].as_chunks::<LANES>();
            let values = simd.load(&values[0]);
            sums[row] = simd.fused(values, values, sums[row]);
        }
    }
    for row in 0..ROWS {
        if whole < rows[row].len() {
            let values = simd.load(&filled(&rows[row][whole..]));
            sums[row] = simd.fused(values, values, sums[row]);
        }
        totals[row] = total(simd.values(sums[row]));
    }
    totals
}

/// The squared distance as f32 gives it; infinite or NaN where a sum overflows or a component is not finite.
#[inline(always)]
pub(super) fn l2sq_raw<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    reduce(
        simd,
        a,
        b,
        #[inline(always)]
        |a, b, sums| {
            let apart = simd.minus(a, b);
            simd.fused(apart, apart, sums)
        },
    )
}

/// The same order in f64, which is needed rarely: component `i` goes into sum `i mod 16`.
fn reduce_wide(a: &[f32], b: &[f32], step: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0f64; LANES];
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        sums[at % LANES] += step(f64::from(*a), f64::from(*b));
    }
    total(sums)
}

/// The inner product in f64: products of two f32 are exact there, and nothing finite overflows.
#[cold]
pub(super) fn dot_wide(a: &[f32], b: &[f32]) -> f64 {
    reduce_wide(a, b, |x, y| x * y)
}

#[cold]
fn l2sq_wide(a: &[f32], b: &[f32]) -> f64 {
    reduce_wide(a, b, |x, y| (x - y) * (x - y))
}

/// The inner product of finite vectors. Where f32 overflows on the way it is redone in f64, so it is never NaN.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let sum = dot_raw(simd, a, b);
    if sum.is_finite() { sum } else { dot_wide(a, b) as f32 }
}

/// The squared distance of finite vectors; never NaN.
#[inline(always)]
pub(super) fn l2sq<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let sum = l2sq_raw(simd, a, b);
    if sum.is_finite() { sum } else { l2sq_wide(a, b) as f32 }
}

/// The cosine of finite vectors, given the f32 sums of their squares. 0.0 with a zero vector; never NaN.
#[inline(always)]
pub(super) fn cosine<S: Simd>(simd: S, a: &[f32], b: &[f32], a_squares: f32, b_squares: f32) -> f32 {
    if is_tame(a_squares) && is_tame(b_squares) {
        return dot_raw(simd, a, b) / (a_squares.sqrt() * b_squares.sqrt());
    }
    cosine_wide(a, b)
}

#[cold]
fn cosine_wide(a: &[f32], b: &[f32]) -> f32 {
    let (a_squares, b_squares) = (dot_wide(a, a), dot_wide(b, b));
    if a_squares == 0.0 || b_squares == 0.0 {
        return 0.0;
    }
    (dot_wide(a, b) / (a_squares.sqrt() * b_squares.sqrt())) as f32
}

/// The inner product of int8 vectors, exact: up to 65,536 components it fits.
#[inline(always)]
pub(super) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
}

/// The squared distance of int8 vectors, exact: up to 65,536 components it fits.
#[inline(always)]
pub(super) fn l2sq_i8(a: &[i8], b: &[i8]) -> u32 {
    a.iter()
        .zip(b)
        .map(|(&x, &y)| {
            let apart = i32::from(x) - i32::from(y);
            (apart * apart) as u32
        })
        .sum()
}

/// Whether every component is a number.
pub(super) fn is_finite(row: &[f32]) -> bool {
    row.iter().all(|x| x.is_finite())
}
