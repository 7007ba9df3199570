//! When a worker looks at the queue again, how far back, and what it says of itself. Pure:
//! moments go in, pauses come out.
//!
//! Two states. *Asleep*, it waits for a notification, and polls as the net under it. *Awake*,
//! because claims bring several invocations at a time, it claims every millisecond and says so,
//! which saves those who enqueue the notification: what a statement costs is mostly the
//! statement, not its rows.

use std::time::Duration;

use tokio::time::Instant;

use super::execute::LEAST_LEFT;
use crate::store::claim::Look;

/// From this many invocations a claim on, as a moving average, it is busy.
const BUSY: f64 = 3.0;
/// And stays so down to this many: each time that it says something else leaves a dead row.
const STILL_BUSY: f64 = 1.5;
/// Pause between two claims of a busy worker.
const GATHER: Duration = Duration::from_millis(1);
/// The database believes for 250 ms that a worker is awake; it is told again in time, and not
/// more often: each time leaves a dead row that everybody who enqueues walks over.
const SAY_AWAKE_EVERY: Duration = Duration::from_millis(150);
/// A worker that falls asleep looks again this soon, and then after twice as long each time:
/// whoever enqueued while it was awake did not notify, and may have committed since.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Pause after a claim that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Most looks go back this far beyond the point up to which everything was claimed: the look
/// before, or where that stopped.
const LOOK_BACK: Duration = Duration::from_millis(100);
/// One in so often goes back to the oldest that may still be alive.
const FAR_LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a bulkhead left behind is old, and its room may be back any moment.
const FAR_LOOK_AT_CAPACITY: Duration = Duration::from_millis(20);
/// A far look takes long where vacuum has not cleaned up; it may cost this share of the time.
const FAR_LOOK_SHARE: u32 = 20;

/// With more waiting than one claim takes, projects have turns: among so many of the newest.
const FAIR_AMONG: i32 = 256;
/// And now and then among all that can wait.
const FAIR_AMONG_ALL: i32 = 50_000;

/// When a look began, and a time that belongs to it.
type Looked = Option<(Instant, Duration)>;

/// What a worker remembers between two claims.
pub struct ClaimSchedule {
    poll: Duration,
    /// Nothing that was enqueued longer ago can still be sent in time.
    horizon: Duration,
    pause: Duration,
    usual: f64,
    said_awake: Option<Instant>,
    /// When the last look began that succeeded.
    looked: Option<Instant>,
    /// And the last far one, with how long it took.
    far_look: Looked,
    /// After a claim that took all it might: its beginning, and how old the newest of it was
    /// then. Older ones are in somebody's hands, so the next claim need not walk over them.
    reached: Looked,
    /// The last claim took all it might: more waits.
    is_behind: bool,
}

/// One claim.
#[derive(Debug, Clone, Copy)]
pub struct NextClaim {
    pub look: Look,
    is_awake: bool,
    is_far: bool,
    at_capacity: bool,
    started: Instant,
}

/// What a claim brought.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub count: usize,
    /// It might have been so many.
    pub limit: usize,
    /// How long the newest of them had waited; in turns among projects, the newest of the one that
    /// brought most: the others' are among the newest of all.
    pub newest: Duration,
}

/// What comes after a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub lasting: Duration,
    /// A notification, or room in a bulkhead, ends it early.
    pub is_interruptible: bool,
}

impl ClaimSchedule {
    pub fn new(poll: Duration, horizon: Duration) -> Self {
        Self { poll, horizon, pause: poll, usual: 0.0, said_awake: None, looked: None, far_look: None, reached: None, is_behind: false }
    }

    /// How to claim now. `at_capacity`: a bulkhead may keep the claim from taking what is there.
    /// `coalesces`: notifications cost more than looking again.
    pub fn next_claim(&self, at_capacity: bool, coalesces: bool, now: Instant) -> NextClaim {
        let enough = if self.said_awake.is_some() { STILL_BUSY } else { BUSY };
        let is_awake = (self.usual >= enough || coalesces) && !at_capacity;
        let says_awake = match self.said_awake {
            None => is_awake.then_some(true),
            Some(_) if !is_awake => Some(false),
            Some(at) => (now - at > SAY_AWAKE_EVERY).then_some(true),
        };
        let every = if at_capacity { FAR_LOOK_AT_CAPACITY } else { FAR_LOOK_EVERY };
        let is_far = self.far_look.is_none_or(|(at, took)| now - at >= every.max(took * FAR_LOOK_SHARE));
        let back = match self.far_look {
            // Once, when starting: what is older than the horizon may have nobody else to end it.
            None => None,
            Some(_) if is_far => Some(self.horizon),
            Some(_) => {
                // Its beginning, and how old the oldest of what may be left was then.
                let (at, age) = self.reached.unwrap_or((self.looked.unwrap_or(now), Duration::ZERO));
                Some(LOOK_BACK + age + (now - at))
            }
        };
        // Ending what nobody can answer is for its waiter, and now and then for a far look.
        let least_left = (!is_far).then_some(LEAST_LEFT);
        let fair_among = self.is_behind.then_some(if is_far { FAIR_AMONG_ALL } else { FAIR_AMONG });
        NextClaim { look: Look { back, least_left, says_awake, fair_among }, is_awake, is_far, at_capacity, started: now }
    }

    /// The pause after a claim.
    pub fn found(&mut self, next: &NextClaim, found: Found, now: Instant) -> Pause {
        let took = now - next.started;
        if let Some(awake) = next.look.says_awake {
            self.said_awake = awake.then_some(next.started);
        }
        self.looked = Some(next.started);
        if next.is_far {
            self.far_look = Some((next.started, took));
        }
        let is_all = found.count < found.limit;
        self.is_behind = !is_all && found.count > 0;
        self.reached = (!is_all && found.count > 0).then_some((next.started, found.newest));
        self.usual = (self.usual * 7.0 + found.count as f64) / 8.0;
        if next.is_awake || (next.at_capacity && self.usual >= BUSY) {
            // A timer that is set for less than its resolution takes all of it.
            return Pause { lasting: if took < GATHER / 2 { GATHER } else { Duration::ZERO }, is_interruptible: false };
        }
        self.pause = match next.look.says_awake {
            Some(false) => FIRST_PAUSE,
            _ if found.count > 0 && (!is_all || next.at_capacity) => Duration::ZERO, // nobody will notify of what is left
            _ => (self.pause * 2).clamp(FIRST_PAUSE, self.poll),
        };
        Pause { lasting: self.pause, is_interruptible: true }
    }

    /// The pause after a claim that failed.
    pub fn failed(&mut self) -> Pause {
        self.pause = PAUSE;
        Pause { lasting: PAUSE, is_interruptible: true }
    }

    /// Those who enqueue rely on this worker.
    pub fn is_relied_on(&self) -> bool {
        self.said_awake.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const HORIZON: Duration = Duration::from_secs(6);

    fn schedule() -> ClaimSchedule {
        ClaimSchedule::new(Duration::from_millis(500), HORIZON)
    }

    /// So many of a limit that was not reached.
    fn some(count: usize) -> Found {
        Found { count, limit: 256, newest: MS }
    }

    fn busy(now: Instant) -> ClaimSchedule {
        let mut schedule = schedule();
        for _ in 0..10 {
            let next = schedule.next_claim(false, false, now);
            schedule.found(&next, some(20), now);
        }
        schedule
    }

    #[test]
    fn a_busy_worker_says_that_it_is_awake_and_says_so_again_in_time() {
        let now = Instant::now();
        let schedule = busy(now);
        assert!(schedule.is_relied_on() && schedule.next_claim(false, false, now).is_awake);
        assert_eq!(schedule.next_claim(false, false, now + SAY_AWAKE_EVERY).look.says_awake, None);
        assert_eq!(schedule.next_claim(false, false, now + SAY_AWAKE_EVERY + MS).look.says_awake, Some(true));
    }

    #[test]
    fn at_a_rate_in_between_it_stays_what_it_is() {
        let now = Instant::now();
        for (mut schedule, says_awake) in [(busy(now), true), (schedule(), false)] {
            for _ in 0..100 {
                let next = schedule.next_claim(false, false, now);
                schedule.found(&next, some(2), now);
                assert_eq!(schedule.is_relied_on(), says_awake);
            }
        }
    }

    #[test]
    fn in_a_crowd_it_is_awake_for_single_events_too() {
        let now = Instant::now();
        let mut schedule = schedule();
        let next = schedule.next_claim(false, true, now);
        assert_eq!(next.look.says_awake, Some(true));
        assert_eq!(schedule.found(&next, some(1), now), Pause { lasting: GATHER, is_interruptible: false });
    }

    #[test]
    fn falling_asleep_it_takes_that_back_and_looks_again_after_ever_longer_pauses() {
        let mut now = Instant::now();
        let mut schedule = busy(now);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let next = schedule.next_claim(false, false, now);
            let pause = schedule.found(&next, some(0), now).lasting;
            now += pause;
            if !next.is_awake {
                pauses.push((next.look.says_awake, pause));
            }
        }
        let lengths: Vec<u128> = pauses.iter().map(|(_, pause)| pause.as_millis()).take(12).collect();
        assert_eq!(pauses[0].0, Some(false));
        assert!(pauses[1..].iter().all(|(says, _)| says.is_none()), "said once");
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 500]);
    }

    #[test]
    fn a_cramped_worker_is_never_relied_on_and_looks_for_old_invocations_often() {
        let mut now = Instant::now();
        let mut schedule = busy(now);
        let mut far = 0;
        for _ in 0..100 {
            let next = schedule.next_claim(true, false, now);
            far += u32::from(next.look.back == Some(HORIZON));
            assert_eq!(schedule.found(&next, some(20), now), Pause { lasting: GATHER, is_interruptible: false }, "busy all the same");
            assert!(!next.is_awake && !schedule.is_relied_on());
            now += GATHER;
        }
        assert!((4..=6).contains(&far), "{far} far looks in 100 ms");
    }

    #[test]
    fn only_far_looks_take_what_has_no_time_left() {
        let now = Instant::now();
        let schedule = busy(now);
        let [near, far] = [249, 250].map(|ms| schedule.next_claim(false, false, now + ms * MS).look.least_left);
        assert_eq!((near, far), (Some(LEAST_LEFT), None));
    }

    #[test]
    fn after_a_full_claim_the_next_follows_at_once_and_goes_on_where_it_stopped() {
        let now = Instant::now();
        let mut schedule = busy(now);
        let next = schedule.next_claim(false, false, now);
        schedule.found(&next, Found { count: 2, limit: 2, newest: 700 * MS }, now);
        assert_eq!(schedule.next_claim(false, false, now + 10 * MS).look.back, Some(810 * MS));
        // A far look comes all the same, also while every claim is full.
        assert_eq!(schedule.next_claim(false, false, now + 250 * MS).look.back, Some(HORIZON));
        let mut asleep = self::schedule();
        let next = asleep.next_claim(false, false, now);
        assert_eq!(asleep.found(&next, Found { count: 2, limit: 2, newest: MS }, now).lasting, Duration::ZERO);
    }

    #[test]
    fn while_more_waits_than_a_claim_takes_projects_have_turns() {
        let now = Instant::now();
        let mut schedule = busy(now);
        assert_eq!(schedule.next_claim(false, false, now).look.fair_among, None, "at no cost where nobody queues");
        let next = schedule.next_claim(false, false, now);
        schedule.found(&next, Found { count: 128, limit: 128, newest: MS }, now);
        let [near, far] = [10, 250].map(|ms| schedule.next_claim(false, false, now + ms * MS).look.fair_among);
        assert_eq!((near, far), (Some(FAIR_AMONG), Some(FAIR_AMONG_ALL)));
        let next = schedule.next_claim(false, false, now);
        schedule.found(&next, some(127), now);
        assert_eq!(schedule.next_claim(false, false, now).look.fair_among, None);
    }

    #[test]
    fn an_expensive_far_look_is_a_rare_one() {
        let now = Instant::now();
        let mut schedule = schedule();
        let next = schedule.next_claim(false, false, now);
        schedule.found(&next, some(0), now + 100 * MS);
        assert_eq!(schedule.next_claim(false, false, now + 1999 * MS).look.back, Some(LOOK_BACK + 1999 * MS));
        assert_eq!(schedule.next_claim(false, false, now + 2000 * MS).look.back, Some(HORIZON));
    }

    #[test]
    fn a_look_goes_back_to_the_one_before_however_long_ago_that_was() {
        let now = Instant::now();
        let mut schedule = schedule();
        let next = schedule.next_claim(false, false, now);
        schedule.found(&next, some(0), now + 100 * MS);
        let next = schedule.next_claim(false, false, now + 500 * MS);
        assert!(!next.is_far);
        schedule.found(&next, some(0), now + 501 * MS);
        assert_eq!(schedule.next_claim(false, false, now + 1000 * MS).look.back, Some(LOOK_BACK + 500 * MS), "a poll later");
        schedule.failed();
        assert_eq!(schedule.next_claim(false, false, now + 1500 * MS).look.back, Some(LOOK_BACK + 1000 * MS), "the one between failed");
    }

    #[test]
    fn the_whole_queue_is_looked_at_once_when_starting() {
        let now = Instant::now();
        let mut schedule = schedule();
        let next = schedule.next_claim(false, false, now);
        assert_eq!(next.look.back, None);
        schedule.found(&next, some(0), now + MS);
        for seconds in [1, 60, 3600] {
            assert_eq!(schedule.next_claim(false, false, now + Duration::from_secs(seconds)).look.back, Some(HORIZON));
        }
    }
}
