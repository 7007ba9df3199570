//! When to kill an action: ratios over a sliding window, or a row of 5xx.
//!
//! The leader reads only what finished since its last look and keeps counts in memory, so a
//! tick costs the same however long the history is. Memory only raises the suspicion: before
//! a trip the exact figures come from the view `actions.action_health`, so neither a late
//! row nor a restart can kill an action that the documented rule would spare.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use time::OffsetDateTime;

use super::mail;
use crate::config::{self, Config};
use crate::store::duties::{self, Figures, Finished};
use crate::store::{Database, StoreError};
use crate::telemetry::{Metrics, ReasonLabel};

/// A row may become visible so much later than the time it carries: its commit waits for a
/// flush. Each look goes back this far, and ids tell what was counted before.
const OVERLAP: Duration = Duration::from_secs(5);

/// What the leader remembers.
pub struct KillSwitch {
    actions: HashMap<String, Window>,
    seen: HashSet<String>,
    looked: tokio::time::Instant,
}

/// The counts of one action.
struct Window {
    counting_since: OffsetDateTime,
    by_second: BTreeMap<i64, Counts>,
    sum: Counts,
    streak: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    calls: u32,
    errors: u32,
    timeouts: u32,
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

impl KillSwitch {
    /// Builds the memory of a new leader from the history.
    pub async fn begin(database: &Database, limits: &config::KillSwitch) -> Result<Self, StoreError> {
        let mut this = Self { actions: HashMap::new(), seen: HashSet::new(), looked: tokio::time::Instant::now() };
        let window = Duration::from_secs(limits.window_s.into());
        for finished in duties::finished_within(database, window).await? {
            this.count(&finished);
        }
        // A row of 5xx may reach back beyond the window.
        for (action, length, counting_since) in duties::streaks(database).await? {
            this.window(&action, counting_since).streak = u32::try_from(length).unwrap_or(u32::MAX);
        }
        Ok(this)
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
        let news = duties::finished_within(database, self.looked.elapsed() + OVERLAP).await?;
        self.looked = asked;
        for finished in &news {
            self.count(finished);
        }
        self.seen = news.into_iter().map(|finished| finished.id).collect();
        let oldest = now.unix_timestamp() - i64::from(limits.window_s);
        self.actions.retain(|_, window| {
            window.slide(oldest);
            window.sum.calls > 0 || window.streak > 0
        });
        let suspects: Vec<String> =
            self.actions.iter().filter(|(_, window)| window.cause(limits).is_some()).map(|(id, _)| id.clone()).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        let figures = duties::figures(database, &suspects).await?;
        for figures in &figures {
            let exact = cause(figures.calls, figures.errors, figures.timeouts, figures.consecutive_5xx, limits);
            if let Some(cause) = exact {
                self.trip(database, epoch, figures, cause, config, metrics).await?;
            }
        }
        // What is killed, disabled or counting afresh has no past here any more.
        for suspect in suspects {
            let current = figures.iter().find(|figures| figures.action_id == suspect).map(|figures| figures.counting_since);
            if current.is_none_or(|since| self.actions.get(&suspect).is_some_and(|window| window.counting_since != since)) {
                self.actions.remove(&suspect);
            }
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
        if duties::kill(database, epoch, figures, &reason, &mail).await? {
            metrics.kills.get_or_create(&ReasonLabel { reason: cause.label() }).inc();
            tracing::warn!(action = figures.action_id, project = figures.project_id, reason, "killed");
        }
        self.actions.remove(&figures.action_id);
        Ok(())
    }

    fn window(&mut self, action: &str, counting_since: OffsetDateTime) -> &mut Window {
        let window = self.actions.entry(action.to_owned()).or_insert_with(|| Window::new(counting_since));
        if window.counting_since != counting_since {
            *window = Window::new(counting_since); // re-enabled: a fresh start
        }
        window
    }

    fn count(&mut self, finished: &Finished) {
        if self.seen.insert(finished.id.clone()) {
            self.window(&finished.action_id, finished.counting_since).count(finished);
        }
    }
}

impl Window {
    fn new(counting_since: OffsetDateTime) -> Self {
        Self { counting_since, by_second: BTreeMap::new(), sum: Counts::default(), streak: 0 }
    }

    fn count(&mut self, finished: &Finished) {
        let second = self.by_second.entry(finished.finished_at.unix_timestamp()).or_default();
        for counts in [second, &mut self.sum] {
            counts.calls += 1;
            counts.errors += u32::from(finished.is_error);
            counts.timeouts += u32::from(finished.is_timeout);
        }
        self.streak = if finished.is_5xx { self.streak.saturating_add(1) } else { 0 };
    }

    fn slide(&mut self, oldest: i64) {
        while let Some(first) = self.by_second.first_entry().filter(|first| *first.key() < oldest) {
            let gone = first.remove();
            self.sum.calls -= gone.calls;
            self.sum.errors -= gone.errors;
            self.sum.timeouts -= gone.timeouts;
        }
    }

    fn cause(&self, limits: &config::KillSwitch) -> Option<Cause> {
        cause(self.sum.calls.into(), self.sum.errors.into(), self.sum.timeouts.into(), self.streak.into(), limits)
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

    #[test]
    fn the_window_forgets_whole_seconds_and_a_success_ends_a_row() {
        let mut window = Window::new(OffsetDateTime::UNIX_EPOCH);
        for second in 0..10 {
            window.count(&Finished {
                id: second.to_string(),
                action_id: "a".to_owned(),
                finished_at: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(second),
                is_error: true,
                is_timeout: second == 0,
                is_5xx: second != 4,
                counting_since: OffsetDateTime::UNIX_EPOCH,
            });
        }
        assert_eq!((window.sum, window.streak), (Counts { calls: 10, errors: 10, timeouts: 1 }, 5));
        window.slide(3);
        assert_eq!(window.sum, Counts { calls: 7, errors: 7, timeouts: 0 });
    }
}
