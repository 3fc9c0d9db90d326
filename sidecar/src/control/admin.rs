//! Administrators' messages: what they ask, checked and handed to the sequencer. Who may ask is decided by the access rules.

use crossbeam::channel::bounded;
use ringlane_layout::limits::{ACCOUNT_MAX, SYMBOLS_MAX};
use ringlane_layout::orders::{AccountLimits, AdminAction, AdminOp, Instrument};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::{Grant, not_permitted};
use super::messages::{Number, Refusal};
use super::peer::Peer;
use super::session::Host;
use crate::config::{AccountsConfig, InstrumentConfig};
use crate::sequencer::{Administration, Command};

/// What an administrator asks for.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Set limits of a range of accounts, perhaps in one symbol.
    Limits {
        /// As an entry of the configuration file.
        limits: AccountsConfig,
    },
    /// Halt a symbol, or all (0).
    Halt {
        /// Symbol number.
        symbol: Number,
    },
    /// End the halt of a symbol, or of all (0).
    Resume {
        /// Symbol number.
        symbol: Number,
    },
    /// Cancel orders; 0 restricts nothing.
    CancelAll {
        /// Symbol number.
        symbol: Number,
        /// Account number.
        account: Number,
        /// Lane that owns the orders.
        lane: Number,
    },
    /// End a lane.
    Disconnect {
        /// Lane number.
        lane: Number,
    },
    /// Add an instrument behind the others.
    AddInstrument {
        /// As an entry of the configuration file.
        instrument: InstrumentConfig,
    },
    /// Write a time record now.
    Time {
        /// Whether the trading day ends.
        ends_day: bool,
    },
}

impl AdminRequest {
    fn administration(&self, peer: &Peer) -> Result<Administration, Refusal> {
        let bad = |words: String| Refusal::new("BAD_VALUE", words);
        let symbol = |number: &Number| number.within("symbol", 0, SYMBOLS_MAX);
        let act = |op: AdminOp, symbol: u32, account: u32, lane: u32| {
            let pid = peer.pid;
            Administration::Act(AdminAction { action: op as u8, symbol, account, lane, uid: peer.uid, pid, ..AdminAction::default() })
        };
        Ok(match self {
            Self::Limits { limits } => {
                limits.check().map_err(bad)?;
                Administration::Limits(AccountLimits { live: 1, ..limits.record() })
            }
            Self::Halt { symbol: number } => act(AdminOp::Halt, symbol(number)?, 0, 0),
            Self::Resume { symbol: number } => act(AdminOp::Resume, symbol(number)?, 0, 0),
            Self::CancelAll { symbol: number, account, lane } => {
                let account = account.within("account", 0, ACCOUNT_MAX)?;
                act(AdminOp::CancelAll, symbol(number)?, account, lane.within("lane", 0, u32::MAX)?)
            }
            Self::Disconnect { lane } => Administration::Disconnect(lane.within("lane", 1, u32::MAX)?),
            Self::AddInstrument { instrument } => {
                instrument.check().map_err(bad)?;
                Administration::Instrument(Instrument { live: 1, ..instrument.record(0) })
            }
            Self::Time { ends_day } => Administration::Time(*ends_day),
        })
    }
}

/// Has the sequencer do what an administrator asks.
pub fn administer(request: &AdminRequest, peer: &Peer, grant: &Grant, host: &Host) -> Result<Value, Refusal> {
    if !grant.administer {
        return Err(not_permitted("this user may not administer the sidecar".into()));
    }
    let administration = request.administration(peer)?;
    let (answer, answered) = bounded(1);
    let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
    if !host.commands.send(Command::Administer(administration, answer)) {
        return Err(stopping());
    }
    let count = crate::world::wait_for(&answered, None).map_err(|_| stopping())?.map_err(|words| Refusal::new("BAD_VALUE", words))?;
    tracing::info!(uid = peer.uid, pid = peer.pid, ?administration, count, "administered");
    Ok(json!({"ok": true, "count": count}))
}
