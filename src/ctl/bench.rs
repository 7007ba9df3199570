//! `actionsctl bench`: how fast this fleet is, with test events on the real path.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::action::{ASK_EVERY, late};
use super::{say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::{Database, control, schema};

/// Measure the fleet with test events for one action.
///
/// Test events carry metadata.test = true and never count for the kill-switch. What is
/// measured is what the database wrote down: from enqueue to the final row, the call alone,
/// and the difference, which is the fleet's.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  actionsctl bench action_… --events 200 --at-once 8\n\nAgainst other queues and the bare call, on a machine of your own: ops/bench."
)]
pub struct Bench {
    /// The action whose endpoint is called.
    id: String,
    /// How many events, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    events: u32,
    /// How many of them at a time, 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = self.measure(&database).await;
        database.close();
        result
    }

    async fn measure(&self, database: &Database) -> Result<(), ProgramError> {
        let started = Instant::now();
        let mut running = JoinSet::new();
        let mut rows = Vec::new();
        for _ in 0..self.events {
            if running.len() >= self.at_once as usize {
                rows.push(joined(running.join_next().await)?);
            }
            running.spawn(one(database.clone(), self.id.clone()));
        }
        while let Some(row) = running.join_next().await {
            rows.push(joined(Some(row))?);
        }
        let took = started.elapsed();
        let good = rows.iter().filter(|row| ["ok", "rejected"].contains(&screen::text(row, "status").as_str())).count();
        let columns = [
            ("whole", column(&rows, |row| row["whole_ms"].as_f64())),
            ("call", column(&rows, |row| row["duration_ms"].as_f64())),
            ("fleet", column(&rows, |row| Some(row["whole_ms"].as_f64()? - row["duration_ms"].as_f64()?))),
        ];
        if self.json {
            let mut result = json!({"events": rows.len(), "answered": good, "seconds": took.as_secs_f64()});
            for (name, sorted) in &columns {
                result[name] = json!({"p50_ms": quantile(sorted, 0.5), "p90_ms": quantile(sorted, 0.9), "p99_ms": quantile(sorted, 0.99)});
            }
            screen::json(&result.to_string());
        } else {
            say(format_args!("{} events, {good} answered, in {:.1} s", rows.len(), took.as_secs_f64()));
            say(screen::bold("            p50 ms    p90 ms    p99 ms"));
            for (name, sorted) in &columns {
                let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| quantile(sorted, share).unwrap_or_default());
                say(format_args!("  {name:<6}  {p50:>8.2}  {p90:>8.2}  {p99:>8.2}"));
            }
        }
        if good == rows.len() {
            return Ok(());
        }
        Err(ProgramError::Failed(format!("{} events ended without a verdict; see: actionsctl invocations list", rows.len() - good)))
    }
}

fn joined(row: Option<Result<Result<Value, ProgramError>, tokio::task::JoinError>>) -> Result<Value, ProgramError> {
    match row {
        Some(Ok(row)) => row,
        Some(Err(error)) => Err(ProgramError::Failed(error.to_string())),
        None => Err(ProgramError::Failed("an event was lost".to_owned())),
    }
}

/// One event from enqueue to its final row.
async fn one(database: Database, id: String) -> Result<Value, ProgramError> {
    let (invocation, wait_ms) = control::send_test(&database, &id).await?;
    let last = Instant::now() + Duration::from_millis(wait_ms.unsigned_abs().into()) + Duration::from_secs(2);
    loop {
        if let Some(row) = control::measured(&database, &invocation).await? {
            return screen::parsed(&row);
        }
        if Instant::now() > last {
            return Err(late(&invocation));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn column(rows: &[Value], of: impl Fn(&Value) -> Option<f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = rows.iter().filter_map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which that share of the sorted ones lies.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_of_no_numbers() {
        assert_eq!([0.0, 0.5, 0.99].map(|share| quantile(&[1.0, 2.0, 3.0], share)), [Some(1.0), Some(2.0), Some(3.0)]);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
