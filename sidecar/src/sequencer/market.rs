//! Where market data meets the turns: what a record changed is told when it was journaled and before its results are seen.

use super::Sequencer;

impl Sequencer {
    /// Tells and shows what the engine did last, when that were no requests.
    pub(super) fn publish_market(&mut self) {
        self.market.stage(&mut self.engine, None);
        self.market.show();
    }
}
