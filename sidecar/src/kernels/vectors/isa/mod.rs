//! Which instructions the processor has, found once, and how a body of work is compiled for each set. A body is written
//! once, in plain Rust; each file here compiles it again with more instructions allowed, and adds the one inner loop
//! that compilers do not find by themselves: the int8 tile.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;

use super::reduce::LANES;

/// Rows of one panel of the compact form.
pub const PANEL_ROWS: usize = 64;
/// Queries of one tile.
pub const TILE_QUERIES: usize = 8;
/// Components that one step of the int8 tile takes in.
pub const GROUP: usize = 4;

/// One group of four components of each row of a panel, with 128 added to each: bytes `4 * row + component`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Group(pub [u8; PANEL_ROWS * GROUP]);

/// One group of four components of each query of a tile.
pub type QueryGroup = [[i8; GROUP]; TILE_QUERIES];

/// Integer inner products of the tile's queries with the panel's rows.
pub type Tile = [[i32; PANEL_ROWS]; TILE_QUERIES];

/// What a set of instructions brings: sixteen f32 at once, and the inner loop of the compact scan. Proof of having it is
/// holding the value.
pub trait Simd: Copy {
    /// Sixteen f32 in registers.
    type Lanes: bytemuck::Pod;

    /// Takes them from memory.
    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::Lanes {
        bytemuck::must_cast(*values)
    }

    /// Gives them back.
    #[inline(always)]
    fn values(self, lanes: Self::Lanes) -> [f32; LANES] {
        bytemuck::must_cast(lanes)
    }

    /// `a * b + sum`, rounded once.
    fn fused(self, a: Self::Lanes, b: Self::Lanes, sum: Self::Lanes) -> Self::Lanes;
    /// `a - b`.
    fn minus(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Inner products, modulo 2^32, of `QUERIES` queries from `first` on with the 64 rows of a panel, the rows' 128 included.
    fn tile<const QUERIES: usize>(self, panel: &[Group], queries: &[QueryGroup], first: usize, tile: &mut Tile);
}

/// Work that is compiled once for each set of instructions. `run` must be `#[inline(always)]`, and so all that it calls.
pub trait Work {
    /// What it gives back.
    type Output;
    /// Does it.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A set of instructions that this processor has.
#[derive(Clone, Copy, Debug)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain(plain::Plain),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Isa {
    /// The quickest that the processor has.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::plain())
    }

    /// The plain body, which every processor has: the twin of all others.
    pub const fn plain() -> Self {
        Self(Kind::Plain(plain::Plain))
    }

    /// Every set that this processor has, the plain one first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let wider = [avx2::Avx2::detect().map(Kind::Avx2), avx512::Avx512::detect().map(Kind::Avx512)];
        #[cfg(target_arch = "aarch64")]
        let wider = [Some(Kind::Neon(neon::Neon))];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let wider: [Option<Kind>; 0] = [];
        std::iter::once(Self::plain()).chain(wider.into_iter().flatten().map(Self)).collect()
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Plain(_) => "plain",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512-vnni",
        }
    }

    /// Runs the work, compiled for this set.
    #[inline]
    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Kind::Plain(plain) => work.run(plain),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(neon) => neon.run(work),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.run(work),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.run(work),
        }
    }
}
