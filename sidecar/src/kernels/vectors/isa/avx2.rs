//! AVX2 with FMA. Its own loop widens bytes to 16 bits, because the byte product of AVX2 saturates.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, _mm256_add_epi32, _mm256_cvtepu8_epi16, _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_permute4x64_epi64,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_sub_ps,
};

use super::{GROUP, Group, PANEL_ROWS, QueryGroup, Simd, Tile, Work};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    #[inline]
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        // SAFETY: `self` exists only where `detect` found both features.
        unsafe { run(self, work) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn run<W: Work>(avx2: Avx2, work: W) -> W::Output {
    work.run(avx2)
}

impl Simd for Avx2 {
    type Lanes = [__m256; 2];

    #[inline(always)]
    fn fused(self, a: Self::Lanes, b: Self::Lanes, sum: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found both features.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], sum[0]), _mm256_fmadd_ps(a[1], b[1], sum[1])] }
    }

    #[inline(always)]
    fn minus(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found both features.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn tile<const QUERIES: usize>(self, panel: &[Group], queries: &[QueryGroup], first: usize, tile: &mut Tile) {
        for (query, sums) in tile.iter_mut().enumerate().skip(first).take(QUERIES) {
            // SAFETY: `self` exists only where `detect` found both features.
            unsafe { one_query(panel, queries, query, sums) }
        }
    }
}

/// 16 rows at a time: a register holds 4 rows of 4 components as 16-bit numbers, whose products are added in pairs.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::needless_range_loop)]
fn one_query(panel: &[Group], queries: &[QueryGroup], query: usize, sums: &mut [i32; PANEL_ROWS]) {
    const ROWS: usize = 16;
    for (block, sums) in sums.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        let mut pairs = [_mm256_setzero_si256(); 4];
        for (Group(rows), group) in panel.iter().zip(queries) {
            let wide = _mm256_set1_epi64x(bytemuck::must_cast(group[query].map(i16::from)));
            let bytes = &rows.as_chunks::<{ 4 * GROUP }>().0[4 * block..4 * block + 4];
            // An index, because iterators over registers are not inlined across instruction sets.
            for at in 0..4 {
                let rows = _mm256_cvtepu8_epi16(bytemuck::must_cast(bytes[at]));
                pairs[at] = _mm256_add_epi32(pairs[at], _mm256_madd_epi16(rows, wide));
            }
        }
        for half in 0..2 {
            // hadd works within 128 bits: rows 0 1 4 5 2 3 6 7 come out, and the permutation puts them in order.
            let added = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(pairs[2 * half], pairs[2 * half + 1]));
            sums[8 * half..8 * half + 8].copy_from_slice(&bytemuck::must_cast::<_, [i32; 8]>(added));
        }
    }
}
