//! How a lane goes on in fresh regions after the sidecar was started anew: the same slots, the same cursors, the same addresses.
//! What the sidecar fills the fresh regions with, and how one mapping takes the place of another, never enter here.

use super::{Client, Mapping};
use crate::primitive::{Ordering, lock};
use crate::region::{HEADER_BYTES, requests_word};
use crate::ring::{self, ClientWords};
use std::io;
use std::sync::Arc;

/// The mappings that are replaced: `results`, `requests`, and the first mapping of `requests`, of which only the header page is
/// still in use, where another one took its place.
#[derive(Debug)]
pub struct Old<'a, M> {
    /// Results.
    pub results: &'a M,
    /// Requests.
    pub requests: &'a M,
    /// Header page of the first mapping.
    pub header: Option<&'a M>,
}

impl<M: Mapping> Client<M> {
    /// Goes on in fresh regions, in which the sidecar says that `journaled` slots are done: what was submitted behind them is
    /// copied over, and `replace` must lay the fresh regions over the old ones. False: a reservation is open, and its slots are
    /// being filled; try again when it has ended.
    ///
    /// The caller has seen the old sidecar's end, so nobody else writes the old regions any more.
    pub fn resume(
        &self,
        journaled: u64,
        (fresh_requests, fresh_results): (&M, &M),
        replace: impl FnOnce(Old<'_, M>) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut desk = lock(&self.desk);
        if desk.slots.open.is_some() {
            return Ok(false);
        }
        let events_read = lock(&self.events_read);
        for (old, fresh) in [(self.requests, fresh_requests.bytes()), (self.results, fresh_results.bytes())] {
            let (mut was, mut is) = ([0; HEADER_BYTES], [0; HEADER_BYTES]);
            old.read(0, &mut was);
            fresh.read(0, &mut is);
            if was != is {
                return Err(io::Error::other("the fresh regions are not those of this lane"));
            }
        }
        let (completed, submitted) = (self.completed(), desk.slots.submitted);
        if !(completed..=submitted).contains(&journaled) {
            let words =
                format!("the sidecar says that {journaled} slots are journaled; {completed} were completed and {submitted} submitted");
            return Err(io::Error::other(words));
        }
        desk.slots.advance(completed);
        let (from, to) = (desk.mapping.bytes(), fresh_requests.bytes());
        let mut record = vec![0; self.geometry.request_slot_bytes as usize];
        for slot in journaled..submitted {
            let offset = self.geometry.request_offset(slot);
            from.read(offset, &mut record);
            to.write(offset, &record);
        }
        let mine = ClientWords::of(&to);
        ring::release(mine, desk.slots.released);
        ring::release_events(mine, *events_read);
        to.word(requests_word::LET_GO).store(desk.slots.let_go(), Ordering::Relaxed);
        mine.submitted.store(submitted, Ordering::Release); // S1
        desk.slots.told = desk.slots.released;
        let header = (!Arc::ptr_eq(&desk.mapping, &self.first_mapping)).then(|| &*self.first_mapping);
        replace(Old { results: &self.results_mapping, requests: &desk.mapping, header })?;
        self.freed.notify_all();
        Ok(true)
    }
}
