//! The compact form of vectors, one byte a component, and how far a score computed from it can be off.
//!
//! A vector `x` becomes `s * c` with integers `c` from -127 to 127 and `x - s * c = e`. For a query `q = t * d + f` the
//! integer product is exact, and `|q.x - s*t*(c.d)| <= |t*d| |e| + |f| |x|` by Cauchy and Schwarz. What f32 rounds on both
//! ways is added from standard bounds: sums of `m` fused steps are off by at most `m u / (1 - m u)` times the sum of
//! absolute products, `u = 2^-24`. `|s*c| <= 2 |x|`, since no component rounds away from zero by more than itself.
//! Scores are "more is better": inner product, cosine, or the negative squared distance:
//!
//! `score = (c.d) * row.factor * query.factor - query.weight * row.norm^2 - query.base`, off by at most
//! `query.per_error * row.error + query.per_norm * row.norm + query.per_square * row.norm^2 + query.slack`.

use super::corpus::Metric;
use super::isa::{GROUP, Group, PANEL_ROWS, QueryGroup, TILE_QUERIES};
use super::reduce::LANES;

/// Norms between these keep every product of the compact scan far from f32's edges. A row outside them is always a candidate.
const NORM_MIN: f64 = 1e-12;
const NORM_MAX: f64 = 1e12;
/// Covers the roundings of the bound's own arithmetic.
const INFLATION: f64 = 1.0001;
/// Added to a number below 2^51 and taken away again, it rounds it to the nearest integer, ties to even.
const NEAREST: f64 = (3u64 << 51) as f64;
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// What a scan knows of the rows of one panel.
#[derive(Clone, Copy)]
pub(super) struct PanelFacts {
    pub factor: [f32; PANEL_ROWS],
    pub error: [f32; PANEL_ROWS],
    pub norm: [f32; PANEL_ROWS],
}

impl PanelFacts {
    pub(super) const ZERO: Self = Self { factor: [0.0; PANEL_ROWS], error: [0.0; PANEL_ROWS], norm: [0.0; PANEL_ROWS] };
}

/// What a scan knows of one query.
#[derive(Clone, Copy, Default)]
pub(super) struct QueryFacts {
    /// 128 times the sum of its integers: what the rows' 128 added to the product.
    pub excess: i32,
    pub factor: f32,
    pub weight: f32,
    pub base: f32,
    pub per_error: f32,
    pub per_norm: f32,
    pub per_square: f32,
    pub slack: f32,
    /// Whether the compact scan may be used at all; else every row is computed in f32.
    pub is_compact: bool,
}

/// A vector's integers with its scale, and how long it, its integers and what they lose are.
struct Quantized {
    scale: f64,
    error: f64,
    norm: f64,
    length: f64,
    sum: i32,
}

/// Gives the integers of sixteen components after another to `put(first, integers)`; those behind the last are 0.
#[inline(always)]
fn quantize(vector: &[f32], mut put: impl FnMut(usize, &[i8; LANES])) -> Quantized {
    let largest = vector.iter().fold(0f32, |most, x| most.max(x.abs()));
    // The scale is an f32, because the scan multiplies by that; nothing is lost that the error below does not count.
    let scale = f64::from((f64::from(largest) / 127.0) as f32);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let (mut errors, mut squares, mut lengths, mut sums) = ([0f64; LANES], [0f64; LANES], [0f64; LANES], [0i32; LANES]);
    for (at, values) in vector.chunks(LANES).enumerate() {
        let mut padded = [0f32; LANES];
        padded[..values.len()].copy_from_slice(values);
        let mut integers = [0i8; LANES];
        for lane in 0..LANES {
            let x = f64::from(padded[lane]);
            let nearest = (x * inverse).clamp(-127.0, 127.0) + NEAREST;
            let integer = nearest - NEAREST;
            let (kept, lost) = (integer * scale, x - integer * scale);
            errors[lane] += lost * lost;
            squares[lane] += x * x;
            lengths[lane] += kept * kept;
            // The low byte of that number is the integer.
            integers[lane] = nearest.to_bits() as i8;
            sums[lane] += i32::from(integers[lane]);
        }
        put(at * LANES, &integers);
    }
    let length = |squares: [f64; LANES]| squares.iter().sum::<f64>().sqrt();
    let (error, norm, length) = (length(errors) * INFLATION, length(squares), length(lengths) * INFLATION);
    Quantized { scale, error, norm, length, sum: sums.iter().sum() }
}

/// Writes a row into its panel. `slot` is its place there.
#[inline(always)]
pub(super) fn put_row(metric: Metric, vector: &[f32], panel: &mut [Group], facts: &mut PanelFacts, slot: usize) {
    let row = quantize(
        vector,
        #[inline(always)]
        |first, integers| {
            for (group, integers) in panel[first / GROUP..].iter_mut().zip(integers.as_chunks::<GROUP>().0) {
                group.0[slot * GROUP..(slot + 1) * GROUP]
                    .copy_from_slice(&(u32::from_le_bytes(bytemuck::must_cast(*integers)) ^ 0x8080_8080).to_le_bytes());
            }
        },
    );
    if row.norm == 0.0 {
        return; // All zero: so are its facts.
    }
    if !(NORM_MIN..=NORM_MAX).contains(&row.norm) {
        facts.error[slot] = f32::INFINITY;
        return;
    }
    let divisor = if metric == Metric::Cosine { row.norm } else { 1.0 };
    facts.factor[slot] = (row.scale / divisor) as f32;
    facts.error[slot] = (row.error / divisor * INFLATION) as f32;
    facts.norm[slot] = if metric == Metric::Cosine { 1.0 } else { row.norm as f32 };
}

/// Writes a query into its tile and gives its facts. `slot` is its place there.
#[inline(always)]
pub(super) fn put_query(metric: Metric, vector: &[f32], tile: &mut [QueryGroup], slot: usize) -> QueryFacts {
    let query = quantize(
        vector,
        #[inline(always)]
        |first, integers| {
            for (group, integers) in tile[first / GROUP..].iter_mut().zip(integers.as_chunks::<GROUP>().0) {
                group[slot] = *integers;
            }
        },
    );
    if !(NORM_MIN..=NORM_MAX).contains(&query.norm) {
        return QueryFacts::default();
    }
    let steps = (vector.len().div_ceil(LANES) + 8) as f64;
    let rounding = steps * U / (1.0 - steps * U);
    let mut facts = QueryFacts { excess: 128 * query.sum, factor: query.scale as f32, is_compact: true, ..QueryFacts::default() };
    let up = |bound: f64| (bound * INFLATION) as f32;
    match metric {
        Metric::InnerProduct => {
            facts.per_error = up(query.length);
            facts.per_norm = up(query.error + (rounding + 64.0 * U) * query.norm);
        }
        Metric::Cosine => {
            // The f32 cosine divides by norms that are themselves off by half the rounding of their sums.
            facts.factor = (query.scale / query.norm) as f32;
            facts.per_error = up(query.length / query.norm);
            facts.per_norm = up(query.error / query.norm + 3.0 * rounding + 64.0 * U);
        }
        Metric::L2 => {
            // |q - x|^2 <= 2 |q|^2 + 2 |x|^2, and so is every term that is rounded.
            facts.factor = (2.0 * query.scale) as f32;
            facts.weight = 1.0;
            facts.base = (query.norm * query.norm) as f32;
            facts.per_error = up(2.0 * query.length);
            facts.per_norm = up(2.0 * query.error);
            facts.per_square = up(2.0 * rounding + 64.0 * U);
            facts.slack = up((2.0 * rounding + 64.0 * U) * query.norm * query.norm);
        }
    }
    facts
}

/// Groups of a vector of `dim`.
pub(super) const fn groups(dim: usize) -> usize {
    dim.div_ceil(GROUP)
}

const _: () = {
    use ringlane_layout::limits::VECTOR_COMPONENTS_MAX;
    // The widest product fits 32 bits, and the tile's arithmetic is modulo 2^32 anyway.
    assert!(255 * 127 * VECTOR_COMPONENTS_MAX as u64 <= i32::MAX as u64);
    assert!(TILE_QUERIES.is_power_of_two());
};
