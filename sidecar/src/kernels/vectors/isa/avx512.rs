//! AVX-512 with VNNI: one instruction multiplies and adds 64 bytes. Its own loop holds 32 rows x 8 queries in registers.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m512, __m512i, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_sub_ps};

use super::{Group, PANEL_ROWS, QueryGroup, Simd, Tile, Work};

/// Rows whose sums one register holds.
const ROWS: usize = 16;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and VNNI, and AVX2 and FMA with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has_all.then_some(Self(()))
    }

    #[inline]
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        // SAFETY: `self` exists only where `detect` found every feature.
        unsafe { run(self, work) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn run<W: Work>(avx512: Avx512, work: W) -> W::Output {
    work.run(avx512)
}

impl Simd for Avx512 {
    type Lanes = __m512;

    #[inline(always)]
    fn fused(self, a: Self::Lanes, b: Self::Lanes, sum: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found every feature.
        unsafe { _mm512_fmadd_ps(a, b, sum) }
    }

    #[inline(always)]
    fn minus(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found every feature.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn tile<const QUERIES: usize>(self, panel: &[Group], queries: &[QueryGroup], first: usize, tile: &mut Tile) {
        // SAFETY: `self` exists only where `detect` found every feature.
        unsafe {
            if QUERIES == 1 {
                registers::<1, 4>(panel, queries, first, 0, tile);
            } else {
                registers::<QUERIES, 2>(panel, queries, first, 0, tile);
                registers::<QUERIES, 2>(panel, queries, first, 2, tile);
            }
        }
    }
}

/// `BLOCKS` blocks of 16 rows from block `block` on, against `QUERIES` queries.
#[allow(clippy::needless_range_loop)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn registers<const QUERIES: usize, const BLOCKS: usize>(
    panel: &[Group],
    queries: &[QueryGroup],
    first: usize,
    block: usize,
    tile: &mut Tile,
) {
    // Indices, because iterators over registers are not inlined across instruction sets.
    let mut sums = [[_mm512_setzero_si512(); BLOCKS]; QUERIES];
    for (group, query) in panel.iter().zip(queries) {
        let blocks: &[__m512i; PANEL_ROWS / ROWS] = bytemuck::must_cast_ref(group);
        for at in 0..QUERIES {
            let query = _mm512_set1_epi32(bytemuck::must_cast(query[first + at]));
            for row in 0..BLOCKS {
                sums[at][row] = _mm512_dpbusd_epi32(sums[at][row], blocks[block + row], query);
            }
        }
    }
    for at in 0..QUERIES {
        let blocks: &mut [[i32; ROWS]; PANEL_ROWS / ROWS] = bytemuck::must_cast_mut(&mut tile[first + at]);
        for row in 0..BLOCKS {
            blocks[block + row] = bytemuck::must_cast(sums[at][row]);
        }
    }
}
