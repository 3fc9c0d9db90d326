//! The control thread: accepts clients, opens and closes their lanes, answers their questions, and notices their end.
//! Nothing that a client does or leaves undone can block it: every socket is non-blocking and every message has a maximum.

mod access;
mod admin;
mod attach;
mod caller;
mod jobs;
mod ledger;
mod market;
mod memory;
mod messages;
mod peer;
mod questions;
mod refusals;
mod reload;
mod session;
mod snapshot;
mod state;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, accept4, socketpair};
use ringlane_layout::board::control;
use ringlane_layout::limits::{ACCEPT_PAUSE_NS, ACCEPTS_A_TURN, HELLO_TIMEOUT_NS};

use crate::sequencer::Command;
use crate::service::{Watchdog, stopping};
use crate::world;
use session::Session;

pub use access::{Grant, Policy};
pub use admin::AdminRequest;
pub use caller::{Caller, Failure};
pub use ledger::Ledger;
pub use market::Broadcast;
pub use messages::{Number, Request, parse};
pub use peer::Peer;
pub use questions::Questions;
pub use refusals::Refusals;
pub use session::{Host, own};

/// Epoll data of the listening socket.
const LISTENER: u64 = u64::MAX;
/// Epoll data of the signal descriptor.
const SIGNALS: u64 = u64::MAX - 1;
/// Bit that tells a client's process descriptor from its socket.
const PIDFD: u64 = 1 << 62;

/// When the control thread ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until a signal.
    Service,
    /// With the last client, or when none comes within ten seconds.
    Embedded,
}

/// The control thread's state.
pub struct Control {
    listener: OwnedFd,
    signals: SignalFd,
    epoll: Epoll,
    sessions: HashMap<u64, Session>,
    next_client: u64,
    /// Clients whose question waits for their user's share of the sequencer's time, the longest first.
    held: VecDeque<u64>,
    host: Host,
    lifetime: Lifetime,
    idle_since: Instant,
    ever_connected: bool,
    watchdog: Watchdog,
    /// When connections are accepted again, if they are not now.
    listen_again: Option<Instant>,
    /// A descriptor to give up when there are no others, so that clients can still be turned away.
    spare: Option<File>,
}

/// Whether the kernel gives a descriptor that tells of a process's end: tried on this one.
#[must_use]
pub fn knows_process_ends() -> bool {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    pair.is_ok_and(|(one, _other)| peer::identify(&one).is_ok_and(|peer| peer.pidfd.is_some()))
}

/// How long the control thread waits for something to happen, at most.
const TURN: Duration = Duration::from_secs(1);
/// How long an embedded sidecar waits for its first client.
const EMBEDDED_PATIENCE: Duration = Duration::from_secs(10);

impl Control {
    /// Watches the listening socket and the signals.
    pub fn new(listener: OwnedFd, signals: SignalFd, host: Host, lifetime: Lifetime) -> Result<Self, String> {
        let say = |error: nix::errno::Errno| format!("cannot prepare the control socket: {error}");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(say)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).map_err(say)?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS)).map_err(say)?;
        let sessions = HashMap::new();
        let (idle_since, spare) = (world::now(), File::open("/dev/null").ok());
        Ok(Self {
            listener,
            signals,
            epoll,
            sessions,
            next_client: 1,
            held: VecDeque::new(),
            host,
            lifetime,
            idle_since,
            ever_connected: false,
            watchdog: Watchdog::new(),
            listen_again: None,
            spare,
        })
    }

    /// Serves until a signal or the end of its lifetime; then stops the sequencer.
    pub fn run(mut self) {
        while self.turn() {}
        self.stop();
    }

    /// Tells everybody that the sidecar stops.
    pub fn stop(self) {
        stopping();
        let _ = self.host.commands.send(Command::Stop);
    }

    /// Waits for something to happen and handles it. False: it is time to end.
    pub fn turn(&mut self) -> bool {
        let mut events = [EpollEvent::empty(); 64];
        let patience = self.watchdog.patience(TURN);
        let patience = self.pause(patience);
        let patience = self.held_patience(patience);
        let count = self.epoll.wait(&mut events, world::doze(EpollTimeout::from(patience.as_millis() as u16))).unwrap_or(0);
        self.watchdog.feed(self.host.commands.pulse());
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                SIGNALS => {
                    if let Ok(Some(signal)) = self.signals.read_signal() {
                        if signal.ssi_signo == Signal::SIGHUP as u32 {
                            self.reload();
                            continue;
                        }
                        tracing::info!(signal = signal.ssi_signo, "stopping");
                        return false;
                    }
                }
                data if data & PIDFD != 0 => self.end(data & !PIDFD, "its process ended"),
                client => self.serve(client),
            }
        }
        self.answer_held();
        self.end_silent();
        self.host.ledger.sweep();
        !self.is_over()
    }

    fn accept(&mut self) {
        // Bounded, so that a flood of connections cannot keep the thread from its other clients.
        for _ in 0..ACCEPTS_A_TURN {
            let socket = match accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
                Ok(fd) => session::own(fd),
                Err(Errno::EMFILE | Errno::ENFILE) => return self.turn_away(),
                Err(_) => return,
            };
            match peer::identify(&socket) {
                Ok(peer) => self.admit(socket, peer),
                Err(words) => {
                    self.host.counters.add(control::TURNED_AWAY, 1);
                    self.host.refusals.note_stranger(&words);
                }
            }
        }
        // As many as may come at once: nobody is listened to for a while, nor does the flood take the sequencer's core.
        self.listen_again = Some(world::now() + Duration::from_nanos(ACCEPT_PAUSE_NS));
        let _ = self.epoll.modify(&self.listener, &mut EpollEvent::new(EpollFlags::empty(), LISTENER));
    }

    /// Listens again when a pause is over; says how long the next wait may be.
    fn pause(&mut self, patience: Duration) -> Duration {
        let Some(until) = self.listen_again else { return patience };
        let left = until.saturating_duration_since(world::now());
        if left > Duration::ZERO {
            return patience.min(left.max(Duration::from_millis(1)));
        }
        self.listen_again = None;
        let _ = self.epoll.modify(&self.listener, &mut EpollEvent::new(EpollFlags::EPOLLIN, LISTENER));
        patience
    }

    /// No descriptor is left for a client that waits: it is told so by the end of its connection. Left in the queue it
    /// would wake this thread for ever.
    #[cold]
    fn turn_away(&mut self) {
        self.spare = None;
        self.host.counters.add(control::TURNED_AWAY, 1);
        let turned_away = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).map(session::own);
        tracing::warn!("a client was turned away: the sidecar may not open more descriptors; raise its limit (LimitNOFILE)");
        drop(turned_away);
        self.spare = File::open("/dev/null").ok();
    }

    /// Lets a peer in that may be here and has connections left; any other is told why, and nothing of it is kept.
    fn admit(&mut self, socket: OwnedFd, peer: Peer) {
        let unknown = || access::not_permitted(format!("user {} (groups {:?}) may not use this sidecar", peer.uid, peer.gids));
        let granted = self.host.policy.grant(&peer).ok_or_else(unknown);
        match granted.and_then(|grant| self.host.ledger.admit(peer.uid, &grant).map(|()| grant)) {
            Ok(grant) => self.watch(socket, peer, grant),
            Err(refusal) => {
                self.host.refusals.note(&peer, &refusal);
                session::refuse(&socket, &refusal);
            }
        }
    }

    fn watch(&mut self, socket: OwnedFd, peer: Peer, grant: Arc<Grant>) {
        let client = self.next_client;
        self.next_client += 1;
        let watched = self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, client)).and_then(|()| match &peer.pidfd {
            Some(pidfd) => self.epoll.add(pidfd, EpollEvent::new(EpollFlags::EPOLLIN, client | PIDFD)),
            None => Ok(()),
        });
        if let Err(error) = watched {
            tracing::warn!(%error, "a client was turned away: it cannot be watched");
            return self.host.ledger.dismiss(peer.uid);
        }
        self.ever_connected = true;
        self.host.counters.add(control::CONNECTIONS, 1);
        self.sessions.insert(client, Session::new(client, socket, peer, grant));
        self.host.counters.set(control::CLIENTS, self.sessions.len() as u64);
    }

    fn serve(&mut self, client: u64) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        // Nobody listens to a client that waits for an answer: what is heard of it then is its end.
        let served = if session.held.is_some() { Err("it closed its connection".into()) } else { session.serve(&mut self.host) };
        let holds = session.held.is_some();
        match served {
            Ok(()) if holds => self.hold(client),
            Ok(()) => {}
            Err(why) => self.end(client, &why),
        }
    }

    /// Ends a client on proof: its lanes are completed and closed.
    fn end(&mut self, client: u64, why: &str) {
        let Some(session) = self.sessions.remove(&client) else { return };
        // Who never said a word gets none: whoever connects and goes again, ten thousand times a second, fills no log.
        if session.greeted {
            tracing::info!(client, pid = session.peer.pid, why, "client gone");
        }
        // Before the descriptors close: a child of the client may hold duplicates of the socket.
        let _ = self.epoll.delete(session.socket.as_fd());
        if let Some(pidfd) = &session.peer.pidfd {
            let _ = self.epoll.delete(pidfd);
        }
        self.host.ledger.dismiss(session.peer.uid);
        session.close_lanes(&mut self.host);
        self.idle_since = world::now();
        self.host.counters.set(control::CLIENTS, self.sessions.len() as u64);
    }

    /// Ends connections that never said hello.
    fn end_silent(&mut self) {
        let late = |session: &Session| !session.greeted && (world::now() - session.since).as_nanos() > u128::from(HELLO_TIMEOUT_NS);
        let silent: Vec<_> = self.sessions.iter().filter(|(_, session)| late(session)).map(|(client, _)| *client).collect();
        silent.into_iter().for_each(|client| self.end(client, "it never said hello"));
    }

    fn is_over(&self) -> bool {
        self.lifetime == Lifetime::Embedded
            && self.sessions.is_empty()
            && (self.ever_connected || (world::now() - self.idle_since) > EMBEDDED_PATIENCE)
    }
}
