//! When calls to unrelated customers fail at once, the fault is the fleet's own network, and nobody
//! is killed for it.
//!
//! The question is asked of the last seconds, and of each moment among them since when it may have
//! begun: what went well just before an outage does not hide it, and what was killed in its first
//! second would be killed wrongly.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use time::OffsetDateTime;

use crate::store::leader::{self, Counts};
use crate::store::{Database, StoreError};
use crate::telemetry::Metrics;

/// An outage is over when it can no longer be found in so many seconds.
pub const LOOK_BACK_S: i64 = 30;
/// So many customers who have nothing to do with each other are no coincidence.
const CUSTOMERS: usize = 3;

/// What may be an outage, as far as counts tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Suspicion<'a> {
    /// Its first second, since 1970.
    since: i64,
    tried: u32,
    unreached: u32,
    /// Most of whose calls failed.
    actions: Vec<&'a str>,
}

/// Looks among the last seconds for times up to now, the longest last, in which most calls did not
/// reach their endpoint, and most of each of enough actions. All of them: what one customer fails
/// for long must not hide what fails everywhere since a moment ago.
pub fn find<'a>(seconds: impl Iterator<Item = (&'a str, i64, &'a Counts)> + Clone) -> Vec<Suspicion<'a>> {
    let mut suspicions = Vec::new();
    if !seconds.clone().any(|(_, _, counts)| counts.unreached > 0) {
        return suspicions;
    }
    let mut by_second: BTreeMap<i64, Vec<(&str, &Counts)>> = BTreeMap::new();
    for (action, second, counts) in seconds.filter(|(_, _, counts)| counts.tried > 0) {
        by_second.entry(second).or_default().push((action, counts));
    }
    let mut by_action: HashMap<&str, (u32, u32)> = HashMap::new();
    let (mut tried, mut unreached, mut failing) = (0, 0, 0usize);
    let fails = |(tried, unreached): (u32, u32)| 2 * unreached > tried;
    for (second, counts) in by_second.iter().rev() {
        for (action, counts) in counts {
            let sums = by_action.entry(action).or_default();
            failing -= usize::from(fails(*sums));
            *sums = (sums.0 + counts.tried, sums.1 + counts.unreached);
            failing += usize::from(fails(*sums));
            tried += counts.tried;
            unreached += counts.unreached;
        }
        let begins = counts.iter().any(|(_, counts)| counts.unreached > 0);
        if begins && fails((tried, unreached)) && failing >= CUSTOMERS {
            let actions = by_action.iter().filter(|(_, sums)| fails(**sums)).map(|(action, _)| *action).collect();
            suspicions.push(Suspicion { since: *second, tried, unreached, actions });
        }
    }
    suspicions
}

/// How many customers it takes to explain these failures, where one host or one project is one
/// customer: as many as there are pairs of host and project with nothing in common (König). Counts
/// no further than is asked.
fn unrelated<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    let mut hosts: HashMap<&str, Vec<&str>> = HashMap::new();
    for (host, project) in pairs {
        hosts.entry(host).or_default().push(project);
    }
    let mut host_of = HashMap::new();
    hosts.keys().filter(|host| pair(host, &hosts, &mut host_of, &mut HashSet::new())).take(CUSTOMERS).count()
}

/// Finds a project for a host, and another for the host that had it.
fn pair<'a>(
    host: &'a str,
    hosts: &HashMap<&'a str, Vec<&'a str>>,
    host_of: &mut HashMap<&'a str, &'a str>,
    asked: &mut HashSet<&'a str>,
) -> bool {
    hosts[host].iter().any(|project| {
        asked.insert(project) && host_of.get(project).copied().is_none_or(|other| pair(other, hosts, host_of, asked)) && {
            host_of.insert(project, host);
            true
        }
    })
}

/// Whether kills are held, as this leader knows.
#[derive(Debug, Default)]
pub struct Hold {
    since: Option<OffsetDateTime>,
}

impl Hold {
    /// Goes on where the leader before stopped.
    pub async fn resume(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { since: leader::held(database).await? })
    }

    /// Holds kills where there is an outage, frees them where there is none any more. True where
    /// it began just now: then what was counted since must be counted again.
    pub async fn judge(
        &mut self,
        database: &Database,
        epoch: i64,
        suspicions: &[Suspicion<'_>],
        metrics: &Metrics,
    ) -> Result<bool, StoreError> {
        let suspects: BTreeSet<&str> = suspicions.iter().flat_map(|suspicion| suspicion.actions.iter().copied()).collect();
        let customers = if suspects.is_empty() { HashMap::new() } else { leader::customers(database, &suspects).await? };
        let of = |suspicion: &Suspicion| -> Vec<(&str, &str)> {
            suspicion
                .actions
                .iter()
                .filter_map(|action| customers.get(*action))
                .map(|(host, project)| (host.as_str(), project.as_str()))
                .collect()
        };
        let outage = suspicions.iter().rev().find(|suspicion| unrelated(of(suspicion).into_iter()) >= CUSTOMERS);
        let mut began = false;
        match (self.since, outage) {
            (None, Some(outage)) => {
                let since = OffsetDateTime::from_unix_timestamp(outage.since).unwrap_or(OffsetDateTime::UNIX_EPOCH);
                let (hosts, projects): (HashSet<&str>, HashSet<&str>) = of(outage).into_iter().unzip();
                let why = format!(
                    "{} of {} calls did not reach their endpoint, on {} hosts of {} projects",
                    outage.unreached,
                    outage.tried,
                    hosts.len(),
                    projects.len()
                );
                began = leader::hold_kills(database, epoch, since, &why).await?;
                if began {
                    self.since = Some(since);
                    tracing::error!(why, "kills are held: the fault is the fleet's network or resolver; see actions.fleet_health");
                }
            }
            (Some(_), None) => {
                if leader::free_kills(database, epoch).await? {
                    tracing::info!("kills are free again");
                }
                self.since = None;
            }
            _ => {}
        }
        metrics.kills_held.set(i64::from(self.since.is_some()));
        Ok(began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(calls: &[(&'static str, i64, u32, u32)]) -> Option<(i64, u32, usize)> {
        let counts: Vec<(&str, i64, Counts)> = calls
            .iter()
            .map(|&(action, second, tried, unreached)| (action, second, Counts { tried, unreached, ..Counts::default() }))
            .collect();
        let found = find(counts.iter().map(|(action, second, counts)| (*action, *second, counts)));
        found.last().map(|longest| (longest.since, longest.unreached, longest.actions.len()))
    }

    #[test]
    fn an_outage_is_found_in_its_first_second_however_well_all_went_before() {
        let mut calls: Vec<_> = (70..99).flat_map(|second| ["a", "b", "c", "d"].map(|action| (action, second, 100, 0))).collect();
        assert_eq!(outage(&calls), None);
        calls.extend(["a", "b", "c"].map(|action| (action, 99, 2, 2)));
        assert_eq!(outage(&calls), Some((99, 6, 3)));
        calls.push(("d", 99, 6, 0));
        assert_eq!(outage(&calls), None, "half is not most");
    }

    #[test]
    fn two_actions_are_no_outage_and_neither_are_three_among_many() {
        assert_eq!(outage(&[("a", 9, 9, 9), ("b", 9, 9, 9)]), None);
        assert_eq!(outage(&[("a", 9, 9, 9), ("b", 9, 9, 9), ("c", 9, 9, 9), ("d", 9, 28, 0)]), None);
        assert_eq!(outage(&[("a", 9, 99, 99), ("b", 9, 1, 1), ("c", 9, 2, 1)]), None, "one that fails, one call, and one that half works");
    }

    #[test]
    fn one_project_and_one_host_explain_all_that_has_to_do_with_them() {
        let customers = |pairs: &[(&'static str, &'static str)]| unrelated(pairs.iter().copied());
        assert_eq!(customers(&[("h1", "p"), ("h2", "p"), ("h3", "p"), ("h4", "p")]), 1);
        assert_eq!(customers(&[("h", "p1"), ("h", "p2"), ("h", "p3")]), 1);
        assert_eq!(customers(&[("h1", "p"), ("h2", "p"), ("h3", "p"), ("h", "p1"), ("h", "p2"), ("h", "p3")]), 2);
        assert_eq!(customers(&[("h1", "p1"), ("h2", "p1"), ("h1", "p2"), ("h3", "p3")]), 3);
    }
}
