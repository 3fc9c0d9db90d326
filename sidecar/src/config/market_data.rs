//! `[market_data]`: the broadcast ring that readers of trades and books map.

use ringlane_layout::market::region_bytes;
use serde::Deserialize;

use super::Wrong;

/// `[market_data]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketDataConfig {
    /// Records of 64 bytes that the ring holds: a reader that is further behind has a gap. It takes no memory until somebody reads.
    pub records: u64,
}

impl Default for MarketDataConfig {
    fn default() -> Self {
        Self { records: 1 << 16 }
    }
}

impl MarketDataConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        region_bytes(self.records).map(drop).map_err(|words| Wrong::new("market_data.records", words))
    }
}
