//! What a sidecar and its service manager say to each other: the inherited socket, READY, progress, the watchdog.
//! Without a service manager every one of these is a no-op; nothing in here decides what a sidecar does.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt, sockopt};
use sd_notify::{NotifyState, listen_fds, notify, watchdog_enabled};

use crate::control::own;

/// How much more time a start may take from each sign of progress on; recovery tells of some several times a second.
const PROGRESS_EXTENDS: Duration = Duration::from_secs(30);
/// Least time between two signs of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Says a thing to the service manager; a manager that cannot be reached is logged, not waited for.
fn say(words: &[NotifyState<'_>]) {
    if let Err(error) = notify(words) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// The listening socket that the service manager made, and its path; none when the sidecar was started otherwise.
///
/// # Errors
/// When what was inherited is not one listening Unix SEQPACKET socket with a path.
pub fn inherited_socket() -> Result<Option<(OwnedFd, PathBuf)>, String> {
    let wrong = |what: &str| format!("the socket unit passed {what}; it must hold one ListenSequentialPacket= with a path");
    let mut fds = listen_fds().map_err(|error| wrong(&format!("what cannot be used ({error})")))?;
    let Some(fd) = fds.next() else { return Ok(None) };
    if fds.next().is_some() {
        return Err(wrong("more than one socket"));
    }
    let socket = own(fd);
    let listens = getsockopt(&socket, sockopt::AcceptConn).is_ok_and(|listens| listens);
    if !listens || getsockopt(&socket, sockopt::SockType) != Ok(SockType::SeqPacket) {
        return Err(wrong("something else than a listening SEQPACKET socket"));
    }
    let address: UnixAddr = getsockname(socket.as_raw_fd()).map_err(|error| wrong(&format!("a socket of another family ({error})")))?;
    let path = address.path().ok_or_else(|| wrong("a socket without a path"))?.to_owned();
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| wrong(&format!("a socket that fails ({error})")))?;
    Ok(Some((socket, path)))
}

/// The sidecar answers at its socket.
pub fn ready(words: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(words)]);
}

/// The sidecar is on its way out: it drains what was submitted.
pub fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Signs of progress of a long start: each one shows in `systemctl status` and moves the start's deadline.
#[derive(Debug, Default)]
pub struct Progress {
    told: Option<Instant>,
}

impl Progress {
    /// Tells how far recovery has come, now and then.
    pub fn recovered(&mut self, records: u64) {
        if self.told.is_some_and(|told| told.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        tracing::info!(records, "recovering");
        let extend = NotifyState::ExtendTimeoutUsec(PROGRESS_EXTENDS.as_micros() as u32);
        say(&[NotifyState::Status(&format!("recovering: {records} records")), extend]);
    }
}

/// Feeds the service manager's watchdog as long as the sequencer's pulse goes on: a stuck sequencer is killed, an idle one
/// is not, because its sleep is bounded.
#[derive(Debug)]
pub struct Watchdog {
    /// Between two feeds; none without a watchdog.
    every: Option<Duration>,
    fed: Option<Instant>,
    pulse: u64,
}

impl Watchdog {
    /// The watchdog that the service manager asks for, if any.
    #[must_use]
    pub fn new() -> Self {
        Self { every: watchdog_enabled().map(|limit| limit / 4), fed: None, pulse: 0 }
    }

    /// How long its owner may wait at most until the next [`Watchdog::feed`].
    #[must_use]
    pub fn patience(&self, otherwise: Duration) -> Duration {
        self.every.map_or(otherwise, |every| every.min(otherwise))
    }

    /// Feeds it when a feed is due and the pulse has moved since the last one.
    pub fn feed(&mut self, pulse: u64) {
        let Some(every) = self.every else { return };
        if pulse == self.pulse || self.fed.is_some_and(|fed| fed.elapsed() < every) {
            return;
        }
        (self.pulse, self.fed) = (pulse, Some(Instant::now()));
        say(&[NotifyState::Watchdog]);
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_service_manager_nothing_is_inherited_and_nothing_is_fed() {
        assert!(inherited_socket().unwrap().is_none());
        let mut watchdog = Watchdog::new();
        watchdog.feed(1);
        assert_eq!((watchdog.fed, watchdog.patience(Duration::from_secs(1))), (None, Duration::from_secs(1)));
    }
}
