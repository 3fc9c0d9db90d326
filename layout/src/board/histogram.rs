//! Histograms of times with fixed log-linear buckets: each power of two is cut into four, so a bucket is at most a quarter
//! wider than its lower bound. Where they sit and which bucket a time falls into; whoever counts has them in shared memory.

/// Buckets of one histogram: 64 powers of two, four each. (The last four can stay empty: no u64 falls there.)
pub const BUCKETS: usize = 256;
/// Word of the sum of all times, nanoseconds.
pub const SUM_NS: usize = 0;
/// Word of the longest time, nanoseconds.
pub const MAX_NS: usize = 1;
/// Word of the first bucket.
pub const FIRST_BUCKET: usize = 32;
/// Size of a histogram, bytes.
pub const HISTOGRAM_BYTES: usize = (FIRST_BUCKET + BUCKETS) * 8;

/// The bucket of a time.
#[inline]
#[must_use]
pub const fn bucket_of(ns: u64) -> usize {
    if ns < 4 {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros() as usize;
    (power - 1) * 4 + ((ns >> (power - 2)) & 3) as usize
}

/// The shortest time that falls into a bucket; `u64::MAX` for those into which none does.
#[must_use]
pub const fn lower_bound_ns(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let power = bucket / 4 + 1;
    if power > 63 { u64::MAX } else { (4 + bucket as u64 % 4) << (power - 2) }
}

/// Times by bucket, copied out of a histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// How many fell into each bucket.
    pub buckets: Vec<u64>,
    /// Sum, nanoseconds.
    pub sum_ns: u64,
    /// Longest, nanoseconds.
    pub max_ns: u64,
}

impl Times {
    /// From the words of a histogram.
    #[must_use]
    pub fn from_words(words: &[u64]) -> Self {
        let buckets = words[FIRST_BUCKET..FIRST_BUCKET + BUCKETS].to_vec();
        Self { buckets, sum_ns: words[SUM_NS], max_ns: words[MAX_NS] }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time below which `fraction` of all lie, nanoseconds: the middle of its bucket, at most the longest. 0 when empty.
    #[must_use]
    pub fn quantile_ns(&self, fraction: f64) -> u64 {
        let rank = ((self.count() as f64 * fraction).ceil() as u64).max(1);
        let mut seen = 0;
        let at_rank = |count: &u64| {
            seen += count;
            seen >= rank
        };
        self.buckets.iter().position(at_rank).map_or(0, |bucket| {
            let (low, high) = (lower_bound_ns(bucket), lower_bound_ns(bucket + 1).max(1) - 1);
            (low + (high - low) / 2).min(self.max_ns.max(low))
        })
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = self.buckets.iter().zip(&earlier.buckets).map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { buckets, sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns), max_ns: self.max_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_bucket_whose_bounds_hold_it() {
        let edges = (0..64).flat_map(|power| (-3..=3).map(move |step: i64| (1_u64 << power).wrapping_add_signed(step)));
        let mixed = (1..10_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 64));
        for ns in edges.chain(mixed).chain([0, u64::MAX]) {
            let bucket = bucket_of(ns);
            assert!(lower_bound_ns(bucket) <= ns, "{ns} lies below bucket {bucket}");
            assert!(bucket + 1 == 252 || ns < lower_bound_ns(bucket + 1), "{ns} lies above bucket {bucket}");
        }
        assert!((1..252).all(|bucket| lower_bound_ns(bucket) > lower_bound_ns(bucket - 1)));
        assert!((8..252).all(|bucket| (lower_bound_ns(bucket) - lower_bound_ns(bucket - 1)) * 4 <= lower_bound_ns(bucket - 1)));
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut words = vec![0; FIRST_BUCKET + BUCKETS];
        for ns in 1..=100_000_u64 {
            words[FIRST_BUCKET + bucket_of(ns)] += 1;
            words[SUM_NS] += ns;
            words[MAX_NS] = ns;
        }
        let times = Times::from_words(&words);
        assert_eq!(times.count(), 100_000);
        for (fraction, truth) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let found = times.quantile_ns(fraction) as f64;
            assert!((found - truth).abs() <= truth / 4.0, "{fraction}: {found}");
        }
        assert_eq!(times.since(&times).count(), 0);
        assert_eq!(times.since(&times).quantile_ns(0.5), 0);
        assert!(times.quantile_ns(1.0) <= times.max_ns);
    }
}
