//! `[access]`: which users may connect, and what each may open, trade, hold and change. Read again on SIGHUP.

use std::fmt;

use nix::unistd::{Group, User};
use ringlane_layout::limits::{ACCOUNT_MAX, CLIENTS_MAX, DEPTH_SLOTS_MAX, LANES_MAX, OVERFLOW_UID};
use serde::Deserialize;

use super::Wrong;

/// `[access]`. Without a rule everybody who can reach the socket may do everything, and the sidecar's own user and root administer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Permissions of the socket, octal digits; `"660"` when absent: its user and group may connect, and the rules choose among
    /// them. Taken at start; a socket that systemd hands over has those of its unit.
    pub socket_mode: Option<String>,
    /// Group of the socket, by name; the sidecar's own when absent. Taken at start.
    pub socket_group: Option<String>,
    /// The first rule that names a peer decides what it may do; a peer that no rule names is refused.
    pub rules: Vec<AccessRule>,
}

/// One `[[access.rules]]`. It is for the users that any of the first four lists names; for everybody when all four are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessRule {
    /// User ids.
    pub uids: Option<Vec<u32>>,
    /// User names; their ids are looked up when the file is read.
    pub users: Option<Vec<String>>,
    /// Group ids, of a peer's primary or supplementary groups.
    pub gids: Option<Vec<u32>>,
    /// Group names; their ids are looked up when the file is read.
    pub groups: Option<Vec<String>>,
    /// Kernels of which lanes may be opened; all when absent.
    pub kernels: Option<Vec<String>>,
    /// Accounts that may be traded and asked about: ranges of first and last number; all when absent.
    pub accounts: Option<Vec<(u32, u32)>>,
    /// Corpora that may be searched and loaded, by name, a `*` at the end for any rest; all when absent.
    pub corpora: Option<Vec<String>>,
    /// Whether market data may be read; yes when absent.
    pub market_data: Option<bool>,
    /// Whether the peer may only watch: market data, books and counters, and no lane that computes.
    pub watch_only: bool,
    /// Whether the peer may administer.
    pub administer: bool,
    /// Most connections of one uid.
    pub clients_max: Option<usize>,
    /// Most lanes of one uid, closed ones that somebody still holds included.
    pub lanes_max: Option<usize>,
    /// Deepest lane, slots and events.
    pub depth_max: Option<u64>,
    /// Most memory of one uid's lanes, bytes, closed ones that somebody still holds included.
    pub bytes_max: Option<u64>,
}

/// Most rules; each is looked at when a client connects.
const RULES_MAX: usize = 1024;

impl AccessConfig {
    /// Permissions of the socket.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.socket_mode.as_deref().and_then(octal).unwrap_or(0o660)
    }

    /// Group of the socket, if it is not the sidecar's own.
    pub fn gid(&self) -> Result<Option<u32>, String> {
        self.socket_group.as_ref().map(gid_of).transpose()
    }

    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.socket_mode.as_deref().is_some_and(|digits| octal(digits).is_none()) {
            return Err(Wrong::new("access.socket_mode", "it must be three octal digits, such as \"660\" or \"666\""));
        }
        self.gid().map_err(|words| Wrong::new("access.socket_group", words))?;
        if self.rules.len() > RULES_MAX {
            return Err(Wrong::new("access.rules", format!("there can be {RULES_MAX} rules at most")));
        }
        let wrong = |index, (key, words): (&str, String)| Wrong::new(format!("access.rules.{index}.{key}"), words);
        self.rules.iter().enumerate().try_for_each(|(index, rule)| rule.check().map_err(|why| wrong(index, why)))
    }
}

impl AccessConfig {
    /// Which rules `other` adds, changes or drops, in words, by their place in the file.
    #[must_use]
    pub fn changes(&self, other: &Self) -> Vec<String> {
        let most = self.rules.len().max(other.rules.len());
        let change = |index: usize| match (self.rules.get(index), other.rules.get(index)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(_), Some(new)) => Some(format!("rule {} is now {new}", index + 1)),
            (None, Some(new)) => Some(format!("rule {} is new: {new}", index + 1)),
            (Some(old), None) => Some(format!("rule {} is gone: {old}", index + 1)),
            (None, None) => None,
        };
        (0..most).filter_map(change).collect()
    }
}

impl fmt::Display for AccessRule {
    /// The keys that are set, as the file says them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn put<T: fmt::Debug>(words: &mut Vec<String>, key: &str, value: &Option<T>) {
            words.extend(value.as_ref().map(|value| format!("{key} = {value:?}")));
        }
        let mut words = Vec::new();
        put(&mut words, "uids", &self.uids);
        put(&mut words, "users", &self.users);
        put(&mut words, "gids", &self.gids);
        put(&mut words, "groups", &self.groups);
        put(&mut words, "kernels", &self.kernels);
        put(&mut words, "accounts", &self.accounts);
        put(&mut words, "corpora", &self.corpora);
        put(&mut words, "market_data", &self.market_data);
        put(&mut words, "watch_only", &self.watch_only.then_some(true));
        put(&mut words, "administer", &self.administer.then_some(true));
        put(&mut words, "clients_max", &self.clients_max);
        put(&mut words, "lanes_max", &self.lanes_max);
        put(&mut words, "depth_max", &self.depth_max);
        put(&mut words, "bytes_max", &self.bytes_max);
        write!(formatter, "{{{}}}", words.join(", "))
    }
}

impl AccessRule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let bounds = [
            ("clients_max", self.clients_max.map(|max| max as u64), CLIENTS_MAX as u64),
            ("lanes_max", self.lanes_max.map(|max| max as u64), LANES_MAX as u64),
            ("depth_max", self.depth_max, DEPTH_SLOTS_MAX),
        ];
        if let Some((key, _, most)) = bounds.into_iter().find(|(_, value, most)| value.is_some_and(|value| value > *most)) {
            return Err((key, format!("it must be at most {most}")));
        }
        let ascends = |(first, last): &&(u32, u32)| 1 <= *first && first <= last && *last <= ACCOUNT_MAX;
        if let Some((first, last)) = self.accounts.iter().flatten().find(|range| !ascends(range)) {
            return Err(("accounts", format!("accounts must ascend within 1 to {ACCOUNT_MAX}, not {first} to {last}")));
        }
        if self.uids.iter().flatten().any(|uid| *uid == OVERFLOW_UID) {
            return Err(("uids", format!("{OVERFLOW_UID} is what every user of another namespace arrives as, and cannot be allowed")));
        }
        if self.watch_only && self.administer {
            return Err(("administer", "who may only watch cannot administer; take out one of the two".into()));
        }
        self.resolved_uids().map_err(|words| ("users", words))?;
        self.resolved_gids().map_err(|words| ("groups", words))?;
        Ok(())
    }

    /// Whether it names nobody in particular, and so is for everybody.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.uids.is_none() && self.users.is_none() && self.gids.is_none() && self.groups.is_none()
    }

    /// User ids that it names, those of user names included.
    pub fn resolved_uids(&self) -> Result<Vec<u32>, String> {
        let find = |name: &String| match User::from_name(name) {
            Ok(Some(user)) if user.uid.as_raw() != OVERFLOW_UID => Ok(user.uid.as_raw()),
            Ok(Some(_)) => Err(format!("user {name:?} has the uid {OVERFLOW_UID}, which proves nothing and cannot be allowed")),
            Ok(None) => Err(format!("there is no user {name:?} on this host")),
            Err(error) => Err(format!("user {name:?} cannot be looked up: {error}")),
        };
        let named = self.users.iter().flatten().map(find).collect::<Result<Vec<_>, _>>()?;
        Ok(self.uids.iter().flatten().copied().chain(named).collect())
    }

    /// Group ids that it names, those of group names included.
    pub fn resolved_gids(&self) -> Result<Vec<u32>, String> {
        let named = self.groups.iter().flatten().map(gid_of).collect::<Result<Vec<_>, _>>()?;
        Ok(self.gids.iter().flatten().copied().chain(named).collect())
    }
}

fn octal(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 8).ok().filter(|mode| digits.len() == 3 && *mode <= 0o777)
}

fn gid_of(name: &String) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no group {name:?} on this host")),
        Err(error) => Err(format!("group {name:?} cannot be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn rules_that_make_no_sense_are_refused_at_their_line() {
        for (rule, line, words) in [
            ("uids = [1]\nlanes_max = 5000", 3, "at most 1024"),
            ("accounts = [[1, 5], [7, 6]]", 2, "accounts must ascend"),
            ("accounts = [[0, 5]]", 2, "accounts must ascend"),
            ("gids = [1]\nuids = [65534]", 3, "cannot be allowed"),
            ("users = [\"root\", \"nobody-of-this-name\"]", 2, "there is no user"),
            ("groups = [\"none-of-this-name\"]", 2, "there is no group"),
            ("watch_only = true\nadminister = true", 3, "only watch"),
            ("uids = [-1]", 2, ""),
            ("accounts = [[1]]", 2, ""),
        ] {
            let error = Config::parse(&format!("[[access.rules]]\n{rule}\n")).unwrap_err();
            assert!(error.starts_with(&format!("{line}: ")) && error.contains(words), "{rule}: {error}");
        }
        let users = "[[access.rules]]\nusers = [\"root\"]\nuids = [7]\ngroups = [\"root\"]\n";
        let rule = &Config::parse(users).unwrap().access.rules[0];
        assert_eq!((rule.resolved_uids().unwrap(), rule.resolved_gids().unwrap()), (vec![7, 0], vec![0]));
    }
}
