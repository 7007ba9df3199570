//! A seeded schedule of what goes wrong.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::place::{Clock, Kind};

/// One thing that goes wrong. Numbers are milliseconds unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillWorker,
    PauseWorker(u64),
    KillJanitor,
    PauseJanitor(u64),
    /// The connections of somebody are closed.
    Cut(Who),
    /// The connections of somebody go dead without a word.
    HalfOpen(Who),
    /// The next answer to somebody is lost with its connection.
    LoseAnswer(Who),
    /// Everything that somebody says and hears takes so much longer, for so long.
    Slow(Who, u64, u64),
    LongReader(u64),
    RotateSecret,
    KillAndReenable(u64),
    UpdateAction,
    Swap,
    Shadow,
    Canary,
    Promote,
    /// A project is erased while its people sign in, and comes back.
    Erase,
    CrashDatabase,
    RestartDatabase,
    /// The standby takes over from a primary that steps down.
    Switchover,
    /// The standby takes over from a primary that is killed.
    PrimaryDies,
    /// What a synchronous standby does not write, no commit on the primary ends before.
    StandbyLags(u64),
    /// Every session of a role is ended.
    EndSessions(&'static str),
    /// A table is locked as DDL would.
    Lock(&'static str, u64),
    Migrate,
    /// Somebody takes all the connections that the server has.
    Exhaust(u64),
    /// A transaction that listens and does not end, while somebody notifies until the queue is full.
    FillNotifyQueue(u64),
    FillDisk(u64),
    /// Seconds. What a server's clock goes back, the deadlines of those who left take longer.
    StepClock(Clock, i64),
}

/// Whose connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Clients,
    Fleet,
}

/// When, and what.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub at: Duration,
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  {:?}", self.at.as_millis(), self.fault)
    }
}

impl Fault {
    /// Meanwhile the database is away or held up for whoever waits, so waiting longer proves nothing.
    pub fn is_of_database(self) -> bool {
        match self {
            Self::Cut(who) | Self::HalfOpen(who) | Self::LoseAnswer(who) | Self::Slow(who, ..) => who == Who::Clients,
            Self::CrashDatabase
            | Self::RestartDatabase
            | Self::Switchover
            | Self::PrimaryDies
            | Self::StandbyLags(_)
            | Self::EndSessions(_)
            | Self::Lock(..)
            | Self::Migrate
            | Self::Exhaust(_)
            | Self::FillNotifyQueue(_)
            | Self::FillDisk(_)
            | Self::StepClock(..) => true,
            _ => false,
        }
    }
}

/// The schedule of a seed: so many faults within a time.
pub fn schedule(seed: u64, count: usize, within: Duration) -> Vec<Planned> {
    let kind = Kind::of(seed);
    let mut dice = SmallRng::seed_from_u64(seed);
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let mut all: Vec<Planned> = (0..count)
        .map(|_| {
            let of_database = kind != Kind::Quiet && dice.random_bool(0.45);
            let fault = if of_database { of_the_database(kind, &mut dice) } else { of_the_fleet(&mut dice) };
            Planned { at: Duration::from_millis(dice.random_range(200..within_ms)), fault }
        })
        .collect();
    all.sort_by_key(|planned| planned.at);
    all
}

/// What leaves the database alone.
fn of_the_fleet(dice: &mut SmallRng) -> Fault {
    match dice.random_range(0..22) {
        0..3 => Fault::KillWorker,
        3..5 => Fault::PauseWorker(dice.random_range(100..3_000)),
        5 => Fault::KillJanitor,
        6 => Fault::PauseJanitor(dice.random_range(500..4_000)),
        7 | 8 => Fault::Cut(Who::Fleet),
        9 => Fault::HalfOpen(Who::Fleet),
        10 => Fault::LoseAnswer(Who::Fleet),
        11 => Fault::Slow(Who::Fleet, dice.random_range(2..60), dice.random_range(300..2_000)),
        12 => Fault::LongReader(dice.random_range(500..4_000)),
        13 => Fault::RotateSecret,
        14 | 15 => Fault::KillAndReenable(dice.random_range(100..1_500)),
        16 => Fault::UpdateAction,
        17 => Fault::Swap,
        18 => Fault::Shadow,
        19 => Fault::Canary,
        20 => Fault::Promote,
        _ => Fault::Erase,
    }
}

fn of_the_database(kind: Kind, dice: &mut SmallRng) -> Fault {
    let own = dice.random_bool(0.4);
    match kind {
        Kind::Pair if own => match dice.random_range(0..5) {
            0 | 1 => Fault::Switchover,
            2 | 3 => Fault::PrimaryDies,
            _ => Fault::StandbyLags(dice.random_range(200..3_000)),
        },
        Kind::Troubled if own => match dice.random_range(0..5) {
            0 | 1 => Fault::FillDisk(dice.random_range(100..2_000)),
            2 | 3 => Fault::StepClock(Clock::Server, dice.random_range(-15..90)),
            _ => Fault::StepClock(Clock::Fleet, dice.random_range(-90..90)),
        },
        _ => match dice.random_range(0..13) {
            0 => Fault::CrashDatabase,
            1 => Fault::RestartDatabase,
            2 => Fault::EndSessions("test_worker"),
            3 => Fault::EndSessions("test_core"),
            4 | 5 => Fault::Lock(pick(&["queue", "invocations", "actions", "processes", "settings"], dice), dice.random_range(50..800)),
            6 => Fault::Migrate,
            7 => Fault::Exhaust(dice.random_range(200..2_000)),
            8 => Fault::FillNotifyQueue(dice.random_range(200..2_000)),
            9 => Fault::Cut(Who::Clients),
            10 => Fault::HalfOpen(Who::Clients),
            11 => Fault::LoseAnswer(Who::Clients),
            _ => Fault::Slow(Who::Clients, dice.random_range(2..60), dice.random_range(300..2_000)),
        },
    }
}

fn pick<T: Copy>(of: &[T], dice: &mut SmallRng) -> T {
    of[dice.random_range(0..of.len())]
}
