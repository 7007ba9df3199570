//! When to kill an action: ratios over a sliding window, or a row of 5xx.
//!
//! The leader reads only the last seconds, added up by the database, and keeps counts in
//! memory, so a tick costs the same however long the history is. Memory never counts too little,
//! but it only raises the suspicion: before a trip the exact figures come from the view
//! `kill_figures`, so neither a late row nor a restart can kill an action that the documented
//! rule would spare.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use time::OffsetDateTime;

use super::outage::{self, Hold};
use super::{horizon, mail};
use crate::config::{self, Config};
use crate::store::leader::{self, Counts, Figures, Second};
use crate::store::{Database, StoreError, trying};
use crate::telemetry::{Metrics, ReasonLabel};

/// A row becomes visible later than the time it carries: its commit waits for a flush. Each look
/// reads this much again and replaces what it counted before.
const OVERLAP: Duration = Duration::from_secs(1);
/// One look in so many reads more again, for commits that a busy disk held up.
const LONG_OVERLAP: Duration = Duration::from_secs(4);
const LONG_EVERY: u32 = 15;
/// So much of a condition is close to a kill.
const CLOSE: f64 = 0.7;
/// Who was warned hears no more of it for so long.
const WARN_EVERY: Duration = Duration::from_secs(3600);
/// Somebody warned within the hour; when that was, the database knows.
const WARNED_BEFORE: Duration = Duration::from_secs(60);
/// Where memory counts more than the history, it is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Actions that a new leader looks at with each tick, until it has seen all.
const SWEEP: i32 = 250;

/// What the leader remembers.
pub struct KillSwitch {
    actions: HashMap<String, Window>,
    looked: tokio::time::Instant,
    looks: u32,
    /// A row of 5xx may reach back beyond the window. A new leader looks for such rows a few actions
    /// a tick, up to the last; the id is that of the last one looked at.
    sweep: Option<String>,
    hold: Hold,
    /// Actions that are close to a kill, and when to look at them again.
    close: HashMap<String, tokio::time::Instant>,
}

/// The counts of one action.
#[derive(Default)]
struct Window {
    /// Since when the action counts, as far as that was seen.
    since: i64,
    by_second: BTreeMap<i64, Counts>,
    sum: Counts,
    /// The row of 5xx with which the seconds before `by_second` ended.
    row_before: u32,
}

/// Which condition trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Consecutive5xx,
    TimeoutRatio,
    ErrorRatio,
}

impl Cause {
    fn label(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::TimeoutRatio => "timeout_ratio",
            Self::ErrorRatio => "error_ratio",
        }
    }

    fn words(self, figures: &Figures, limits: &config::KillSwitch) -> String {
        let window = limits.window_s;
        match self {
            Self::Consecutive5xx => format!("{} consecutive 5xx responses", figures.consecutive_5xx),
            Self::TimeoutRatio => format!(
                "timeout rate {:.0} % over the trailing {window} s ({} of {} calls)",
                figures.timeout_ratio * 100.0,
                figures.timeouts,
                figures.calls
            ),
            Self::ErrorRatio => format!(
                "error rate {:.0} % over the trailing {window} s ({} of {} calls)",
                figures.error_ratio * 100.0,
                figures.errors,
                figures.calls
            ),
        }
    }
}

/// The rule: strictly above a ratio with enough samples, or a full row of 5xx.
fn cause(calls: i64, errors: i64, timeouts: i64, streak: i64, limits: &config::KillSwitch) -> Option<Cause> {
    let above = |count: i64, ratio: f64| calls >= i64::from(limits.min_samples) && count as f64 > ratio * calls as f64;
    if streak >= i64::from(limits.consecutive_5xx) {
        Some(Cause::Consecutive5xx)
    } else if above(timeouts, limits.timeout_ratio) {
        Some(Cause::TimeoutRatio)
    } else if above(errors, limits.error_ratio) {
        Some(Cause::ErrorRatio)
    } else {
        None
    }
}

/// The condition of which seven tenths are reached: at or above them, with enough samples.
fn closeness(calls: i64, errors: i64, timeouts: i64, streak: i64, limits: &config::KillSwitch) -> Option<Cause> {
    let reaches =
        |count: i64, ratio: f64| calls >= i64::from(limits.min_samples) && count > 0 && count as f64 >= CLOSE * ratio * calls as f64 - 1e-9;
    if streak > 0 && streak as f64 >= CLOSE * f64::from(limits.consecutive_5xx) - 1e-9 {
        Some(Cause::Consecutive5xx)
    } else if reaches(timeouts, limits.timeout_ratio) {
        Some(Cause::TimeoutRatio)
    } else if reaches(errors, limits.error_ratio) {
        Some(Cause::ErrorRatio)
    } else {
        None
    }
}

impl KillSwitch {
    /// Builds the memory of a new leader from the history.
    pub async fn begin(database: &Database, limits: &config::KillSwitch) -> Result<Self, StoreError> {
        let looked = tokio::time::Instant::now();
        let hold = Hold::resume(database).await?;
        let mut this = Self { actions: HashMap::new(), looked, looks: 0, sweep: Some(String::new()), hold, close: HashMap::new() };
        let window = Duration::from_secs(limits.window_s.into());
        for second in leader::recent_seconds(database, window).await? {
            this.count(second);
        }
        Ok(this)
    }

    /// Looks for rows of 5xx among the next few actions.
    async fn sweep(&mut self, database: &Database) -> Result<(), StoreError> {
        let Some(after) = &self.sweep else { return Ok(()) };
        let next = leader::streaks(database, after, SWEEP).await?;
        let is_last = next.len() < usize::try_from(SWEEP).unwrap_or_default();
        self.sweep = next.last().map(|(action, ..)| action.clone()).filter(|_| !is_last);
        for (action, length, since) in next.into_iter().filter(|(_, length, _)| *length > 0) {
            let window = self.actions.entry(action).or_default();
            window.since = window.since.max(since);
            window.row_before = u32::try_from(length).unwrap_or(u32::MAX).saturating_sub(window.row_of_5xx()).max(window.row_before);
        }
        Ok(())
    }

    /// Looks at what finished since, and trips what must trip.
    pub async fn tick(
        &mut self,
        database: &Database,
        epoch: i64,
        now: OffsetDateTime,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<(), StoreError> {
        let limits = &config.kill_switch;
        let asked = tokio::time::Instant::now();
        self.looks = (self.looks + 1) % LONG_EVERY;
        let overlap = if self.looks == 0 { LONG_OVERLAP } else { OVERLAP };
        for second in leader::recent_seconds(database, self.looked.elapsed() + overlap).await? {
            self.count(second);
        }
        self.looked = asked;
        self.sweep(database).await?;
        let oldest = now.unix_timestamp() - i64::from(limits.window_s);
        self.actions.retain(|_, window| {
            window.slide(oldest);
            !window.by_second.is_empty() || window.row_before > 0
        });
        let suspicions = outage::find(lately(&self.actions, now.unix_timestamp() - outage::LOOK_BACK_S));
        if self.hold.judge(database, epoch, &suspicions, metrics).await? {
            let close = std::mem::take(&mut self.close);
            *self = Self { close, ..Self::begin(database, limits).await? };
        }
        self.warn(database, epoch, limits).await?;
        let suspects: Vec<String> =
            self.actions.iter().filter(|(_, window)| window.cause(limits).is_some()).map(|(id, _)| id.clone()).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        let figures = leader::figures(database, &suspects).await?;
        for figures in &figures {
            let exact = cause(figures.calls, figures.errors, figures.timeouts, figures.consecutive_5xx, limits);
            let Some(cause) = exact else { continue };
            match self.trip(database, epoch, figures, cause, config, metrics).await {
                // Somebody who is changing this action must not spare the others.
                Err(error @ StoreError::Refused { .. }) => {
                    tracing::warn!(%error, action = figures.action_id, "could not kill; the next tick tries again");
                }
                result => result?,
            }
        }
        // What is killed, disabled or deleted has no past.
        for suspect in suspects {
            if !figures.iter().any(|figures| figures.action_id == suspect) {
                self.actions.remove(&suspect);
            }
        }
        Ok(())
    }

    /// Tells of actions that are close to a kill: at most once an hour, and nobody of those that go now.
    async fn warn(&mut self, database: &Database, epoch: i64, limits: &config::KillSwitch) -> Result<(), StoreError> {
        let now = tokio::time::Instant::now();
        self.close.retain(|_, again_at| *again_at > now);
        let is_close = |window: &Window| window.is_close(limits) && window.cause(limits).is_none();
        let close: Vec<String> = self
            .actions
            .iter()
            .filter(|(id, window)| is_close(window) && !self.close.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        if close.is_empty() {
            return Ok(());
        }
        for figures in leader::figures(database, &close).await? {
            let Figures { calls, errors, timeouts, consecutive_5xx, .. } = figures;
            let exact = closeness(calls, errors, timeouts, consecutive_5xx, limits);
            let is_exact = exact.filter(|_| cause(calls, errors, timeouts, consecutive_5xx, limits).is_none());
            let mut again_in = LOOK_AGAIN;
            if let Some(close_to) = is_exact {
                let json = serde_json::json!({"calls": calls, "errors": errors, "timeouts": timeouts, "consecutive_5xx": consecutive_5xx});
                match trying::warn(database, epoch, &figures.action_id, &close_to.words(&figures, limits), &json.to_string()).await {
                    Ok(is_new) => {
                        again_in = if is_new { WARN_EVERY } else { WARNED_BEFORE };
                        if is_new {
                            tracing::info!(action = figures.action_id, "close to a kill: owners and admins are told");
                        }
                    }
                    Err(error) => tracing::warn!(%error, action = figures.action_id, "could not warn; it is tried again"),
                }
            }
            self.close.insert(figures.action_id, now + again_in);
        }
        Ok(())
    }

    async fn trip(
        &mut self,
        database: &Database,
        epoch: i64,
        figures: &Figures,
        cause: Cause,
        config: &Config,
        metrics: &Metrics,
    ) -> Result<(), StoreError> {
        let reason = cause.words(figures, &config.kill_switch);
        let mail = mail::action_killed(figures, &reason, config.dashboard.url.as_deref());
        if leader::kill(database, epoch, figures, &reason, &mail, horizon(config)).await? {
            metrics.kills.get_or_create(&ReasonLabel { reason: cause.label() }).inc();
            tracing::warn!(action = figures.action_id, project = figures.project_id, reason, "killed");
        }
        self.actions.remove(&figures.action_id);
        Ok(())
    }

    fn count(&mut self, second: Second) {
        let window = self.actions.entry(second.action_id).or_default();
        if let Some(since) = second.counting_since {
            window.start_afresh(since);
        }
        window.count(second.second, second.counts);
    }
}

/// What each action's calls came to, from a second on.
fn lately(actions: &HashMap<String, Window>, since: i64) -> impl Iterator<Item = (&str, i64, &Counts)> + Clone {
    actions.iter().flat_map(move |(id, window)| window.by_second.range(since..).map(|(second, counts)| (id.as_str(), *second, counts)))
}

impl Window {
    /// Takes a second's counts in place of what was known of it.
    fn count(&mut self, second: i64, counts: Counts) {
        let before = self.by_second.insert(second, counts).unwrap_or_default();
        self.sum.calls = self.sum.calls + counts.calls - before.calls;
        self.sum.errors = self.sum.errors + counts.errors - before.errors;
        self.sum.timeouts = self.sum.timeouts + counts.timeouts - before.timeouts;
    }

    /// Forgets, once, what was before the action was enabled again.
    fn start_afresh(&mut self, since: i64) {
        if since > self.since {
            self.slide(since + 1);
            self.row_before = 0;
            self.since = since;
        }
    }

    fn slide(&mut self, oldest: i64) {
        while let Some(first) = self.by_second.first_entry().filter(|first| *first.key() < oldest) {
            let gone = first.remove();
            self.sum.calls -= gone.calls;
            self.sum.errors -= gone.errors;
            self.sum.timeouts -= gone.timeouts;
            self.row_before = if gone.breaks_row { gone.row_of_5xx } else { self.row_before.saturating_add(gone.row_of_5xx) };
        }
    }

    /// The row of 5xx that ends with the last call.
    fn row_of_5xx(&self) -> u32 {
        let mut row = 0u32;
        for counts in self.by_second.values().rev() {
            row = row.saturating_add(counts.row_of_5xx);
            if counts.breaks_row {
                return row;
            }
        }
        row.saturating_add(self.row_before)
    }

    fn is_close(&self, limits: &config::KillSwitch) -> bool {
        closeness(self.sum.calls.into(), self.sum.errors.into(), self.sum.timeouts.into(), self.row_of_5xx().into(), limits).is_some()
    }

    fn cause(&self, limits: &config::KillSwitch) -> Option<Cause> {
        cause(self.sum.calls.into(), self.sum.errors.into(), self.sum.timeouts.into(), self.row_of_5xx().into(), limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> config::KillSwitch {
        Config::load(None, std::iter::empty()).unwrap().kill_switch
    }

    #[test]
    fn ratios_trip_strictly_above_half_and_only_with_twenty_samples() {
        assert_eq!(cause(20, 10, 0, 0, &limits()), None);
        assert_eq!(cause(20, 11, 0, 0, &limits()), Some(Cause::ErrorRatio));
        assert_eq!(cause(20, 11, 11, 0, &limits()), Some(Cause::TimeoutRatio));
        assert_eq!(cause(19, 19, 0, 0, &limits()), None);
    }

    #[test]
    fn a_row_of_a_hundred_5xx_trips_and_one_of_ninety_nine_does_not() {
        assert_eq!(cause(1000, 99, 0, 99, &limits()), None);
        assert_eq!(cause(1000, 100, 0, 100, &limits()), Some(Cause::Consecutive5xx));
    }

    fn counts(calls: u32, row_of_5xx: u32) -> Counts {
        Counts { calls, errors: row_of_5xx, row_of_5xx, breaks_row: calls > row_of_5xx, ..Counts::default() }
    }

    #[test]
    fn a_second_that_is_read_again_replaces_what_was_known_of_it() {
        let mut window = Window::default();
        window.count(7, counts(3, 3));
        window.count(8, counts(5, 2));
        window.count(8, counts(6, 3));
        assert_eq!((window.sum.calls, window.sum.errors), (9, 6));
    }

    #[test]
    fn the_window_forgets_whole_seconds_but_a_row_of_5xx_reaches_beyond_it() {
        let mut window = Window::default();
        window.count(1, counts(9, 4));
        for n in 2..10 {
            window.count(n, counts(2, 2));
        }
        window.slide(5);
        assert_eq!((window.sum.calls, window.row_of_5xx()), (10, 4 + 16));
        window.count(10, counts(1, 0));
        assert_eq!(window.row_of_5xx(), 0, "another result ends the row");
        window.count(11, counts(3, 3));
        assert_eq!(window.row_of_5xx(), 3);
    }

    #[test]
    fn an_action_that_is_enabled_again_forgets_its_past_once() {
        let mut window = Window::default();
        for n in 1..10 {
            window.count(n, counts(2, 2));
        }
        window.slide(5);
        window.start_afresh(8);
        assert_eq!((window.sum.calls, window.row_of_5xx()), (2, 2), "the second in which it was enabled is read again");
        window.count(8, counts(3, 3));
        window.slide(10);
        window.start_afresh(8);
        assert_eq!((window.sum.calls, window.row_of_5xx()), (0, 5), "a row of 5xx that began since then goes on");
    }
}
