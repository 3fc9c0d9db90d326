//! SHA-256 of several payloads, two at a time by the processor's own SHA instructions. Each of their steps waits for the one
//! before it; a second payload fills the gaps, so that two take hardly longer than one. What comes out is SHA-256 as ever:
//! tests compare it with the crate that does one at a time, and with what NIST publishes.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_set_epi64x, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32,
};

/// Bytes of a block.
const BLOCK: usize = 64;
/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const K: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];
/// The first 32 bits of the fractional parts of the square roots of the first 8 primes, as the instructions want them:
/// f e b a, and h g d c.
const FIRST: State = [[0x9b05_688c, 0x510e_527f, 0xbb67_ae85, 0x6a09_e667], [0x5be0_cd19, 0x1f83_d9ab, 0xa54f_f53a, 0x3c6e_f372]];

/// What blocks so far have led to.
type State = [[u32; 4]; 2];

/// Proof that the processor has the SHA instructions, and SSSE3 and SSE4.1 with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sha(());

impl Sha {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
        has_all.then_some(Self(()))
    }

    /// Takes equally many blocks into each state.
    fn compress<const N: usize>(self, states: [State; N], blocks: [&[[u8; BLOCK]]; N]) -> [State; N] {
        // SAFETY: `self` exists only where `detect` found every feature.
        unsafe { compress(states, blocks) }
    }

    /// Gives each payload's number and digest to `answer`, as they are done.
    pub(super) fn digests(self, payloads: &[&[u8]], mut answer: impl FnMut(usize, [u8; 32])) {
        let mut waiting = payloads.iter().enumerate().map(|(number, payload)| Stream::new(number, payload));
        let (mut one, mut other) = (waiting.next(), waiting.next());
        while let (Some(a), Some(b)) = (&mut one, &mut other) {
            let count = a.ahead().len().min(b.ahead().len());
            [a.state, b.state] = self.compress([a.state, b.state], [&a.ahead()[..count], &b.ahead()[..count]]);
            for stream in [&mut one, &mut other] {
                if let Some(done) = stream.take_if(|stream| stream.pass(count)) {
                    answer(done.number, done.digest());
                    *stream = waiting.next();
                }
            }
        }
        for mut stream in [one, other].into_iter().flatten() {
            stream.end(self);
            answer(stream.number, stream.digest());
        }
    }
}

/// Payloads that go side by side.
pub(super) const STREAMS: usize = 2;

/// Payloads that come in pieces, side by side.
pub(super) struct Abreast {
    sha: Sha,
    running: [Running; STREAMS],
}

impl Abreast {
    pub(super) fn new(sha: Sha) -> Self {
        Self { sha, running: [Running::FIRST; STREAMS] }
    }

    /// All begin anew.
    pub(super) fn restart(&mut self) {
        self.running = [Running::FIRST; STREAMS];
    }

    /// The next piece of each, of any length; of those that are not named, none.
    pub(super) fn update(&mut self, pieces: &[&[u8]]) {
        let (mut blocks, mut rests) = ([&[][..]; STREAMS], [&[][..]; STREAMS]);
        for ((running, piece), (blocks, rest)) in self.running.iter_mut().zip(pieces).zip(blocks.iter_mut().zip(&mut rests)) {
            (*blocks, *rest) = running.fill(self.sha, piece).as_chunks::<BLOCK>();
        }
        let together = blocks[0].len().min(blocks[1].len());
        let [a, b] = &mut self.running;
        [a.state, b.state] = self.sha.compress([a.state, b.state], blocks.map(|blocks| &blocks[..together]));
        for (running, (blocks, rest)) in self.running.iter_mut().zip(blocks.into_iter().zip(rests)) {
            [running.state] = self.sha.compress([running.state], [&blocks[together..]]);
            if !rest.is_empty() {
                running.held[..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// Digest and length of one that has ended.
    pub(super) fn digest(&self, number: usize) -> ([u8; 32], u64) {
        let running = &self.running[number];
        let mut stream = Stream::ending(number, running.state, &running.held[..running.held_bytes()], running.length);
        stream.end(self.sha);
        (stream.digest(), running.length)
    }
}

/// A payload of which some is taken in.
#[derive(Clone, Copy)]
struct Running {
    state: State,
    /// Bytes that have come.
    length: u64,
    /// Those behind the last whole block.
    held: [u8; BLOCK],
}

impl Running {
    const FIRST: Self = Self { state: FIRST, length: 0, held: [0; BLOCK] };

    fn held_bytes(&self) -> usize {
        self.length as usize % BLOCK
    }

    /// Notes a piece, completes with it a block that was begun, and gives what is left of it: nothing, or what begins a block.
    fn fill<'a>(&mut self, sha: Sha, piece: &'a [u8]) -> &'a [u8] {
        let begun = self.held_bytes();
        self.length += piece.len() as u64;
        if begun == 0 {
            return piece;
        }
        let (fill, left) = piece.split_at(piece.len().min(BLOCK - begun));
        self.held[begun..][..fill.len()].copy_from_slice(fill);
        if begun + fill.len() == BLOCK {
            [self.state] = sha.compress([self.state], [&[self.held]]);
        }
        left
    }
}

/// One payload on its way.
struct Stream<'a> {
    number: usize,
    state: State,
    /// Blocks of the payload that are not taken in.
    whole: &'a [[u8; BLOCK]],
    /// What is left of it, the end mark and its length in bits, in the last one or two blocks.
    tail: [[u8; BLOCK]; 2],
    /// Blocks of the tail that are not taken in; they begin at `2 - left`.
    left: usize,
}

impl<'a> Stream<'a> {
    fn new(number: usize, payload: &'a [u8]) -> Self {
        Self::ending(number, FIRST, payload, payload.len() as u64)
    }

    /// The end of a payload of so many bytes, of which all before it led to a state.
    fn ending(number: usize, state: State, payload: &'a [u8], length: u64) -> Self {
        let (whole, rest) = payload.as_chunks::<BLOCK>();
        // Behind the rest, a byte and a length of 8 must fit.
        let left = if rest.len() + 9 <= BLOCK { 1 } else { 2 };
        let mut tail = [[0; BLOCK]; 2];
        let bytes = tail.as_flattened_mut();
        let begin = (2 - left) * BLOCK;
        bytes[begin..][..rest.len()].copy_from_slice(rest);
        bytes[begin + rest.len()] = 0x80;
        bytes[2 * BLOCK - 8..].copy_from_slice(&(8 * length).to_be_bytes());
        Self { number, state, whole, tail, left }
    }

    /// The next blocks in a row; never none.
    fn ahead(&self) -> &[[u8; BLOCK]] {
        if self.whole.is_empty() { &self.tail[2 - self.left..] } else { self.whole }
    }

    /// So many blocks were taken in. True: they were the last.
    fn pass(&mut self, count: usize) -> bool {
        if self.whole.is_empty() {
            self.left -= count;
        } else {
            self.whole = &self.whole[count..];
        }
        self.left == 0
    }

    /// Takes in all that is ahead.
    fn end(&mut self, sha: Sha) {
        loop {
            let count = self.ahead().len();
            [self.state] = sha.compress([self.state], [self.ahead()]);
            if self.pass(count) {
                return;
            }
        }
    }

    fn digest(&self) -> [u8; 32] {
        let [[f, e, b, a], [h, g, d, c]] = self.state;
        bytemuck::must_cast([a, b, c, d, e, f, g, h].map(u32::to_be_bytes))
    }
}

/// Takes equally many blocks into each state.
#[target_feature(enable = "sha,ssse3,sse4.1")]
#[allow(clippy::needless_range_loop)]
fn compress<const STREAMS: usize>(states: [State; STREAMS], blocks: [&[[u8; BLOCK]]; STREAMS]) -> [State; STREAMS] {
    // Indices, because iterators over registers are not inlined across instruction sets.
    let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut registers = [[_mm_set_epi64x(0, 0); 2]; STREAMS];
    for stream in 0..STREAMS {
        registers[stream] = bytemuck::must_cast(states[stream]);
    }
    for block in 0..blocks[0].len() {
        let before = registers;
        let mut words = [[_mm_set_epi64x(0, 0); 4]; STREAMS];
        // Four rounds of every stream: the words of a group of four stand in `words[stream][group % 4]`.
        macro_rules! rounds {
            ($($group:literal)*) => {$(
                for stream in 0..STREAMS {
                    let [abef, cdgh] = registers[stream];
                    let with_constants = _mm_add_epi32(words[stream][$group % 4], bytemuck::must_cast(K[$group]));
                    let cdgh = _mm_sha256rnds2_epu32(cdgh, abef, with_constants);
                    let abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32::<0x0e>(with_constants));
                    registers[stream] = [abef, cdgh];
                }
                if $group >= 3 && $group < 15 {
                    for stream in 0..STREAMS {
                        let row = &mut words[stream];
                        let [a, b, c, d] = [row[($group + 1) % 4], row[($group + 2) % 4], row[($group + 3) % 4], row[$group % 4]];
                        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8::<4>(d, c));
                        row[($group + 1) % 4] = _mm_sha256msg2_epu32(sum, d);
                    }
                }
            )*};
        }
        for stream in 0..STREAMS {
            let quarters: [__m128i; 4] = bytemuck::must_cast(blocks[stream][block]);
            for at in 0..4 {
                words[stream][at] = _mm_shuffle_epi8(quarters[at], big_endian);
            }
        }
        rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for stream in 0..STREAMS {
            for half in 0..2 {
                registers[stream][half] = _mm_add_epi32(registers[stream][half], before[stream][half]);
            }
        }
    }
    let mut after = states;
    for stream in 0..STREAMS {
        after[stream] = bytemuck::must_cast(registers[stream]);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest;

    fn digests(payloads: &[&[u8]]) -> Vec<[u8; 32]> {
        let mut found = vec![None; payloads.len()];
        let Some(sha) = Sha::detect() else { return payloads.iter().map(|payload| sha2::Sha256::digest(payload).into()).collect() };
        sha.digests(payloads, |number, digest| assert_eq!(found[number].replace(digest), None));
        found.into_iter().map(|digest| digest.expect("every payload is answered")).collect()
    }

    /// Every length around the ends of one, two and three blocks, beside one of another length.
    #[test]
    fn all_short_lengths_in_pairs() {
        let bytes: Vec<u8> = (0..200u32).map(|at| (at * 7) as u8).collect();
        for length in 0..bytes.len() {
            for other in [0, 55, 64, 130, length] {
                let pair = [&bytes[..length], &bytes[..other]];
                assert_eq!(digests(&pair), pair.map(|payload| <[u8; 32]>::from(sha2::Sha256::digest(payload))));
            }
        }
    }

    proptest! {
        #[test]
        fn many_at_once_are_as_one_by_one(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..20)) {
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let expected: Vec<[u8; 32]> = payloads.iter().map(|payload| sha2::Sha256::digest(payload).into()).collect();
            prop_assert_eq!(digests(&payloads), expected);
        }
    }
}
