//! Sections: how a room's state travels into a snapshot and back. A section has a kind, a version and a length; what stands in
//! it is its room's business, and how it lies in a file is the journal's.
//!
//! Kinds: 1 to 31 are the order kernel's (`kernels/orders/snapshot.rs`), 32 to 63 the engine's and the lanes' (`image.rs`).

/// Where sections go. Whoever writes one says its length first and then gives exactly so many bytes, in pieces of any size.
pub trait SectionSink {
    /// Begins a section of `bytes` bytes.
    fn begin(&mut self, kind: u32, version: u32, bytes: u64) -> Result<(), String>;
    /// The next bytes of the section.
    fn put(&mut self, bytes: &[u8]) -> Result<(), String>;
}

/// A section that was read.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a> {
    /// What it holds.
    pub kind: u32,
    /// Version of what it holds.
    pub version: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Section<'a> {
    /// Its rows of `size` bytes, when it is of `version`; else words.
    pub fn rows(&self, version: u32, size: usize) -> Result<std::slice::ChunksExact<'a, u8>, String> {
        if self.version != version {
            return Err(format!("section {} is version {}, and this build reads {version}", self.kind, self.version));
        }
        if !self.bytes.len().is_multiple_of(size) {
            return Err(format!("section {} of {} bytes does not hold rows of {size}", self.kind, self.bytes.len()));
        }
        Ok(self.bytes.chunks_exact(size))
    }

    /// Its rows as values of a type without padding.
    pub fn values<T: bytemuck::AnyBitPattern>(&self, version: u32) -> Result<impl Iterator<Item = T> + use<'a, T>, String> {
        Ok(self.rows(version, size_of::<T>())?.map(bytemuck::pod_read_unaligned))
    }
}

/// Writes a section of rows of one size, given one by one. `count` is how many will come.
pub fn put_rows<const N: usize>(
    sink: &mut dyn SectionSink,
    (kind, version): (u32, u32),
    count: usize,
    rows: impl Iterator<Item = [u8; N]>,
) -> Result<(), String> {
    sink.begin(kind, version, (count * N) as u64)?;
    let mut given = 0;
    for row in rows {
        given += 1;
        sink.put(&row)?;
    }
    assert!(given == count, "a section of kind {kind} was announced with {count} rows and has {given}");
    Ok(())
}
