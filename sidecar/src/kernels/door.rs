//! The one door by which kernels enter a sidecar. Whoever has records and a function from requests to results implements
//! [`Kernel`]; the sidecar gives it lanes, copies, threads, counters and errors. A kernel that needs more than one record a
//! slot (payloads, resident data, results of a size of their own) implements [`Door`] itself, as the built-in ones do.
//! Clocks, threads and shared memory never enter here: what a kernel sees is private to it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytemuck::AnyBitPattern;
use ringlane_layout::limits::{RECORD_BYTES, SLOT_BYTES_MAX};
use ringlane_layout::record::{EnumSchema, Record};
use ringlane_layout::schema::SlotSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kernel of one request record and one result record: a pure function over batches of them.
///
/// Both records are made by [`ringlane_layout::record!`], have a multiple of 64 bytes, and are all that a client has to know:
/// their schemas are sent when a lane opens. A batch may be cut anywhere and its pieces run on several threads in any order,
/// so a result may depend on its own request and the lane's parameters only. A panic ends the lanes of that batch, and nothing else.
pub trait Kernel: Send + Sync + 'static {
    /// What a client may say when it opens a lane, by serde's rules; [`NoParameters`] for nothing. Unknown names must be
    /// refused (`#[serde(deny_unknown_fields)]`).
    type Parameters: DeserializeOwned + Send + Sync + 'static;
    /// What stands in a request slot.
    type Request: Record;
    /// What stands in a result slot.
    type Answer: Record;
    /// The name under which lanes are opened: 1 to 16 characters.
    const NAME: &'static str;
    /// Enums whose numbers stand in the records' fields.
    const ENUMS: &'static [&'static EnumSchema] = &[];

    /// Refuses parameters in words that say what is allowed.
    ///
    /// # Errors
    /// The words, which the client gets as `ValueError`.
    fn check(&self, _parameters: &Self::Parameters) -> Result<(), String> {
        Ok(())
    }

    /// Answers each request in the place of the same number. Both slices have one length.
    fn process(&self, parameters: &Self::Parameters, requests: &[Self::Request], results: &mut [Self::Answer]);
}

/// The parameters of a kernel that takes none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// A kernel as the sidecar holds it.
pub trait Door: Send + Sync {
    /// The name under which lanes are opened.
    fn name(&self) -> &str;

    /// Makes what one lane computes with. Parameters are a JSON object.
    ///
    /// # Errors
    /// Words that say which parameter is wrong and what is allowed.
    fn open(self: Arc<Self>, parameters: &Value) -> Result<OpenKernel, String>;
}

/// What one lane needs of its kernel.
pub struct OpenKernel {
    /// What stands in the slots, and how large the arenas are.
    pub shape: LaneShape,
    /// What is done with them.
    pub compute: Compute,
}

/// What a lane of a kernel looks like.
#[derive(Debug, Clone)]
pub struct LaneShape {
    /// The record in a request slot; its size is the slot's.
    pub request: SlotSchema,
    /// The record in a result slot; its size is the slot's.
    pub result: SlotSchema,
    /// Enums of their fields.
    pub enums: Vec<&'static EnumSchema>,
    /// Size of the payload arena, bytes; 0 for none.
    pub arena_bytes: u64,
    /// Threads that work on the lane at once, at most; none: as many as there are.
    pub hands_max: Option<usize>,
}

/// The ways in which the slots of a lane are computed. Everything that is handed over is a private copy.
#[derive(Clone)]
pub enum Compute {
    /// Runs of slots, each run alone.
    Batch(Arc<dyn BatchCompute>),
    /// Payloads in the arena that the requests point at, tile by tile.
    Payloads(Arc<dyn PayloadCompute>),
    /// Groups of slots on which several threads work together.
    Groups(Arc<dyn GroupCompute>),
}

/// Computes runs of slots.
pub trait BatchCompute: Send + Sync {
    /// Whole request slots in, as many whole result slots out. Both begin at a multiple of 64.
    fn process(&self, requests: &[u8], results: &mut [u8]);
}

/// Computes payloads, which requests of 64 bytes name.
pub trait PayloadCompute: Send + Sync {
    /// Where in the arena the payload of a request lies: offset and length, bytes.
    fn place(&self, request: &[u8]) -> (u64, u64);
    /// Answers a payload that is there as a whole.
    fn whole(&self, request: &[u8], payload: &[u8], result: &mut [u8]);
    /// Answers several that are there as a whole, at least one, with a whole request slot and a whole result slot each. For
    /// kernels that are quicker with several at once.
    fn wholes(&self, requests: &[u8], payloads: &[&[u8]], results: &mut [u8]) {
        one_by_one(self, requests, payloads, results);
    }
    /// What takes payloads that come in tiles.
    fn tiles(&self) -> Box<dyn Tiles>;
    /// How many of them it takes side by side, at most [`ABREAST_MAX`]. For kernels that are quicker with several at once.
    fn abreast(&self) -> usize {
        1
    }
}

/// Most payloads that come in tiles side by side.
pub const ABREAST_MAX: usize = 2;

/// Answers payloads one after the other.
pub fn one_by_one(compute: &(impl PayloadCompute + ?Sized), requests: &[u8], payloads: &[&[u8]], results: &mut [u8]) {
    let slots = (requests.len() / payloads.len(), results.len() / payloads.len());
    let slots = requests.chunks_exact(slots.0).zip(results.chunks_exact_mut(slots.1));
    for ((request, result), payload) in slots.zip(payloads) {
        compute.whole(request, payload, result);
    }
}

/// Takes payloads that come in tiles, one for each request, no more than [`PayloadCompute::abreast`].
pub trait Tiles: Send {
    /// Begins payloads; those before that were not finished are forgotten.
    fn begin(&mut self, requests: &[&[u8]]);
    /// Takes the next piece of each, of any length; empty for one that has ended.
    fn tile(&mut self, pieces: &[&[u8]]);
    /// Answers one after its last piece.
    fn finish(&mut self, number: usize, result: &mut [u8]);
}

/// Computes groups of slots.
pub trait GroupCompute: Send + Sync {
    /// Slots of the largest group.
    fn slots_max(&self) -> usize;
    /// Begins a group of whole request slots.
    fn begin(&self, requests: &[u8]) -> Arc<dyn Group>;
}

/// A group on which hands work: each takes pieces until there are none, and leaves; who leaves last finishes.
pub trait Group: Send + Sync {
    /// Pieces of the work; any range of them is a piece of work too.
    fn pieces(&self) -> usize;
    /// A new hand.
    fn join(self: Arc<Self>) -> Box<dyn GroupHand>;
    /// The results, whole slots, once every hand has left.
    fn finish(&self, results: &mut [u8]);
}

/// One thread's part in a group.
pub trait GroupHand: Send {
    /// Does these pieces.
    fn work(&mut self, pieces: Range<usize>);
    /// Hands over what was found.
    fn leave(self: Box<Self>);
}

/// A [`Kernel`] behind the door.
struct Entered<K>(K);

/// A kernel with the parameters of one lane.
struct Bound<K: Kernel> {
    kernel: Arc<Entered<K>>,
    parameters: K::Parameters,
    records: PhantomData<fn(K::Request) -> K::Answer>,
}

impl<K: Kernel> Door for Entered<K> {
    fn name(&self) -> &str {
        K::NAME
    }

    fn open(self: Arc<Self>, parameters: &Value) -> Result<OpenKernel, String> {
        let parameters: K::Parameters = read(parameters)?;
        self.0.check(&parameters)?;
        let shape = LaneShape {
            request: K::Request::SCHEMA.into(),
            result: K::Answer::SCHEMA.into(),
            enums: K::ENUMS.to_vec(),
            arena_bytes: 0,
            hands_max: None,
        };
        let bound: Bound<K> = Bound { kernel: self, parameters, records: PhantomData };
        Ok(OpenKernel { shape, compute: Compute::Batch(Arc::new(bound)) })
    }
}

impl<K: Kernel> BatchCompute for Bound<K> {
    fn process(&self, requests: &[u8], results: &mut [u8]) {
        self.kernel.0.process(&self.parameters, bytemuck::cast_slice(requests), bytemuck::cast_slice_mut(results));
    }
}

/// Parameters as serde reads them; nothing at all is an empty object.
///
/// # Errors
/// Words that name the parameter.
pub fn read<P: DeserializeOwned>(parameters: &Value) -> Result<P, String> {
    let given = if parameters.is_null() { Value::Object(serde_json::Map::new()) } else { parameters.clone() };
    if !given.is_object() {
        return Err(format!("parameters must be an object of names and values, not {given}"));
    }
    serde_json::from_value(given).map_err(|error| format!("parameters: {error}"))
}

/// A record at the start of private bytes, which must be as long.
#[must_use]
pub fn record_of<T: AnyBitPattern>(bytes: &[u8]) -> T {
    bytemuck::pod_read_unaligned(&bytes[..size_of::<T>()])
}

/// The kernels of a sidecar beside that of orders, by name.
#[derive(Clone, Default)]
pub struct Kernels {
    /// The corpora that vector lanes search.
    pub corpora: super::vectors::Corpora,
    doors: BTreeMap<String, Arc<dyn Door>>,
}

impl Kernels {
    /// No kernels.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those that come with Ringlane.
    #[must_use]
    pub fn built_in() -> Self {
        let kernels = Self::none();
        let vectors = super::vectors::Vectors { corpora: kernels.corpora.clone() };
        kernels.with_door(Arc::new(super::digests::Digests)).with_door(Arc::new(vectors))
    }

    /// These and one more. Panics when its name is taken or none, since that is a mistake of who builds the sidecar.
    #[must_use]
    pub fn with<K: Kernel>(self, kernel: K) -> Self {
        self.with_door(Arc::new(Entered(kernel)))
    }

    /// As [`Kernels::with`], for kernels that implement [`Door`] themselves.
    #[must_use]
    pub fn with_door(mut self, door: Arc<dyn Door>) -> Self {
        let name = door.name().to_owned();
        assert!((1..=16).contains(&name.len()) && name != "orders", "a kernel's name has 1 to 16 characters and is not \"orders\"");
        assert!(self.doors.insert(name, door).is_none(), "two kernels have one name");
        self
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.doors.keys().map(String::as_str)
    }

    /// Opens a kernel for one lane. None: there is no such kernel.
    ///
    /// A kernel that panics here, or whose slots have no size that a lane can have, refuses in words.
    #[must_use]
    pub fn open(&self, name: &str, parameters: &Value) -> Option<Result<OpenKernel, String>> {
        let door = Arc::clone(self.doors.get(name)?);
        let opened = catch_unwind(AssertUnwindSafe(|| door.open(parameters)));
        let opened = opened.unwrap_or_else(|panic| Err(format!("the kernel {name:?} panicked: {}", panic_words(&*panic))));
        Some(opened.and_then(|kernel| check_slots(&kernel.shape).map(|()| kernel)))
    }
}

fn check_slots(shape: &LaneShape) -> Result<(), String> {
    for slot in [&shape.request, &shape.result] {
        if slot.size_bytes == 0 || !slot.size_bytes.is_multiple_of(RECORD_BYTES) || slot.size_bytes as u64 > SLOT_BYTES_MAX {
            return Err(format!("a {} has {} bytes; a slot has a multiple of 64 up to {SLOT_BYTES_MAX}", slot.name, slot.size_bytes));
        }
    }
    Ok(())
}

/// What a panic said.
#[must_use]
pub fn panic_words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlane_layout::record;
    use serde_json::json;

    record! {
        /// A number.
        pub struct Number: 64 {
            /// It.
            value: u64,
            /// Zero.
            reserved: [u8; 24],
            /// Zero.
            reserved1: [u8; 32],
        }
    }

    struct Times;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Factor {
        factor: u64,
    }

    impl Kernel for Times {
        type Parameters = Factor;
        type Request = Number;
        type Answer = Number;
        const NAME: &'static str = "times";

        fn check(&self, parameters: &Factor) -> Result<(), String> {
            assert!(parameters.factor != 13, "unlucky");
            if parameters.factor == 0 { Err("factor must not be 0".into()) } else { Ok(()) }
        }

        fn process(&self, parameters: &Factor, requests: &[Number], results: &mut [Number]) {
            for (request, result) in requests.iter().zip(results) {
                result.value = request.value * parameters.factor;
            }
        }
    }

    #[test]
    fn a_kernel_enters_and_computes_over_bytes() {
        let kernels = Kernels::none().with(Times);
        let opened = kernels.open("times", &json!({"factor": 3})).unwrap().unwrap();
        assert_eq!(opened.shape.request.hash(), Number::SCHEMA_HASH);
        let requests = [1, 5].map(|value| Number { value, ..Number::default() });
        let mut results = [Number::default(); 2];
        let Compute::Batch(compute) = opened.compute else { panic!("a batch kernel") };
        compute.process(bytemuck::cast_slice(&requests), bytemuck::cast_slice_mut(&mut results));
        assert_eq!(results.map(|number| number.value), [3, 15]);
    }

    #[test]
    fn what_is_wrong_is_refused_in_words() {
        let kernels = Kernels::none().with(Times);
        let words = |parameters| kernels.open("times", &parameters).unwrap().err().unwrap();
        assert!(words(Value::Null).contains("factor"));
        assert!(words(json!({"factor": -1})).contains("-1"));
        assert!(words(json!({"factor": 1, "x": 1})).contains("x"));
        assert!(words(json!([1])).contains("object"));
        assert!(words(json!({"factor": 0})).contains("must not be 0"));
        assert!(words(json!({"factor": 13})).contains("unlucky"));
        assert!(kernels.open("others", &Value::Null).is_none());
    }
}
