//! `actionsctl fleet`: who runs, who leads, and what waits.

use clap::Args;
use serde_json::Value;

use super::screen::Tone;
use super::{say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::{health, schema};

/// Look at workers, janitors and the queue.
///
/// A process whose heartbeat is older than 15 s counts as dead; the janitor forgets it after a while.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  actionsctl fleet\n  actionsctl fleet --json | jq '.processes[] | select(.leads).host'")]
pub struct Fleet {
    /// Print one JSON object: processes and queue.
    #[arg(long)]
    json: bool,
}

impl Fleet {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let found = async { Ok((health::processes(&database).await?, health::queue(&database).await?)) }.await;
        database.close();
        let (processes, queue) = found.map_err(|error: crate::store::StoreError| ProgramError::from(error))?;
        if self.json {
            say(format_args!("{{\"processes\":[{}],\n \"queue\":{queue}}}", processes.join(",\n  ")));
            return Ok(());
        }
        print_processes(&processes)?;
        say("");
        print_queue(&screen::parsed(&queue)?);
        Ok(())
    }
}

fn print_processes(rows: &[String]) -> Result<(), ProgramError> {
    if rows.is_empty() {
        say("Nobody runs: start actions-worker and actions-janitor.");
        return Ok(());
    }
    say(screen::bold(&format!("{:<7}  {:<30}  {:<10}  {:>9}  {:>9}", "kind", "host", "version", "in flight", "heartbeat")));
    for row in rows {
        let row = screen::parsed(row)?;
        let (tone, word) = match (row["alive"] == true, row["leads"] == true) {
            (false, _) => (Tone::Bad, "  dead"),
            (true, true) => (Tone::Well, "  leads"),
            (true, false) => (Tone::Well, ""),
        };
        say(format_args!(
            "{:<7}  {:<30}  {:<10}  {:>9}  {:>9}{}",
            screen::text(&row, "kind"),
            screen::short(&format!("{}:{}", screen::text(&row, "host"), screen::text(&row, "pid")), 30),
            screen::short(&screen::text(&row, "version"), 10),
            screen::text(&row, "in_flight"),
            screen::age(row["heartbeat_age_s"].as_f64().unwrap_or_default()),
            screen::toned(tone, word)
        ));
    }
    Ok(())
}

fn print_queue(row: &Value) {
    let text = |field: &str| screen::text(row, field);
    let late = row["past_deadline"].as_i64().unwrap_or_default() > 0;
    let tone = if late { Tone::Warning } else { Tone::Well };
    screen::fields(
        "queue",
        &[
            ("queued", format!("{}, the oldest for {} ms", text("queued"), screen::ms(row, "oldest_queued_ms"))),
            ("running", text("running")),
            ("overdue", screen::toned(tone, &text("past_deadline"))),
            ("last minute", format!("{} finished, {} of them expired", text("finished_last_minute"), text("expired_last_minute"))),
            ("mails", format!("{} wait", text("mails_waiting"))),
        ],
    );
}
