//! Digests of payloads: SHA-256 and BLAKE3. A request says where in the lane's arena its payload lies; the result is 32 bytes.
//! Where memory comes from, and how it is copied, never enters here.

#[cfg(target_arch = "x86_64")]
mod sha256;

use std::sync::Arc;

use ringlane_layout::limits::{ARENA_BYTES_MAX, PAGE_BYTES};
use ringlane_layout::record;
use ringlane_layout::record::Record;
use serde::Deserialize;
use serde_json::Value;
use sha2::Digest;

use crate::kernels::door::{Compute, Door, LaneShape, OpenKernel, PayloadCompute, Tiles, one_by_one, read, record_of};

record! {
    /// One payload to digest.
    pub struct DigestRequest: 64 {
        /// Where the payload begins, bytes from the start of the arena.
        offset: u64,
        /// Its length, bytes; 0 is the digest of nothing.
        length: u64,
        /// Zero.
        reserved0: [u8; 16],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// The digest of one payload.
    pub struct DigestResult: 64 {
        /// The digest.
        digest: [u8; 32],
        /// Length of the payload that was digested, bytes.
        length: u64,
        /// Zero.
        reserved: [u8; 24],
    }
}

/// How payloads are digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// BLAKE3 with 32 bytes of output and no key.
    Blake3,
}

impl Algorithm {
    /// The digest of bytes that are there as a whole.
    #[must_use]
    pub fn digest(self, payload: &[u8]) -> [u8; 32] {
        match self {
            Self::Sha256 => sha2::Sha256::digest(payload).into(),
            Self::Blake3 => blake3::hash(payload).into(),
        }
    }

    /// The processor's instructions for it, that take two payloads at a time.
    #[cfg(target_arch = "x86_64")]
    fn in_pairs(self) -> Option<sha256::Sha> {
        if self == Self::Sha256 { sha256::Sha::detect() } else { None }
    }
}

/// What a client says when it opens a digest lane.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    algorithm: Algorithm,
    arena_bytes: u64,
    #[serde(default)]
    max_concurrent: Option<u64>,
}

/// The kernel `digests`.
pub struct Digests;

impl Door for Digests {
    fn name(&self) -> &'static str {
        "digests"
    }

    fn open(self: Arc<Self>, parameters: &Value) -> Result<OpenKernel, String> {
        let Parameters { algorithm, arena_bytes, max_concurrent } = read(parameters)?;
        if !(1..=ARENA_BYTES_MAX).contains(&arena_bytes) {
            return Err(format!("arena_bytes must be 1 to {ARENA_BYTES_MAX}, not {arena_bytes}"));
        }
        if max_concurrent == Some(0) {
            return Err("max_concurrent must be at least 1: it is how many payloads are worked on at once".into());
        }
        let shape = LaneShape {
            request: DigestRequest::SCHEMA.into(),
            result: DigestResult::SCHEMA.into(),
            enums: Vec::new(),
            arena_bytes: arena_bytes.next_multiple_of(PAGE_BYTES as u64),
            hands_max: max_concurrent.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        };
        Ok(OpenKernel { shape, compute: Compute::Payloads(Arc::new(algorithm)) })
    }
}

fn answer(digest: [u8; 32], length: u64, result: &mut [u8]) {
    result.copy_from_slice(bytemuck::bytes_of(&DigestResult { digest, length, reserved: [0; 24] }));
}

impl PayloadCompute for Algorithm {
    fn place(&self, request: &[u8]) -> (u64, u64) {
        let DigestRequest { offset, length, .. } = record_of(request);
        (offset, length)
    }

    fn whole(&self, _request: &[u8], payload: &[u8], result: &mut [u8]) {
        answer(self.digest(payload), payload.len() as u64, result);
    }

    fn wholes(&self, requests: &[u8], payloads: &[&[u8]], results: &mut [u8]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(sha) = self.in_pairs() {
            let slot = results.len() / payloads.len();
            return sha.digests(payloads, |number, digest| {
                answer(digest, payloads[number].len() as u64, &mut results[number * slot..][..slot]);
            });
        }
        one_by_one(self, requests, payloads, results);
    }

    fn tiles(&self) -> Box<dyn Tiles> {
        #[cfg(target_arch = "x86_64")]
        if let Some(sha) = self.in_pairs() {
            return Box::new(sha256::Abreast::new(sha));
        }
        let hasher = match self {
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Self::Blake3 => Hasher::Blake3(Box::new(blake3::Hasher::new())),
        };
        Box::new(Digesting { hasher, length: 0 })
    }

    fn abreast(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.in_pairs().is_some() {
            return sha256::STREAMS;
        }
        1
    }
}

#[cfg(target_arch = "x86_64")]
impl Tiles for sha256::Abreast {
    fn begin(&mut self, _requests: &[&[u8]]) {
        self.restart();
    }

    fn tile(&mut self, pieces: &[&[u8]]) {
        self.update(pieces);
    }

    fn finish(&mut self, number: usize, result: &mut [u8]) {
        let (digest, length) = self.digest(number);
        answer(digest, length, result);
    }
}

enum Hasher {
    Sha256(sha2::Sha256),
    Blake3(Box<blake3::Hasher>),
}

/// One payload at a time, by the crates.
struct Digesting {
    hasher: Hasher,
    length: u64,
}

impl Tiles for Digesting {
    fn begin(&mut self, _requests: &[&[u8]]) {
        self.length = 0;
        match &mut self.hasher {
            Hasher::Sha256(hasher) => Digest::reset(hasher),
            Hasher::Blake3(hasher) => drop(hasher.reset()),
        }
    }

    fn tile(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.length += piece.len() as u64;
            match &mut self.hasher {
                Hasher::Sha256(hasher) => hasher.update(piece),
                Hasher::Blake3(hasher) => drop(hasher.update(piece)),
            }
        }
    }

    fn finish(&mut self, _number: usize, result: &mut [u8]) {
        let digest = match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.finalize_reset().into(),
            Hasher::Blake3(hasher) => hasher.finalize().into(),
        };
        answer(digest, self.length, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::door::ABREAST_MAX;
    use proptest::prelude::*;
    use serde_json::json;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// FIPS 180-4's examples, as NIST publishes them, and the first of BLAKE3's published test vectors.
    #[test]
    fn published_vectors() {
        let long = vec![b'a'; 1_000_000];
        let cases: [(Algorithm, &[u8], &str); 6] = [
            (Algorithm::Sha256, b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (Algorithm::Sha256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Algorithm::Sha256,
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (Algorithm::Sha256, &long, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
            (Algorithm::Blake3, b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (Algorithm::Blake3, &[0], "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        ];
        for (algorithm, payload, expected) in cases {
            assert_eq!(hex(&algorithm.digest(payload)), expected, "{algorithm:?} of {} bytes", payload.len());
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
            let of_it = cases.iter().filter(|case| case.0 == algorithm);
            let (payloads, expected): (Vec<&[u8]>, Vec<&str>) = of_it.map(|(_, payload, expected)| (*payload, *expected)).unzip();
            let mut results = vec![0; 64 * payloads.len()];
            algorithm.wholes(&vec![0; results.len()], &payloads, &mut results);
            for ((result, payload), expected) in results.chunks(64).zip(&payloads).zip(expected) {
                assert_eq!(hex(&result[..32]), expected, "{algorithm:?} of {} bytes beside others", payload.len());
                assert_eq!(result[32..40], (payload.len() as u64).to_le_bytes());
            }
        }
    }

    proptest! {
        /// Payloads alone or side by side, in pieces of any lengths.
        #[test]
        fn tiles_and_the_whole_agree(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), ABREAST_MAX),
            cuts in prop::collection::vec(1usize..900, 1..6),
        ) {
            for (algorithm, count) in [(Algorithm::Sha256, 1), (Algorithm::Sha256, ABREAST_MAX), (Algorithm::Blake3, 1)] {
                let payloads = &payloads[..count.min(algorithm.abreast())];
                let (mut tiles, mut rests) = (algorithm.tiles(), payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
                let begins = vec![&[][..]; rests.len()];
                tiles.begin(&begins);
                tiles.tile(&vec![&b"never finished"[..]; rests.len()]);
                tiles.begin(&begins);
                let mut cuts = cuts.iter().cycle();
                while rests.iter().any(|rest| !rest.is_empty()) {
                    let pieces: Vec<&[u8]> = rests.iter_mut().zip(&mut cuts).map(|(rest, cut)| {
                        let (piece, more) = rest.split_at((*cut).min(rest.len()));
                        *rest = more;
                        piece
                    }).collect();
                    tiles.tile(&pieces);
                }
                for (number, payload) in payloads.iter().enumerate() {
                    let (mut result, mut whole) = ([0; 64], [0; 64]);
                    tiles.finish(number, &mut result);
                    algorithm.whole(&[], payload, &mut whole);
                    prop_assert_eq!(result, whole);
                    prop_assert_eq!(&result[..32], &algorithm.digest(payload)[..]);
                }
            }
        }
    }

    #[test]
    fn parameters_out_of_range_are_refused_in_words() {
        let words = |parameters: Value| Arc::new(Digests).open(&parameters).err().unwrap();
        assert!(words(json!({"algorithm": "md5", "arena_bytes": 1})).contains("sha256"));
        assert!(words(json!({"algorithm": "sha256", "arena_bytes": 0})).contains("arena_bytes must be 1 to"));
        assert!(words(json!({"algorithm": "sha256", "arena_bytes": 1, "max_concurrent": 0})).contains("max_concurrent"));
        let shape = Arc::new(Digests).open(&json!({"algorithm": "blake3", "arena_bytes": 1})).unwrap().shape;
        assert_eq!((shape.arena_bytes, shape.hands_max), (4096, None));
    }
}
