//! What streams have reached: every answer and event is counted, so that a regime which silently stops covering something is
//! told by name.

use std::collections::BTreeMap;

use ringlane_layout::orders::{
    CancelReason, EventKind, Op, OrderEvent, OrderRequest, OrderResult, OrderState, OrderType, RejectCode, TimeInForce,
};
use ringlane_layout::record::EnumSchema;

/// How often each thing was seen, by the name of its enum and its number.
#[derive(Debug, Default, Clone)]
pub struct Coverage {
    seen: BTreeMap<(&'static str, u64), u64>,
}

/// Names of what random streams cannot reach, each with why.
pub type Unreachable = &'static [(&'static str, &'static str)];

/// An accepted NEW of each kind that there is: order type, time in force, flags, iceberg.
const ACCEPTED: &str = "accepted NEW";

impl Coverage {
    fn count(&mut self, what: &'static str, number: u64) {
        *self.seen.entry((what, number)).or_default() += 1;
    }

    /// Takes requests and their answers.
    pub fn answers(&mut self, requests: &[OrderRequest], results: &[OrderResult]) {
        for (request, result) in requests.iter().zip(results) {
            if result.code != 0 {
                self.count(RejectCode::SCHEMA.name, result.code.into());
                continue;
            }
            self.count(Op::SCHEMA.name, request.op.into());
            self.count(OrderState::SCHEMA.name, result.state.into());
            if result.reason != 0 {
                self.count(CancelReason::SCHEMA.name, result.reason.into());
            }
            if request.op == Op::New as u8 {
                let kind = u64::from(request.order_type) << 16 | u64::from(request.time_in_force) << 8 | u64::from(request.flags & 3);
                self.count(ACCEPTED, kind | u64::from(request.display_quantity > 0) << 4);
            }
        }
    }

    /// Takes events.
    pub fn events(&mut self, events: &[(u32, OrderEvent)]) {
        for (_, event) in events {
            self.count(EventKind::SCHEMA.name, event.kind.into());
            if event.reason != 0 {
                self.count(CancelReason::SCHEMA.name, event.reason.into());
            }
        }
    }

    /// Adds what other streams reached.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.seen {
            *self.seen.entry(*key).or_default() += count;
        }
    }

    /// How often a member was seen.
    #[must_use]
    pub fn of(&self, schema: &EnumSchema, number: u64) -> u64 {
        self.seen.iter().find(|((name, value), _)| (*name, *value) == (schema.name, number)).map_or(0, |(_, count)| *count)
    }

    /// Complaints: what was not reached although it can be, and what was although it is said that it cannot.
    #[must_use]
    pub fn complaints(&self, schema: &EnumSchema, unreachable: Unreachable) -> Vec<String> {
        let mut complaints = Vec::new();
        for member in schema.members {
            let why = unreachable.iter().find(|(name, _)| *name == member.name).map(|(_, why)| why);
            let name = format!("{} {} ({})", schema.name, member.name, member.value);
            match (self.of(schema, member.value), why) {
                (0, None) => complaints.push(format!("{name} was never reached")),
                (count, Some(why)) if count > 0 => complaints.push(format!("{name} was reached, and is said not to be: {why}")),
                _ => {}
            }
        }
        for (name, _) in unreachable.iter().filter(|(name, _)| schema.members.iter().all(|member| member.name != *name)) {
            complaints.push(format!("{} has no member {name}", schema.name));
        }
        complaints
    }

    /// Complaints: kinds of orders that were never accepted. A kind is an order type and a time in force, with the flags and
    /// the display quantity that may stand beside them.
    #[must_use]
    pub fn kinds_missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut need = |order_type: OrderType, time_in_force: TimeInForce, flags: u64, iceberg: u64| {
            let kind = (order_type as u64) << 16 | (time_in_force as u64) << 8 | flags | iceberg << 4;
            if !self.seen.contains_key(&(ACCEPTED, kind)) {
                missing.push(format!(
                    "{order_type:?} {time_in_force:?} with flags {flags}{} was never accepted",
                    ["", ", iceberg"][iceberg as usize]
                ));
            }
        };
        use OrderType::{Limit, Market, Stop, StopLimit};
        use TimeInForce::{Day, Fok, Gtc, Gtd, Ioc};
        for (time_in_force, flags) in [(Gtc, 0), (Ioc, 0), (Fok, 0), (Day, 0), (Gtd, 0), (Gtc, 1), (Gtd, 1), (Gtc, 2), (Ioc, 2), (Day, 2)] {
            need(Limit, time_in_force, flags, 0);
        }
        for (time_in_force, flags) in [(Gtc, 0), (Gtd, 1), (Day, 2)] {
            need(Limit, time_in_force, flags, 1);
        }
        need(Market, Ioc, 0, 0);
        need(Market, Fok, 0, 0);
        for (order_type, time_in_force, flags) in [(Stop, Gtc, 0), (Stop, Gtd, 0), (Stop, Gtc, 2), (StopLimit, Gtc, 0), (StopLimit, Day, 0)]
        {
            need(order_type, time_in_force, flags, 0);
        }
        missing
    }

    /// What was seen least, for those who look on.
    #[must_use]
    pub fn rarest(&self) -> String {
        let mut all: Vec<_> = self.seen.iter().collect();
        all.sort_by_key(|(_, count)| **count);
        all.iter().take(6).map(|((name, number), count)| format!("{name} {number}: {count}")).collect::<Vec<_>>().join(", ")
    }
}
