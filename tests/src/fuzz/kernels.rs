//! Whatever bytes stand in the slots of a lane of vectors or digests, they are answered, and cuts change no bit. The first
//! bytes of an input say how the lane was opened.

use std::sync::Arc;

use ringlane_sidecar::kernels::door::{Compute, Group, GroupCompute, Kernels, OpenKernel};
use ringlane_sidecar::kernels::vectors::{Corpora, Corpus, Isa, Metric, Vectors};
use serde_json::json;

use super::Target;

/// Lanes of vectors.
pub const VECTORS: Target = Target { name: "vectors", run: vectors, seeds };
/// Lanes of digests.
pub const DIGESTS: Target = Target { name: "digests", run: digests, seeds };

/// Slots of one input.
const SLOTS_MAX: usize = 40;

fn vectors(bytes: &[u8]) {
    let [dim, op, more, slots @ ..] = bytes else { return };
    let dim = 1 + usize::from(*dim) % 70;
    let corpora = Corpora::default();
    let rows: Vec<f32> = (0..dim * 50).map(|index| (index * 7919 % 101) as f32 - 50.0).collect();
    let metric = [Metric::InnerProduct, Metric::Cosine, Metric::L2][usize::from(*more) % 3];
    corpora.put("c", Corpus::from_rows(Isa::detect(), &rows, dim, metric, None).expect("right rows"));
    let name = ["normalize", "dot", "cosine", "l2sq", "search"][usize::from(*op) % 5];
    let dtype = if more & 8 == 0 { "float32" } else { "int8" };
    let mut parameters = json!({"dim": dim, "op": name, "dtype": dtype});
    if name == "search" {
        parameters["corpus"] = json!("c");
        parameters["k"] = json!(1 + more / 16);
    }
    let opened = Kernels::none().with_door(Arc::new(Vectors { corpora })).open("vectors", &parameters).expect("it is there");
    let Ok(OpenKernel { shape, compute }) = opened else { return };
    let (wide, narrow) = (shape.request.size_bytes, shape.result.size_bytes);
    let requests = aligned(slots, wide);
    let count = requests.len() * 64 / wide;
    let compute_in_cuts = |cut: usize| {
        let mut results = vec![[0_u64; 8]; count * narrow / 64];
        let (all, answers) = (bytemuck::cast_slice::<_, u8>(&requests), bytemuck::cast_slice_mut::<_, u8>(&mut results));
        for (requests, results) in all.chunks(cut * wide).zip(answers.chunks_mut(cut * narrow)) {
            match &compute {
                Compute::Batch(batch) => batch.process(requests, results),
                Compute::Groups(groups) => {
                    let most = groups.slots_max();
                    for (requests, results) in requests.chunks(most * wide).zip(results.chunks_mut(most * narrow)) {
                        search(&**groups, requests, results, cut);
                    }
                }
                Compute::Payloads(_) => unreachable!("vectors have no payloads"),
            }
        }
        results
    };
    let whole = compute_in_cuts(SLOTS_MAX);
    assert!(whole == compute_in_cuts(1), "one by one and together");
    assert!(whole == compute_in_cuts(3), "in threes and together");
}

/// One group, by `hands` hands that take turns.
fn search(groups: &dyn GroupCompute, requests: &[u8], results: &mut [u8], hands: usize) {
    let group: Arc<dyn Group> = groups.begin(requests);
    let mut hands: Vec<_> = (0..hands.min(4)).map(|_| Arc::clone(&group).join()).collect();
    let count = hands.len();
    for piece in 0..group.pieces() {
        hands[piece % count].work(piece..piece + 1);
    }
    hands.into_iter().for_each(|hand| hand.leave());
    group.finish(results);
}

/// As many whole slots as there are, beginning at a multiple of 64 as in a lane.
fn aligned(bytes: &[u8], slot_bytes: usize) -> Vec<Line> {
    let count = (bytes.len() / slot_bytes).min(SLOTS_MAX);
    bytes[..count * slot_bytes].chunks_exact(64).map(|line| Line(bytemuck::pod_read_unaligned(line))).collect()
}

/// 64 bytes that begin at a multiple of 64.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u64; 8]);

fn digests(bytes: &[u8]) {
    let [algorithm, cut, request @ ..] = bytes else { return };
    let Some((request, payload)) = request.split_at_checked(64) else { return };
    let algorithm = ["sha256", "blake3"][usize::from(*algorithm) % 2];
    let parameters = json!({"algorithm": algorithm, "arena_bytes": 4096});
    let opened = Kernels::built_in().open("digests", &parameters).expect("it is there").expect("right parameters");
    let Compute::Payloads(compute) = opened.compute else { panic!("digests have payloads") };
    let (offset, length) = compute.place(request);
    assert_eq!((offset.to_le_bytes(), length.to_le_bytes()), (of(request, 0), of(request, 8)));
    // The payload, and beside it, where that is possible, what is left of it without its first piece.
    let cut = (1 + usize::from(*cut)).min(payload.len());
    let payloads = [payload, &payload[cut..]];
    let payloads = &payloads[..compute.abreast()];
    let mut tiles = compute.tiles();
    tiles.begin(&vec![request; payloads.len()]);
    for at in (0..payload.len()).step_by(cut.max(1)) {
        let piece = |payload: &&[u8]| payload.get(at..).map_or(0..0, |rest| at..at + rest.len().min(cut));
        let pieces: Vec<&[u8]> = payloads.iter().map(|payload| &payload[piece(payload)]).collect();
        tiles.tile(&pieces);
    }
    for (number, payload) in payloads.iter().enumerate() {
        let (mut whole, mut tiled) = ([0; 64], [0; 64]);
        compute.whole(request, payload, &mut whole);
        tiles.finish(number, &mut tiled);
        assert!(whole == tiled, "as a whole and in tiles");
    }
}

fn of(request: &[u8], at: usize) -> [u8; 8] {
    request[at..at + 8].try_into().expect("eight bytes")
}

fn seeds() -> Vec<Vec<u8>> {
    let values: Vec<f32> = (0..2048).map(|index| index as f32 / 7.0 - 100.0).collect();
    let mut seeds: Vec<Vec<u8>> = (0..5_u8).map(|op| [&[15, op, 3 + 16 * op][..], bytemuck::cast_slice(&values)].concat()).collect();
    seeds.push([&[0, 4, 8 + 2][..], &[0x7f; 640]].concat());
    seeds.push([&[3, 1, 0][..], bytemuck::cast_slice(&[f32::NAN, f32::INFINITY, f32::MAX, -0.0, 1e-45].repeat(64))].concat());
    seeds
}
