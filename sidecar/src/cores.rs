//! On which cores threads run: one that keeps a core, those that leave it to that one, and those of a pool that go apart.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread, for affinities.
const HERE: Pid = Pid::from_raw(0);
/// No core: the thread does not work.
const NOWHERE: usize = usize::MAX;

/// Pins the calling thread to a core; a failure is told and lived with.
pub fn keep(core: usize) {
    let mut only = CpuSet::new();
    if let Err(error) = only.set(core).and_then(|()| sched_setaffinity(HERE, &only)) {
        tracing::warn!(thread = std::thread::current().name(), cpu = core, %error, "the thread could not be pinned");
    }
}

/// Lets the calling thread run anywhere but on this core, where there is another one.
pub fn leave(core: usize) {
    let others = sched_getaffinity(HERE).and_then(|mut set| set.unset(core).map(|()| set));
    if let Err(error) = others.and_then(|set| sched_setaffinity(HERE, &set)) {
        tracing::debug!(thread = std::thread::current().name(), cpu = core, %error, "the thread shares the sequencer's core");
    }
}

/// The cores of the process, and where the threads of a pool work.
///
/// A system under a hypervisor takes a core that sleeps for a busy one, and wakes a thread where its waker runs: both would
/// share that core for longer than a batch takes, while another stands idle. So a thread that is sent to help is kept from
/// where others of the pool work, until it runs.
pub struct Cores {
    allowed: Option<CpuSet>,
    places: Box<[Place]>,
}

struct Place {
    core: AtomicUsize,
    /// Whether it is kept from some cores.
    is_kept: AtomicBool,
}

impl Cores {
    /// Those that the calling thread may run on, for so many threads.
    pub fn new(threads: usize) -> Self {
        let place = || Place { core: AtomicUsize::new(NOWHERE), is_kept: AtomicBool::new(false) };
        Self { allowed: sched_getaffinity(HERE).ok(), places: (0..threads).map(|_| place()).collect() }
    }

    /// Keeps thread `index`, which sleeps and is about to be woken, from the cores where others work, if there is another.
    pub fn keep_apart(&self, index: usize, thread: Pid) {
        let Some(mut rest) = self.allowed else { return };
        let mut is_less = false;
        for place in &self.places {
            let core = place.core.load(Ordering::Relaxed);
            is_less |= core != NOWHERE && rest.unset(core).is_ok();
        }
        // The system refuses an empty set, and one whose cores have gone.
        if is_less && sched_setaffinity(thread, &rest).is_ok() {
            self.places[index].is_kept.store(true, Ordering::Relaxed);
        }
    }

    /// Thread `index`, which calls, runs: it is kept from no core any more.
    pub fn open(&self, index: usize) {
        if let Some(allowed) = &self.allowed
            && self.places[index].is_kept.swap(false, Ordering::Relaxed)
        {
            let _ = sched_setaffinity(HERE, allowed); // as it was; what may have changed since is the system's to say
        }
    }

    /// Thread `index`, which calls, works where it is.
    pub fn come(&self, index: usize) {
        self.places[index].core.store(sched_getcpu().unwrap_or(NOWHERE), Ordering::Relaxed);
    }

    /// Thread `index` works no longer.
    pub fn go(&self, index: usize) {
        self.places[index].core.store(NOWHERE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::gettid;
    use std::sync::mpsc::channel;

    #[test]
    fn who_is_sent_to_help_is_kept_from_where_others_work_until_it_runs() {
        let all = sched_getaffinity(HERE).expect("its own");
        let cores = Cores::new(2);
        cores.come(0);
        let taken = cores.places[0].core.load(Ordering::Relaxed);
        let is_alone = (0..CpuSet::count()).all(|core| core == taken || all.is_set(core) != Ok(true));
        let ((number, told), (wake, woken)) = (channel(), channel());
        std::thread::scope(|scope| {
            let cores = &cores;
            let helper = scope.spawn(move || {
                number.send(gettid()).expect("somebody listens");
                woken.recv().expect("somebody wakes");
                let (seen, before) = (sched_getcpu().expect("it is told"), sched_getaffinity(HERE).expect("its own"));
                cores.open(1);
                (seen, before, sched_getaffinity(HERE).expect("its own"))
            });
            cores.keep_apart(1, told.recv().expect("it says"));
            wake.send(()).expect("it waits");
            let (seen, before, after) = helper.join().expect("it ends");
            assert!(is_alone || seen != taken && before.is_set(taken) == Ok(false));
            assert!(after == all, "it may go anywhere again");
            cores.go(0);
            cores.keep_apart(1, HERE);
            assert!(sched_getaffinity(HERE).expect("its own") == all, "nobody works, and nobody is kept from anywhere");
        });
    }
}
