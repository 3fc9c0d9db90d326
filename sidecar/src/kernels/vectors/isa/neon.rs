//! NEON, which every aarch64 has: sixteen f32 in four registers, and a loop of its own that widens bytes to 16 bits.
#![allow(unsafe_code)]

use std::arch::aarch64::{
    float32x4_t, int16x8_t, int32x4_t, uint8x16_t, uint16x8_t, vaddq_s32, vdupq_n_s32, vfmaq_f32, vget_low_s16, vget_low_u8, vmovl_high_u8,
    vmovl_u8, vmull_high_s16, vmull_s16, vpaddq_s32, vsubq_f32,
};

use super::{GROUP, Group, PANEL_ROWS, QueryGroup, Simd, Tile, Work};

/// Rows of four components in one register of bytes.
const ROWS: usize = 4;

/// NEON, which belongs to the baseline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neon;

impl Neon {
    #[inline]
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }
}

impl Simd for Neon {
    type Lanes = [float32x4_t; 4];

    #[inline(always)]
    fn fused(self, a: Self::Lanes, b: Self::Lanes, sum: Self::Lanes) -> Self::Lanes {
        // SAFETY: the target's baseline has NEON.
        std::array::from_fn(|at| unsafe { vfmaq_f32(sum[at], a[at], b[at]) })
    }

    #[inline(always)]
    fn minus(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: the target's baseline has NEON.
        std::array::from_fn(|at| unsafe { vsubq_f32(a[at], b[at]) })
    }

    #[inline(always)]
    fn tile<const QUERIES: usize>(self, panel: &[Group], queries: &[QueryGroup], first: usize, tile: &mut Tile) {
        for (query, sums) in tile.iter_mut().enumerate().skip(first).take(QUERIES) {
            // SAFETY: the target's baseline has NEON.
            unsafe { one_query(panel, queries, query, sums) }
        }
    }
}

/// 16 rows at a time. The products of four components of a row are added in pairs; the two pairs of a row at the end.
#[allow(clippy::needless_range_loop)]
#[target_feature(enable = "neon")]
fn one_query(panel: &[Group], queries: &[QueryGroup], query: usize, sums: &mut [i32; PANEL_ROWS]) {
    const REGISTERS: usize = 4;
    for (block, sums) in sums.as_chunks_mut::<{ REGISTERS * ROWS }>().0.iter_mut().enumerate() {
        let mut pairs = [[vdupq_n_s32(0); 2]; REGISTERS];
        for (Group(rows), group) in panel.iter().zip(queries) {
            let four: [i16; GROUP] = group[query].map(i16::from);
            let wide: int16x8_t = bytemuck::must_cast([four, four]);
            let registers: &[[u8; GROUP * ROWS]] = rows.as_chunks().0;
            for at in 0..REGISTERS {
                let bytes: uint8x16_t = bytemuck::must_cast(registers[REGISTERS * block + at]);
                let halves: [uint16x8_t; 2] = [vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes)];
                for half in 0..2 {
                    // Bytes fit 15 bits, so the signs agree.
                    let rows: int16x8_t = bytemuck::must_cast(halves[half]);
                    let products = [vmull_s16(vget_low_s16(rows), vget_low_s16(wide)), vmull_high_s16(rows, wide)];
                    pairs[at][half] = vaddq_s32(pairs[at][half], vpaddq_s32(products[0], products[1]));
                }
            }
        }
        for at in 0..REGISTERS {
            let four: int32x4_t = vpaddq_s32(pairs[at][0], pairs[at][1]);
            sums[ROWS * at..ROWS * (at + 1)].copy_from_slice(&bytemuck::must_cast::<_, [i32; ROWS]>(four));
        }
    }
}
