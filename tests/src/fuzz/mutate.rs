//! Inputs made of other inputs, by a random generator that a seed repeats.

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Numbers at which code goes wrong.
const EDGES: [u64; 14] = [0, 1, 2, 63, 64, 65, 255, 65_535, 1 << 31, u32::MAX as u64, 1 << 36, i64::MAX as u64, 1 << 63, u64::MAX];
/// Texts at which parsers go wrong.
const WORDS: [&[u8]; 14] =
    [b"-1", b"9223372036854775807", b"18446744073709551616", b"1e308", b"\"", b"[", b"]]", b"{", b",", b"\n", b"null", b"\xff", b"=", b"."];

/// One of the inputs, changed in a few places, at most `bytes_max` long.
pub fn mutate(random: &mut Random, inputs: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(80)).min(bytes.len());
        match random.below(9) {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (random.0 % 8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.0 as u8),
            2 => {
                let (size, edge) = (1 << random.below(4), EDGES[random.below(EDGES.len())].to_le_bytes());
                let at = at / size * size;
                bytes.iter_mut().skip(at).zip(&edge[..size]).for_each(|(byte, edge)| *byte = *edge);
            }
            3 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, copy));
            }
            6 => bytes.truncate(at),
            7 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.extend((0..random.below(80)).map(|_| random.next() as u8)),
        }
    }
    bytes.truncate(bytes_max);
    bytes
}
