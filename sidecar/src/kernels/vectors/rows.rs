//! Batches of rows: each row is computed alone and gets a status of its own, so one bad row never spoils its batch.

use super::isa::{Isa, Simd, Work};
use super::reduce::{cosine, dot, dot_i8, dot_raw, dot_wide, is_finite, is_tame, l2sq, l2sq_i8, l2sq_raw, squares};

/// Status of a row that was computed.
pub const GOOD: u32 = 0;
/// Status of a row that holds NaN or an infinity; it was not computed.
pub const BAD_VALUE: u32 = 1;

/// What is computed of two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// The inner product.
    Dot,
    /// The inner product of the two at length 1; 0.0 where one of them is zero.
    Cosine,
    /// The squared Euclidean distance.
    L2sq,
}

/// Gives a row at length 1: each component times the f32 reciprocal of the norm. A zero row and a bad one stay as they are.
/// `squares` is the f32 sum of its squares.
#[inline(always)]
fn normalize(input: &[f32], row: &mut [f32], squares: f32) -> u32 {
    if !is_tame(squares) {
        row.copy_from_slice(input);
        return normalize_wide(row);
    }
    let scale = 1.0 / squares.sqrt();
    for (x, y) in row.iter_mut().zip(input) {
        *x = *y * scale;
    }
    GOOD
}

#[cold]
fn normalize_wide(row: &mut [f32]) -> u32 {
    if !is_finite(row) {
        return BAD_VALUE;
    }
    let squares = dot_wide(row, row);
    if squares > 0.0 {
        let norm = squares.sqrt();
        for x in row {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
    GOOD
}

/// Normalises rows of `dim` into `output`. Panics unless all lengths agree.
pub fn normalize_rows(isa: Isa, input: &[f32], output: &mut [f32], statuses: &mut [u32], dim: usize) {
    assert!(input.len() == output.len() && input.len() == statuses.len() * dim, "input, output and statuses differ in rows");
    struct Rows<'a>(&'a [f32], &'a mut [f32], &'a mut [u32], usize);
    impl Work for Rows<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self(input, output, statuses, dim) = self;
            for ((input, row), status) in input.chunks_exact(dim).zip(output.chunks_exact_mut(dim)).zip(statuses) {
                *status = normalize(input, row, dot_raw(simd, input, input));
            }
        }
    }
    isa.run(Rows(input, output, statuses, dim));
}

/// Normalises vectors of `dim` at the start of each slot of `input` into slots of `output`, and writes each one's status behind
/// it. Sizes of slots, here in components of 4 bytes, are more than `dim` in the output.
pub(super) fn normalize_slots(isa: Isa, (input, input_slot): (&[f32], usize), (output, output_slot): (&mut [f32], usize), dim: usize) {
    /// Rows whose squares are summed together.
    const TOGETHER: usize = 4;
    struct Slots<'a>(&'a [f32], usize, &'a mut [f32], usize, usize);
    impl Work for Slots<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self(input, input_slot, output, output_slot, dim) = self;
            let groups = input.chunks(TOGETHER * input_slot).zip(output.chunks_mut(TOGETHER * output_slot));
            for (input, output) in groups {
                let count = input.len() / input_slot;
                let mut sums = [0.0; TOGETHER];
                if count == TOGETHER {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|row| &input[row * input_slot..][..dim]);
                    sums = squares(simd, [a, b, c, d]);
                } else {
                    for row in 0..count {
                        [sums[row]] = squares(simd, [&input[row * input_slot..][..dim]]);
                    }
                }
                for row in 0..count {
                    let (vector, rest) = output[row * output_slot..][..output_slot].split_at_mut(dim);
                    rest[0] = f32::from_bits(normalize(&input[row * input_slot..][..dim], vector, sums[row]));
                }
            }
        }
    }
    assert!(output_slot > dim && input.len() / input_slot == output.len() / output_slot, "input and output differ in slots");
    isa.run(Slots(input, input_slot, output, output_slot, dim));
}

/// Normalises int8 rows of `dim` into f32 rows. The sum of squares is exact, so every row is good. Panics unless all lengths agree.
pub fn normalize_rows_i8(isa: Isa, input: &[i8], output: &mut [f32], statuses: &mut [u32], dim: usize) {
    assert!(input.len() == output.len() && input.len() == statuses.len() * dim, "input, output and statuses differ in rows");
    struct Rows<'a>(&'a [i8], &'a mut [f32], usize);
    impl Work for Rows<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            for (input, row) in self.0.chunks_exact(self.2).zip(self.1.chunks_exact_mut(self.2)) {
                let squares = dot_i8(input, input);
                let scale = if squares == 0 { 0.0 } else { (1.0 / f64::from(squares).sqrt()) as f32 };
                for (x, y) in row.iter_mut().zip(input) {
                    *x = f32::from(*y) * scale;
                }
            }
        }
    }
    isa.run(Rows(input, output, dim));
    statuses.fill(GOOD);
}

/// One value of two rows; NaN with `BAD_VALUE` where one of them is bad.
#[inline(always)]
fn measure<S: Simd>(simd: S, measure: Measure, a: &[f32], b: &[f32]) -> (f32, u32) {
    let value = match measure {
        Measure::Dot => dot_raw(simd, a, b),
        Measure::L2sq => l2sq_raw(simd, a, b),
        Measure::Cosine => {
            let (a_squares, b_squares) = (dot_raw(simd, a, a), dot_raw(simd, b, b));
            if is_tame(a_squares) && is_tame(b_squares) { cosine(simd, a, b, a_squares, b_squares) } else { f32::NAN }
        }
    };
    // A NaN or an infinity among the components makes every sum of products infinite or NaN.
    if value.is_finite() { (value, GOOD) } else { measure_wide(simd, measure, a, b) }
}

#[cold]
fn measure_wide<S: Simd>(simd: S, measure: Measure, a: &[f32], b: &[f32]) -> (f32, u32) {
    if !is_finite(a) || !is_finite(b) {
        return (f32::NAN, BAD_VALUE);
    }
    let value = match measure {
        Measure::Dot => dot(simd, a, b),
        Measure::L2sq => l2sq(simd, a, b),
        Measure::Cosine => cosine(simd, a, b, dot_raw(simd, a, a), dot_raw(simd, b, b)),
    };
    (value, GOOD)
}

#[inline(always)]
fn measure_i8(measure: Measure, a: &[i8], b: &[i8]) -> f32 {
    match measure {
        Measure::Dot => dot_i8(a, b) as f32,
        Measure::L2sq => l2sq_i8(a, b) as f32,
        Measure::Cosine => {
            let norms = f64::from(dot_i8(a, a)).sqrt() * f64::from(dot_i8(b, b)).sqrt();
            if norms == 0.0 { 0.0 } else { (f64::from(dot_i8(a, b)) / norms) as f32 }
        }
    }
}

/// Rows of `a`, each with its row of `b`, or all with the only row that `b` has.
struct Measured<'a, T> {
    measure: Measure,
    a: &'a [T],
    b: &'a [T],
    dim: usize,
    values: &'a mut [f32],
    statuses: &'a mut [u32],
}

impl<T> Measured<'_, T> {
    #[inline(always)]
    fn each(self, one: impl Fn(Measure, &[T], &[T]) -> (f32, u32)) {
        let step = if self.b.len() == self.dim { 0 } else { self.dim };
        let outputs = self.values.iter_mut().zip(self.statuses);
        for (at, (a, (value, status))) in self.a.chunks_exact(self.dim).zip(outputs).enumerate() {
            (*value, *status) = one(self.measure, a, &self.b[at * step..][..self.dim]);
        }
    }
}

impl Work for Measured<'_, f32> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.each(
            #[inline(always)]
            |kind, a, b| measure(simd, kind, a, b),
        );
    }
}

impl Work for Measured<'_, i8> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.each(
            #[inline(always)]
            |kind, a, b| (measure_i8(kind, a, b), GOOD),
        );
    }
}

impl<'a, T> Measured<'a, T> {
    fn checked(measure: Measure, a: &'a [T], b: &'a [T], dim: usize, values: &'a mut [f32], statuses: &'a mut [u32]) -> Self {
        assert!(values.len() == statuses.len() && a.len() == values.len() * dim, "rows, values and statuses differ in number");
        assert!(b.len() == a.len() || b.len() == dim, "the other side has neither one row nor as many");
        Self { measure, a, b, dim, values, statuses }
    }
}

/// Each row against one vector. Panics unless all lengths agree.
pub fn against_one(isa: Isa, measure: Measure, rows: &[f32], one: &[f32], values: &mut [f32], statuses: &mut [u32]) {
    isa.run(Measured::checked(measure, rows, one, one.len(), values, statuses));
}

/// Row `i` of `a` against row `i` of `b`. Panics unless all lengths agree.
pub fn pairs(isa: Isa, measure: Measure, a: &[f32], b: &[f32], dim: usize, values: &mut [f32], statuses: &mut [u32]) {
    isa.run(Measured::checked(measure, a, b, dim, values, statuses));
}

/// Each int8 row against one vector. Sums are exact and rounded to f32 once. Panics unless all lengths agree.
pub fn against_one_i8(isa: Isa, measure: Measure, rows: &[i8], one: &[i8], values: &mut [f32], statuses: &mut [u32]) {
    isa.run(Measured::checked(measure, rows, one, one.len(), values, statuses));
}

/// Row `i` of int8 rows `a` against row `i` of `b`. Sums are exact and rounded to f32 once. Panics unless all lengths agree.
pub fn pairs_i8(isa: Isa, measure: Measure, a: &[i8], b: &[i8], dim: usize, values: &mut [f32], statuses: &mut [u32]) {
    isa.run(Measured::checked(measure, a, b, dim, values, statuses));
}
