//! The body as the target's baseline compiles it, without a word about any instruction: the twin of all others.

use crate::kernels::vectors::reduce::LANES;

use super::{GROUP, Group, PANEL_ROWS, QueryGroup, Simd, Tile};

/// No instructions beyond the baseline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain;

impl Simd for Plain {
    type Lanes = [f32; LANES];

    #[inline(always)]
    fn fused(self, a: Self::Lanes, b: Self::Lanes, sum: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], sum[lane]))
    }

    #[inline(always)]
    fn minus(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn tile<const QUERIES: usize>(self, panel: &[Group], queries: &[QueryGroup], first: usize, tile: &mut Tile) {
        for query in first..first + QUERIES {
            let mut sums = [0i32; PANEL_ROWS];
            for (Group(rows), group) in panel.iter().zip(queries) {
                let wide: [i16; GROUP] = group[query].map(i16::from);
                for (sum, row) in sums.iter_mut().zip(rows.as_chunks::<GROUP>().0) {
                    let products = [0, 1, 2, 3].map(|at| i32::from(i16::from(row[at])) * i32::from(wide[at]));
                    *sum = sum.wrapping_add((products[0] + products[1]) + (products[2] + products[3]));
                }
            }
            tile[query] = sums;
        }
    }
}
