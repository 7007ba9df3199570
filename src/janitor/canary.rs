//! When a candidate that decides for some people is withdrawn: it fails more than the current version, or it
//! decides otherwise.

use crate::store::trying::{self, Canary};
use crate::store::{Database, StoreError};
use crate::telemetry::{Metrics, ReasonLabel};

/// Calls from which on errors count.
const ENOUGH_FOR_ERRORS: i64 = 20;
/// A share of errors above this is too much, if it is more than twice the other side's.
const MOST_ERRORS: f64 = 0.05;
/// Calls of both sides from which on denies count.
const ENOUGH_FOR_DENIES: i64 = 50;
/// A share of denies may be so far from the other side's.
const FARTHEST_DENIES: f64 = 0.20;

/// Withdraws whatever must be.
pub async fn withdraw(database: &Database, epoch: i64, metrics: &Metrics) -> Result<(), StoreError> {
    for canary in trying::canaries(database).await? {
        let Some((label, why)) = verdict(&canary) else { continue };
        match trying::withdraw_canary(database, epoch, &canary, &why).await {
            Ok(true) => {
                tracing::warn!(action = canary.action_id, version = canary.version, why, "withdrew a canary");
                metrics.candidates_withdrawn.get_or_create(&ReasonLabel { reason: label }).inc();
            }
            Ok(false) => {}
            // Somebody is changing it: the next tick tries again, and the others do not wait.
            Err(error) => tracing::warn!(%error, action = canary.action_id, "could not withdraw a canary; the next tick tries again"),
        }
    }
    Ok(())
}

/// Why it must go, in a word and in a sentence.
fn verdict(canary: &Canary) -> Option<(&'static str, String)> {
    let share = |part: i64, all: i64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let (errors, other_errors) = (share(canary.errors, canary.calls), share(canary.other_errors, canary.other_calls));
    if canary.calls >= ENOUGH_FOR_ERRORS && errors > MOST_ERRORS && errors > 2.0 * other_errors {
        let Canary { errors, calls, other_errors, other_calls, .. } = canary;
        return Some(("errors", format!("{errors} of {calls} calls failed, of the current version {other_errors} of {other_calls}")));
    }
    let (denies, other_denies) = (share(canary.denies, canary.calls), share(canary.other_denies, canary.other_calls));
    let is_enough = canary.calls.min(canary.other_calls) >= ENOUGH_FOR_DENIES;
    // Floating point must not make 20 points out of a little less.
    if is_enough && (denies - other_denies).abs() > FARTHEST_DENIES + 1e-9 {
        let Canary { denies, calls, other_denies, other_calls, .. } = canary;
        return Some(("denies", format!("{denies} of {calls} calls denied, of the current version {other_denies} of {other_calls}")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(calls: i64, errors: i64, denies: i64, other: (i64, i64, i64)) -> Canary {
        let (other_calls, other_errors, other_denies) = other;
        Canary { action_id: String::new(), version: 2, calls, errors, denies, other_calls, other_errors, other_denies }
    }

    fn word(canary: &Canary) -> Option<&'static str> {
        verdict(canary).map(|(word, _)| word)
    }

    #[test]
    fn errors_count_from_twenty_calls_above_five_per_cent_and_above_twice_the_other_side() {
        for (calls, errors, other, expected) in [
            (19, 19, (0, 0, 0), None),
            (20, 1, (0, 0, 0), None),
            (20, 2, (0, 0, 0), Some("errors")),
            (100, 5, (100, 0, 0), None),
            (100, 6, (100, 0, 0), Some("errors")),
            (100, 20, (100, 10, 0), None),
            (100, 21, (100, 10, 0), Some("errors")),
        ] {
            assert_eq!(word(&canary(calls, errors, 0, other)), expected, "{errors} of {calls}, {other:?}");
        }
    }

    #[test]
    fn denies_count_from_fifty_calls_of_each_beyond_twenty_points_either_way() {
        for (calls, denies, other, expected) in [
            (49, 49, (100, 0, 0), None),
            (100, 100, (49, 0, 0), None),
            (50, 10, (50, 0, 0), None),
            (50, 11, (50, 0, 0), Some("denies")),
            (100, 30, (100, 0, 10), None),
            (100, 31, (100, 0, 10), Some("denies")),
            (50, 0, (50, 0, 11), Some("denies")),
            (50, 0, (50, 0, 10), None),
        ] {
            assert_eq!(word(&canary(calls, 0, denies, other)), expected, "{denies} of {calls}, {other:?}");
        }
    }
}
