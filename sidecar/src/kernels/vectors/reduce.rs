//! The sums that everything here is made of, in one fixed order. Sixteen partial sums: component `i` is fused (one
//! rounding, `f32::mul_add`) into sum `i mod 16`; the sums are then added 8 apart, 4 apart, 2 apart, 1 apart. Every
//! instruction set runs these same lines, so the bits never depend on the machine. Nothing here knows what a row is.

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

/// Fuses `step(a[i], b[i])` into sixteen sums and adds them in the fixed order.
macro_rules! reduce {
    ($a:expr, $b:expr, $zero:expr, $step:expr) => {{
        let (a_chunks, a_tail) = $a.as_chunks::<LANES>();
        let (b_chunks, b_tail) = $b.as_chunks::<LANES>();
        let mut sums = [$zero; LANES];
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            for lane in 0..LANES {
                sums[lane] = $step(a[lane], b[lane], sums[lane]);
            }
        }
        for (sum, (a, b)) in sums.iter_mut().zip(a_tail.iter().zip(b_tail)) {
            *sum = $step(*a, *b, *sum);
        }
        for apart in [8, 4, 2, 1] {
            for lane in 0..apart {
                sums[lane] += sums[lane + apart];
            }
        }
        sums[0]
    }};
}

/// The inner product as f32 gives it; infinite or NaN where a sum overflows or a component is not finite.
#[inline(always)]
pub(super) fn dot_raw(a: &[f32], b: &[f32]) -> f32 {
    reduce!(a, b, 0f32, |x: f32, y: f32, sum: f32| x.mul_add(y, sum))
}

/// The squared distance as f32 gives it; infinite or NaN where a sum overflows or a component is not finite.
#[inline(always)]
pub(super) fn l2sq_raw(a: &[f32], b: &[f32]) -> f32 {
    reduce!(a, b, 0f32, |x: f32, y: f32, sum: f32| (x - y).mul_add(x - y, sum))
}

/// The inner product in f64: products of two f32 are exact there, and nothing finite overflows.
#[cold]
pub(super) fn dot_wide(a: &[f32], b: &[f32]) -> f64 {
    reduce!(a, b, 0f64, |x: f32, y: f32, sum: f64| f64::from(x) * f64::from(y) + sum)
}

#[cold]
fn l2sq_wide(a: &[f32], b: &[f32]) -> f64 {
    reduce!(a, b, 0f64, |x: f32, y: f32, sum: f64| {
        let apart = f64::from(x) - f64::from(y);
        apart * apart + sum
    })
}

/// The inner product of finite vectors. Where f32 overflows on the way it is redone in f64, so it is never NaN.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let sum = dot_raw(a, b);
    if sum.is_finite() { sum } else { dot_wide(a, b) as f32 }
}

/// The squared distance of finite vectors; never NaN.
#[inline(always)]
pub(super) fn l2sq(a: &[f32], b: &[f32]) -> f32 {
    let sum = l2sq_raw(a, b);
    if sum.is_finite() { sum } else { l2sq_wide(a, b) as f32 }
}

/// The cosine of finite vectors, given the f32 sums of their squares. 0.0 with a zero vector; never NaN.
#[inline(always)]
pub(super) fn cosine(a: &[f32], b: &[f32], a_squares: f32, b_squares: f32) -> f32 {
    if is_tame(a_squares) && is_tame(b_squares) {
        return dot_raw(a, b) / (a_squares.sqrt() * b_squares.sqrt());
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
