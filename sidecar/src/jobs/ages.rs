//! Since when slots of a lane wait, and since when its client holds answered ones: what the board tells of them.

/// What is remembered of one lane.
#[derive(Debug, Default)]
pub struct Ages {
    /// Slots below this were first seen at `waiting_since_ns` at the latest.
    upto: u64,
    /// Nanoseconds since 1970, as all times here.
    pub waiting_since_ns: u64,
    /// What was let go of when it was last told, and since when it stands there.
    let_go: u64,
    pub held_since_ns: u64,
}

impl Ages {
    /// Slots below `submitted` were seen; those below `completed` are done.
    pub fn see(&mut self, completed: u64, submitted: u64, now_ns: impl FnOnce() -> u64) {
        if submitted > self.upto && completed >= self.upto {
            (self.upto, self.waiting_since_ns) = (submitted, now_ns());
        }
    }

    /// What is told now.
    pub fn tell(&mut self, completed: u64, let_go: u64, now_ns: u64) {
        if let_go != self.let_go || let_go == completed {
            (self.let_go, self.held_since_ns) = (let_go, now_ns);
        }
        if completed >= self.upto {
            self.waiting_since_ns = now_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_what_is_held_grow_old() {
        let mut ages = Ages::default();
        ages.see(0, 4, || 100);
        ages.see(2, 8, || 150);
        ages.tell(2, 0, 160);
        assert_eq!(
            (ages.waiting_since_ns, ages.held_since_ns),
            (100, 0),
            "the first four were seen at 100, and two are held from the start"
        );
        ages.tell(4, 1, 170);
        ages.tell(8, 1, 180);
        assert_eq!(ages.held_since_ns, 170);
        ages.tell(8, 8, 190);
        assert_eq!((ages.waiting_since_ns, ages.held_since_ns), (190, 190));
    }
}
