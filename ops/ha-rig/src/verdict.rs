//! Whether the promises held.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use sqlx::PgPool;

use crate::Site;
use crate::load::Seen;

/// How soon every program serves again, once the new primary answers.
const SOON: Duration = Duration::from_secs(3);
/// Nothing is undecided for longer when everything is quiet.
const QUIET: Duration = Duration::from_secs(20);

pub struct Verdict {
    requests: usize,
    /// Requests for an event that was sent before.
    twice: usize,
    acknowledged: usize,
    /// Acknowledged, and not known any more.
    lost: usize,
    undecided: i64,
    told: usize,
    /// Somebody acted on an outcome that the history does not have.
    contradicted: usize,
    late: usize,
    rounds: usize,
    longest: Duration,
}

pub async fn judge(site: &Site, rounds: &[Duration], seen: &Seen) -> Verdict {
    let ops = &site.stack.ops;
    let undecided = settle(ops).await;
    let rows: Vec<(String, Option<Value>)> =
        sqlx::query_as("select invocation_id, outcome::jsonb from actions.recent_invocations").fetch_all(ops).await.expect("the history");
    let known: std::collections::HashMap<String, Option<Value>> = rows.into_iter().collect();
    let requests = site.stack.endpoint.requests();
    let events: HashSet<&str> = requests.iter().map(|request| request.header("authio-event-id")).collect();
    let is_contradicted = |(id, outcome): &(&String, &String)| {
        let told: Value = serde_json::from_str(outcome).unwrap_or_default();
        known.get(*id).is_none_or(|outcome| outcome.as_ref() != Some(&told))
    };
    Verdict {
        requests: requests.len(),
        twice: requests.len() - events.len(),
        acknowledged: seen.acknowledged.len(),
        lost: seen.acknowledged.iter().filter(|id| !known.contains_key(*id)).count(),
        undecided,
        told: seen.told.len(),
        contradicted: seen.told.iter().filter(is_contradicted).count(),
        late: rounds.iter().filter(|back| **back > SOON).count(),
        rounds: rounds.len(),
        longest: rounds.iter().copied().max().unwrap_or_default(),
    }
}

async fn settle(ops: &PgPool) -> i64 {
    let began = tokio::time::Instant::now();
    let mut turns = tokio::time::interval(Duration::from_millis(100));
    loop {
        turns.tick().await;
        let undecided = "select count(*) from actions.recent_invocations where finished_at is null";
        let undecided: i64 = sqlx::query_scalar(undecided).fetch_one(ops).await.unwrap_or(1);
        if undecided == 0 || began.elapsed() > QUIET {
            return undecided;
        }
    }
}

impl Verdict {
    pub fn holds(&self, is_asynchronous: bool) -> bool {
        self.late == 0 && self.twice == 0 && self.undecided == 0 && (is_asynchronous || self.lost + self.contradicted == 0)
    }

    pub fn print(&self, is_asynchronous: bool) {
        println!();
        println!(
            "  served again within 3 s      {} of {}, the longest {:.2} s",
            self.rounds - self.late,
            self.rounds,
            self.longest.as_secs_f64()
        );
        println!("  sent to the endpoint         {} events, {} of them twice", self.requests, self.twice);
        println!("  acknowledged on disk         {} events, {} of them lost", self.acknowledged, self.lost);
        println!("  outcomes acted on            {}, {} not in the history", self.told, self.contradicted);
        println!("  without an outcome           {}", self.undecided);
        if is_asynchronous && self.lost + self.contradicted > 0 {
            println!("\nThat is what standbys that lag may cost; with synchronous ones it is 0.");
        }
        println!("\n{}", if self.holds(is_asynchronous) { "Everything holds." } else { "NOT everything holds." });
    }
}
