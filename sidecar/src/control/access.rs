//! Who may do what: the rules of `[access]`, resolved, and asked whenever a peer connects, opens, asks or administers.
//! Identity is the kernel's word (`Peer`); what a client says of itself decides nothing here.

use std::sync::Arc;

use ringlane_layout::limits::{ACCOUNT_MAX, CLIENTS_MAX, DEPTH_SLOTS_MAX, EVENTS_MAX, LANES_MAX};

use super::messages::Refusal;
use super::peer::Peer;
use crate::config::{AccessConfig, AccessRule};

/// The rules in force.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    /// What a peer may do when there are no rules: everything, and administer only as the sidecar's own user or root.
    open: Option<[Arc<Grant>; 2]>,
    own_uid: u32,
}

#[derive(Debug)]
struct Rule {
    for_all: bool,
    uids: Vec<u32>,
    gids: Vec<u32>,
    grant: Arc<Grant>,
}

/// What one peer may do.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    kernels: Option<Vec<String>>,
    corpora: Option<Vec<String>>,
    /// Ranges that ascend and do not touch.
    accounts: Vec<(u32, u32)>,
    market_data: bool,
    /// Whether it may open no lane that computes.
    pub watch_only: bool,
    /// Whether it may administer.
    pub administer: bool,
    /// Most connections of its uid.
    pub clients_max: usize,
    /// Most lanes of its uid.
    pub lanes_max: usize,
    /// Deepest lane, slots and events.
    pub depth_max: u64,
    /// Most memory of its uid's lanes, bytes.
    pub bytes_max: u64,
}

impl Policy {
    /// Resolves the rules. An error names a user or group that does not exist.
    pub fn new(config: &AccessConfig) -> Result<Self, String> {
        let rule = |rule: &AccessRule| {
            let (uids, gids) = (rule.resolved_uids()?, rule.resolved_gids()?);
            Ok::<_, String>(Rule { for_all: rule.is_for_all(), uids, gids, grant: Arc::new(Grant::of(rule)) })
        };
        let rules = config.rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        let everything = |administer| Arc::new(Grant::of(&AccessRule { administer, ..AccessRule::default() }));
        let open = rules.is_empty().then(|| [everything(false), everything(true)]);
        Ok(Self { rules, open, own_uid: nix::unistd::geteuid().as_raw() })
    }

    /// What this peer may do; none when it may not even connect.
    #[must_use]
    pub fn grant(&self, peer: &Peer) -> Option<Arc<Grant>> {
        if let Some(open) = &self.open {
            return Some(Arc::clone(&open[usize::from(peer.uid == 0 || peer.uid == self.own_uid)]));
        }
        let is_for = |rule: &&Rule| rule.for_all || rule.uids.contains(&peer.uid) || rule.gids.iter().any(|gid| peer.gids.contains(gid));
        self.rules.iter().find(is_for).map(|rule| Arc::clone(&rule.grant))
    }

    /// Whether this peer may change the sidecar's state as an administrator.
    #[must_use]
    pub fn may_administer(&self, peer: &Peer) -> bool {
        self.grant(peer).is_some_and(|grant| grant.administer)
    }
}

impl Grant {
    fn of(rule: &AccessRule) -> Self {
        // Who only watches has no business with accounts, unless they are named.
        let all = || if rule.watch_only { Vec::new() } else { vec![(1, ACCOUNT_MAX)] };
        let mut sorted = rule.accounts.clone().unwrap_or_else(all);
        sorted.sort_unstable();
        let mut accounts: Vec<(u32, u32)> = Vec::new();
        for (first, last) in sorted {
            match accounts.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => accounts.push((first, last)),
            }
        }
        Self {
            kernels: rule.kernels.clone(),
            corpora: rule.corpora.clone(),
            accounts,
            market_data: rule.market_data.unwrap_or(true),
            watch_only: rule.watch_only,
            administer: rule.administer,
            clients_max: rule.clients_max.unwrap_or(CLIENTS_MAX),
            lanes_max: rule.lanes_max.unwrap_or(LANES_MAX),
            depth_max: rule.depth_max.unwrap_or(DEPTH_SLOTS_MAX.max(EVENTS_MAX)),
            bytes_max: rule.bytes_max.unwrap_or(u64::MAX),
        }
    }

    /// Whether lanes of this kernel may be opened.
    pub fn kernel(&self, kernel: &str) -> Result<(), Refusal> {
        if self.watch_only {
            return Err(not_permitted(format!("this user may only watch, not open a lane of {kernel:?}")));
        }
        match &self.kernels {
            Some(kernels) if !kernels.iter().any(|allowed| allowed == kernel) => {
                Err(not_permitted(format!("this user may not open lanes of {kernel:?}; it may open: {}", kernels.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// Whether market data may be read.
    pub fn market_data(&self) -> Result<(), Refusal> {
        if self.market_data { Ok(()) } else { Err(not_permitted("this user may not read market data".into())) }
    }

    /// Whether this corpus may be searched and loaded.
    pub fn corpus(&self, name: &str) -> Result<(), Refusal> {
        let matches = |pattern: &String| pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start));
        match &self.corpora {
            Some(corpora) if !corpora.iter().any(matches) => {
                Err(not_permitted(format!("this user may not use the corpus {name:?}; it may use: {}", corpora.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// Whether all accounts of this range may be traded.
    pub fn accounts(&self, first: u32, last: u32) -> Result<(), Refusal> {
        if self.accounts.iter().any(|(from, to)| *from <= first && last <= *to) {
            return Ok(());
        }
        let held: Vec<_> = self.accounts.iter().take(8).map(|(from, to)| format!("{from} to {to}")).collect();
        let all = if held.is_empty() { "none".into() } else { held.join(", ") };
        Err(not_permitted(format!("this user may not use all of the accounts {first} to {last}; it holds: {all}")))
    }

    /// The accounts of a lane whose client named none: all that it holds, which must be one range.
    pub fn only_accounts(&self) -> Result<(u32, u32), Refusal> {
        match self.accounts[..] {
            [range] => Ok(range),
            [] => Err(not_permitted("this user holds no account".into())),
            [(first, last), ..] => {
                let words = "this user holds several ranges of accounts; a lane has one of them, so name it";
                Err(not_permitted(format!("{words}, for example {first} to {last}")))
            }
        }
    }
}

/// A refusal for lack of a right.
#[must_use]
pub fn not_permitted(words: String) -> Refusal {
    Refusal::new("NOT_PERMITTED", format!("{words} (the administrator grants it in [[access.rules]])"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gids: &[u32]) -> Peer {
        Peer { pid: 1, uid, gids: gids.to_vec(), pidfd: None }
    }

    fn policy(rules: &str) -> Policy {
        Policy::new(&crate::config::Config::parse(rules).unwrap().access).unwrap()
    }

    #[test]
    fn without_rules_everybody_is_served_and_root_administers() {
        let policy = policy("");
        let grant = policy.grant(&peer(12_345, &[])).unwrap();
        assert!(grant.kernel("orders").is_ok() && grant.accounts(1, ACCOUNT_MAX).is_ok() && grant.corpus("x").is_ok());
        assert_eq!(grant.only_accounts().unwrap(), (1, ACCOUNT_MAX));
        assert!(policy.may_administer(&peer(0, &[])) && !policy.may_administer(&peer(12_345, &[0])));
    }

    #[test]
    fn the_first_rule_that_names_a_peer_decides() {
        let policy = policy(
            "[[access.rules]]\nuids = [10]\naccounts = [[11, 20], [1, 5], [6, 9]]\nkernels = [\"orders\"]\ncorpora = [\"news*\"]\n\
             [[access.rules]]\ngids = [100]\nadminister = true\nlanes_max = 2\n[[access.rules]]\nuids = []\n[[access.rules]]\nuids = [30]\n\
             watch_only = true\n",
        );
        let ten = policy.grant(&peer(10, &[100])).unwrap();
        assert!(!ten.administer && ten.kernel("orders").is_ok() && ten.kernel("dot").is_err());
        assert!(
            ten.accounts(1, 9).is_ok() && ten.accounts(11, 20).is_ok() && ten.accounts(9, 11).is_err() && ten.accounts(21, 21).is_err()
        );
        assert!(ten.only_accounts().is_err_and(|refusal| refusal.code == "NOT_PERMITTED" && refusal.words.contains("1 to 9")));
        assert!(ten.corpus("news-1").is_ok() && ten.corpus("new").is_err());
        let group = policy.grant(&peer(11, &[5, 100])).unwrap();
        assert!(group.administer && group.lanes_max == 2 && policy.may_administer(&peer(11, &[100])));
        let watcher = policy.grant(&peer(30, &[])).unwrap();
        assert!(watcher.kernel("orders").is_err() && watcher.accounts(1, 1).is_err() && watcher.only_accounts().is_err());
        assert!(policy.grant(&peer(31, &[])).is_none() && policy.grant(&peer(0, &[0])).is_none(), "an empty list names nobody");
        assert!(!policy.may_administer(&peer(0, &[])));
    }

    #[test]
    fn a_rule_without_names_is_for_everybody() {
        let policy = policy("[[access.rules]]\nuids = [1]\nlanes_max = 1\n[[access.rules]]\nlanes_max = 7\n");
        assert_eq!([1, 2].map(|uid| policy.grant(&peer(uid, &[])).unwrap().lanes_max), [1, 7]);
    }
}
