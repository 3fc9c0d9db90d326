//! One run: a seed's sidecar with its clients, through crashes, until everything is quiet; then everything must be true.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::rc::Rc;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ringlane_layout::orders::EventKind;
use ringlane_sidecar::board::AddressLock;
use ringlane_sidecar::config::{AccountsConfig, Config, Durability, InstrumentConfig};
use ringlane_sidecar::control::{Control, Lifetime};
use ringlane_sidecar::daemon::{Sidecar, assemble};
use ringlane_sidecar::jobs::Jobs;
use ringlane_sidecar::journal::{JournalLock, list_segments};
use ringlane_sidecar::kernels::door::Kernels;
use ringlane_sidecar::recovery::recover;
use ringlane_sidecar::sequencer::Pace;
use ringlane_sidecar::world::enter;

use super::client::Trader;
use super::disk::{Disk, tear};
use super::flow::{ACCOUNTS, SYMBOLS};
use super::oracle::Oracle;
use super::tally::Tally;
use super::world::{Crash, Sim};

/// Steps of a run before it becomes quiet, and most steps until it is.
const STEPS: u64 = 3_000;
const QUIET_STEPS_MAX: u64 = 400_000;
/// Clients at a time, at most.
const TRADERS_MAX: usize = 4;

/// What keeps a sidecar's places, beside the sequencer, which the world has.
struct Rest {
    control: Option<Control>,
    jobs: Jobs,
    _locks: (Option<JournalLock>, AddressLock),
}

struct Run {
    sim: Rc<Sim>,
    home: tempfile::TempDir,
    config: Config,
    rest: Option<Rest>,
    traders: Vec<Trader>,
    /// What the oracle knew before the start that is under way. What it has read since stands in the machine's memory, and may
    /// go with the machine until that start has made it durable and clients are told of it.
    firm: Option<Oracle>,
    /// Whether machines end too, or processes only.
    is_disk: bool,
    directories: u64,
}

/// Runs a seed. The answer is the hash of everything that happened; it is counted, too.
pub fn run(seed: u64, tally: &mut Tally) -> Result<u64, String> {
    let sim = Rc::new(Sim::new(seed));
    let _entered = enter(Rc::clone(&sim) as Rc<_>);
    let mut run = Run::new(Rc::clone(&sim));
    let done = catch_unwind(AssertUnwindSafe(|| run.go()));
    run.fall();
    run.tell();
    tally.merge(&sim.tally.borrow());
    match done {
        Ok(Ok(())) => Ok(sim.trace_hash()),
        Ok(Err(words)) => Err(words),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Err(format!("panicked: {}", words.unwrap_or_default()))
        }
    }
}

fn config(sim: &Sim, is_disk: bool) -> Config {
    let mut config = Config::default();
    let instrument =
        |symbol: u32| InstrumentConfig { name: format!("S{symbol}"), price_decimals: 2, tick: 1, lot: 1, reference_price: 100 };
    config.orders.instruments = (1..=SYMBOLS).map(instrument).collect();
    config.orders.accounts = vec![AccountsConfig {
        first: 1,
        last: ACCOUNTS,
        order_quantity_max: 100,
        position_max: 500,
        price_collar_bps: 0,
        order_notional_max: 0,
        exposure_max: 0,
        open_orders_max: 40,
        order_rate_max: if sim.one_in(2) { 50 } else { 0 },
        symbol: 0,
        group: 0,
        self_trade: 2,
    }];
    config.orders.resting_orders_max = 1 << 10;
    config.journal.durability = if is_disk { Durability::Disk } else { Durability::Process };
    config.journal.segment_bytes = [64 << 10, 128 << 10][sim.below(2) as usize];
    config.journal.prefault_bytes = 4 << 10;
    config.journal.retention_bytes = sim.within(4, 12) * config.journal.segment_bytes;
    config.journal.spare_segments = sim.below(2) as usize;
    config.snapshots.every_records = [0, 40, 200][sim.below(3) as usize];
    config.lanes.reattach_grace_ms = [30, 1_000, 10_000][sim.below(3) as usize];
    config.jobs.threads = Some(1);
    config
}

impl Run {
    fn new(sim: Rc<Sim>) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        let is_disk = sim.one_in(2);
        let mut config = config(&sim, is_disk);
        config.socket = Some(home.path().join("socket"));
        config.journal.directory = Some(home.path().join("journal-0"));
        sim.directory.replace(home.path().join("journal-0"));
        sim.grace_ns.set(config.lanes.reattach_grace_ms * 1_000_000);
        Self { sim, home, config, rest: None, traders: Vec::new(), firm: None, is_disk, directories: 0 }
    }

    /// Counts what clients saw.
    fn tell(&self) {
        let mut tally = self.sim.tally.borrow_mut();
        for Trader { story, .. } in &self.traders {
            tally.add("orders sent", story.submitted.len() as u64);
            tally.add("results told", story.results.iter().flatten().count() as u64);
            let gaps = story.events.iter().filter(|event| event.kind == EventKind::Gap as u8).count() as u64;
            tally.add("events told", story.events.len() as u64 - gaps);
            tally.add("gaps told", gaps);
            tally.add("clients", 1);
            tally.add("clients that came too late", story.is_lost.into());
        }
    }

    fn directory(&self) -> PathBuf {
        self.config.journal.directory.clone().expect("everything is journaled")
    }

    fn address(&self) -> PathBuf {
        self.config.socket.clone().expect("there is a socket")
    }

    fn go(&mut self) -> Result<(), String> {
        self.start()?;
        for _ in 0..STEPS {
            let stepped = catch_unwind(AssertUnwindSafe(|| self.step()));
            self.survive(stepped)?;
            if let Some(words) = self.sim.wrong.take() {
                return Err(words);
            }
        }
        self.sim.crash_in.set(None);
        if !self.is_disk && self.sim.one_in(4) {
            return self.end_machine();
        }
        self.become_quiet()?;
        self.stop()
    }

    /// What a step came to: a crash is survived, everything else is told.
    fn survive(&mut self, stepped: std::thread::Result<Result<(), String>>) -> Result<(), String> {
        match stepped {
            Ok(done) => done,
            Err(panic) if panic.is::<Crash>() => {
                self.crash();
                self.start()
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let sim = Rc::clone(&self.sim);
        sim.rest();
        match sim.below(100) {
            0..36 => sim.turn(),
            36..46 => drop(self.control(Control::turn)),
            46..58 => sim.help(),
            58..94 => return self.trade(),
            94..96 => sim.advance(sim.below(2_000_000)),
            96 if sim.one_in(10) => sim.advance(sim.below(3_000_000_000)),
            97 => self.come_or_go(),
            98 => self.change_weather(),
            99 if sim.one_in(40) => self.stop_and_start()?,
            _ => {}
        }
        Ok(())
    }

    fn control<T>(&mut self, work: impl FnOnce(&mut Control) -> T) -> Option<T> {
        self.rest.as_mut().and_then(|rest| rest.control.as_mut()).map(work)
    }

    fn trade(&mut self) -> Result<(), String> {
        if self.traders.is_empty() {
            return Ok(());
        }
        let (at, address) = (self.sim.below(self.traders.len() as u64) as usize, self.address());
        self.traders[at].step(&self.sim, &address)
    }

    fn come_or_go(&mut self) {
        let there = self.traders.iter().filter(|trader| !trader.story.is_gone && !trader.story.is_lost).count();
        if there < TRADERS_MAX && self.sim.one_in(2) {
            let trader = self.sim.with_random(|random| {
                let accounts = Trader::choose_accounts(random);
                Trader::new(random, accounts)
            });
            self.traders.push(trader);
        } else if self.sim.one_in(10) && !self.traders.is_empty() {
            let at = self.sim.below(self.traders.len() as u64) as usize;
            self.traders[at].vanish();
        }
    }

    fn change_weather(&self) {
        let (sim, now_ns) = (&self.sim, self.sim.clock_ns());
        match sim.below(8) {
            0 => sim.full_until_ns.set(now_ns + sim.below(50_000_000)),
            1 if self.is_disk => sim.sick_until_ns.set(now_ns + sim.below(20_000_000)),
            2 => sim.slow_until_ns.set(now_ns + sim.below(5_000_000)),
            _ => sim.with_random(|random| sim.disk.borrow_mut().write_back(random)),
        }
    }

    // ---- lives of the sidecar ----

    /// Starts it, however often it dies while it starts.
    fn start(&mut self) -> Result<(), String> {
        loop {
            let directory = self.directory();
            if directory.exists() && !list_segments(&directory)?.is_empty() {
                self.firm.get_or_insert_with(|| self.sim.oracle.borrow().clone());
                self.sim.oracle.borrow_mut().read(&directory, u64::MAX)?;
                self.check()?;
            }
            let sim = Rc::clone(&self.sim);
            sim.crash_in.set(Some(if sim.one_in(6) { sim.below(40) } else { sim.within(40, 3_000) }));
            let signals = SignalFd::with_flags(&SigSet::empty(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
            let signals = signals.map_err(|error| error.to_string())?;
            let config = self.config.clone();
            let assembled = catch_unwind(AssertUnwindSafe(|| assemble(config, Lifetime::Service, Kernels::none(), signals)));
            match assembled {
                Ok(Ok(Sidecar { sequencer, control, jobs, locks, .. })) => {
                    self.rest = Some(Rest { control: Some(control), jobs, _locks: locks });
                    let engine = sequencer.engine();
                    let (sequence, oracle) = (engine.next_sequence() - 1, sim.oracle.borrow());
                    if sequence < oracle.sequence() {
                        return Err(format!("the journal has sequence {}, and the sidecar began behind {sequence}", oracle.sequence()));
                    }
                    if sequence == oracle.sequence() && engine.orders.state_hash() != oracle.state_hash() {
                        return Err(format!("after recovery at sequence {sequence} the state is not the twin's"));
                    }
                    drop(oracle);
                    self.firm = None;
                    sim.note(&[sequence]);
                    sim.sequencer.replace(Some((sequencer, Pace::default())));
                    return Ok(());
                }
                Ok(Err(_)) if sim.clock_ns() < sim.full_until_ns.get().max(sim.sick_until_ns.get()) => {
                    self.fall();
                    sim.advance(1_000_000);
                }
                Ok(Err(words)) => return Err(format!("it does not start: {words}")),
                Err(panic) if panic.is::<Crash>() => self.crash(),
                Err(panic) => resume_unwind(panic),
            }
        }
    }

    /// The sidecar's places are empty.
    fn fall(&mut self) {
        if let Some(rest) = self.rest.take() {
            rest.jobs.stop();
        }
        self.sim.dismiss_all();
    }

    /// The sidecar is dead; where the journal promises to survive it, the machine may be too.
    fn crash(&mut self) {
        self.fall();
        if let Some((path, before)) = self.sim.before_frame.take()
            && ["frame.filled", "frame.after"].contains(&self.sim.died_at.borrow().as_str())
            && self.sim.one_in(2)
        {
            self.sim.count("torn frames");
            self.sim.with_random(|random| tear(&path, &before, &self.sim.died_at.borrow(), random));
        }
        if self.is_disk && self.sim.one_in(2) {
            self.sim.count("machines lost");
            self.lose_machine();
        } else {
            self.sim.count("processes lost");
        }
    }

    fn lose_machine(&mut self) {
        self.traders.iter_mut().for_each(Trader::vanish);
        if let Some(firm) = self.firm.take() {
            self.sim.oracle.replace(firm);
        }
        self.directories += 1;
        let (from, to) = (self.directory(), self.home.path().join(format!("journal-{}", self.directories)));
        let disk = self.sim.disk.take();
        self.sim.with_random(|random| disk.crash(&from, &to, random));
        self.sim.disk.replace(Disk::of(&to));
        self.sim.directory.replace(to.clone());
        self.config.journal.directory = Some(to);
    }

    /// The end of a machine where only the end of a process was guarded against: nothing is promised, but nobody is told what
    /// is not so.
    fn end_machine(&mut self) -> Result<(), String> {
        self.fall();
        self.lose_machine();
        let (directory, mut oracle) = (self.directory(), Oracle::new());
        let snapshots = ringlane_sidecar::journal::newest_snapshot_sequence(&directory).unwrap_or(0);
        let Ok(recovered) = recover(&directory, 7, 2, None, |_| {}) else { return Ok(()) };
        // Segments that a snapshot covers may be gone, and with them what the twin would need.
        if snapshots > 0 || oracle.read(&directory, u64::MAX).is_err() {
            return Ok(());
        }
        if recovered.engine.orders.state_hash() != oracle.state_hash() || recovered.engine.next_sequence() - 1 != oracle.sequence() {
            return Err("what is left of the machine's journal is not what was recovered from it".into());
        }
        Ok(())
    }

    fn stop_and_start(&mut self) -> Result<(), String> {
        self.sim.count("clean stops");
        self.stop()?;
        self.start()
    }

    /// A clean stop.
    fn stop(&mut self) -> Result<(), String> {
        let sim = Rc::clone(&self.sim);
        if let Some(control) = self.rest.as_mut().and_then(|rest| rest.control.take()) {
            control.stop();
        }
        while sim.sequencer.borrow().as_ref().is_some_and(|(sequencer, _)| !sequencer.is_over()) {
            sim.rest();
            sim.advance(1_000);
            sim.turn();
            sim.help();
        }
        let Some((sequencer, _)) = sim.sequencer.take() else { return Ok(()) };
        let engine = sequencer.finish();
        let (sequence, hash) = (engine.next_sequence() - 1, engine.orders.state_hash());
        self.fall();
        sim.oracle.borrow_mut().read(&self.directory(), u64::MAX)?;
        self.check()?;
        let oracle = sim.oracle.borrow();
        if (sequence, hash) != (oracle.sequence(), oracle.state_hash()) && sim.clock_ns() >= sim.sick_until_ns.get() {
            return Err(format!("it stopped at sequence {sequence}, and the journal ends at {}; or the states differ", oracle.sequence()));
        }
        sim.note(&[sequence, hash]);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let oracle = self.sim.oracle.borrow();
        self.traders.iter().try_for_each(|trader| oracle.check(&trader.story))
    }

    /// Everything that was sent is answered, and everybody hears of it.
    fn become_quiet(&mut self) -> Result<(), String> {
        let sim = Rc::clone(&self.sim);
        [&sim.full_until_ns, &sim.sick_until_ns, &sim.slow_until_ns].into_iter().for_each(|until| until.set(0));
        self.traders.iter_mut().for_each(|trader| {
            trader.is_quiet = true;
            trader.hurry();
        });
        for step in 0..QUIET_STEPS_MAX {
            sim.rest();
            sim.advance(sim.below(100_000));
            match sim.below(4) {
                0 => sim.turn(),
                1 => drop(self.control(Control::turn)),
                2 => sim.help(),
                _ => self.trade()?,
            }
            if step % 64 == 0 && self.traders.iter().all(Trader::is_content) {
                return self.become_whole();
            }
        }
        let who: Vec<_> = self.traders.iter().filter(|trader| !trader.is_content()).map(Trader::condition).collect();
        let sequencer = sim.sequencer.borrow();
        let open = sequencer.as_ref().map(|(sequencer, _)| sequencer.engine().open_lanes().len());
        Err(format!("somebody waits for ever, with {open:?} lanes open: {}", who.join("; ")))
    }

    /// Nobody is missing anything.
    fn become_whole(&mut self) -> Result<(), String> {
        // Whoever did not come back by now is closed.
        self.sim.advance(self.sim.grace_ns.get() + 2_000_000_000);
        for _ in 0..2_000 {
            self.sim.rest();
            self.sim.turn();
            self.control(Control::turn);
            self.sim.help();
        }
        for _ in 0..2_000 {
            self.trade()?;
        }
        self.sim.oracle.borrow_mut().read(&self.directory(), u64::MAX)?;
        self.check()?;
        let oracle = self.sim.oracle.borrow();
        for Trader { story, .. } in &self.traders {
            match story.is_gone || story.is_lost {
                false => oracle.check_whole(story)?,
                true => oracle.check_closed(story)?,
            }
        }
        Ok(())
    }
}
