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

    /// Numbers from 0 to 1, the same at each run.
    struct Dice(u64);

    impl Dice {
        fn falls_below(&mut self, share: f64) -> bool {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 / (1_u64 << 53) as f64) < share
        }
    }

    /// Of 10,000 candidates with these shares of errors and denies beside a version that fails in 1 and denies in
    /// 10 of 100 calls: how many are withdrawn within 500 calls, and after how many calls half of those were.
    fn simulate(errors: f64, denies: f64) -> (usize, i64) {
        const CANDIDATES: u64 = 10_000;
        let mut ends = Vec::new();
        for n in 0..CANDIDATES {
            let mut dice = Dice(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66);
            let mut seen = canary(0, 0, 0, (0, 0, 0));
            for _ in 0..500 {
                let failed = dice.falls_below(errors);
                seen.calls += 1;
                seen.errors += i64::from(failed);
                seen.denies += i64::from(!failed && dice.falls_below(denies));
                let failed = dice.falls_below(0.01);
                seen.other_calls += 1;
                seen.other_errors += i64::from(failed);
                seen.other_denies += i64::from(!failed && dice.falls_below(0.10));
                if verdict(&seen).is_some() {
                    ends.push(seen.calls);
                    break;
                }
            }
        }
        ends.sort_unstable();
        (ends.len(), ends.get(ends.len() / 2).copied().unwrap_or_default())
    }

    #[test]
    fn of_ten_thousand_candidates_good_ones_stay_and_bad_ones_go_soon() {
        for (errors, denies, at_least, at_most, soon) in [
            (0.01, 0.10, 0, 800, 500),       // as good as the current version
            (0.0, 0.10, 0, 20, 500),         // better
            (0.10, 0.10, 9_500, 10_000, 60), // fails in every tenth call
            (0.30, 0.10, 9_990, 10_000, 20),
            (0.01, 0.50, 9_990, 10_000, 60), // denies five times as many
            (0.01, 0.20, 0, 2_000, 500),     // denies twice as many, which the rule permits
        ] {
            let (withdrawn, half_after) = simulate(errors, denies);
            eprintln!("errors {errors:.2}, denies {denies:.2}: {withdrawn} of 10,000 withdrawn, half of them after {half_after} calls");
            assert!((at_least..=at_most).contains(&withdrawn), "{errors} {denies}: {withdrawn}");
            assert!(half_after <= soon, "{errors} {denies}: after {half_after}");
        }
    }
}
