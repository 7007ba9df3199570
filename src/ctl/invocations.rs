//! `actionsctl invocations …`: what was sent, and what became of it.

use std::collections::HashSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::action::parsed;
use super::{say, screen};
use crate::config::Config;
use crate::domain::Status;
use crate::program::{self, ProgramError};
use crate::store::control::{self, Wanted};
use crate::store::{Database, schema};

/// How often `tail` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far back it looks each time: a commit may become visible later than its time says.
const LOOK_BACK_MS: f64 = 5000.0;

/// Look at invocations.
#[derive(Debug, Args)]
pub struct Invocations {
    /// Print JSON: an object, an array for a list, a line each for tail.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the newest.
    #[command(after_help = "Example:\n  actionsctl invocations list --action action_… --status timeout -n 50")]
    List {
        /// Only of this action.
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only of this project.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Only with this status.
        #[arg(long, value_name = "STATUS", value_parser = statuses())]
        status: Option<String>,
        /// How many, 1 to 10000.
        #[arg(short, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        n: i32,
    },
    /// Show one with everything that is known of it.
    #[command(after_help = "Example:\n  actionsctl invocations show inv_…")]
    Show { id: String },
    /// Follow what ends, until Ctrl-C.
    #[command(after_help = "Example:\n  actionsctl invocations tail --action action_… --json | jq .error")]
    Tail {
        /// Only of this action.
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
    },
}

/// Every status that an invocation can have.
fn statuses() -> Vec<&'static str> {
    ["queued", "running"].into_iter().chain(Status::ALL.iter().map(|status| status.as_str())).collect()
}

impl Invocations {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = match &self.command {
            Command::List { action, project, status, n } => {
                let wanted = Wanted { action: action.as_deref(), project: project.as_deref(), status: status.as_deref(), most: *n };
                self.list(&control::invocations(&database, &wanted).await?)
            }
            Command::Show { id } => self.show(&database, id).await,
            Command::Tail { action } => tokio::select! {
                result = self.tail(&database, action.as_deref()) => result,
                () = program::stop_signal() => Ok(()),
            },
        };
        database.close();
        result
    }

    fn list(&self, rows: &[String]) -> Result<(), ProgramError> {
        if self.json {
            screen::json_array(rows);
            return Ok(());
        }
        if rows.is_empty() {
            say("There is no such invocation within the retention.");
        } else {
            say(screen::bold(HEAD));
        }
        for row in rows {
            line(&parsed(row)?);
        }
        Ok(())
    }

    async fn show(&self, database: &Database, id: &str) -> Result<(), ProgramError> {
        let unknown = || ProgramError::Usage(format!("there is no invocation {id:?} within the retention"));
        let row = control::invocation(database, id).await?.ok_or_else(unknown)?;
        if self.json {
            screen::json(&row);
        } else {
            print(&parsed(&row)?);
        }
        Ok(())
    }

    async fn tail(&self, database: &Database, action: Option<&str>) -> Result<(), ProgramError> {
        // What ended before is not followed.
        let mut seen: HashSet<String> = HashSet::new();
        let mut is_first = true;
        if !self.json {
            say(screen::bold(HEAD));
        }
        loop {
            let rows = match control::finished(database, LOOK_BACK_MS, action).await {
                Ok(rows) => rows,
                Err(error) if error.is_unreachable() => {
                    eprintln!("actionsctl: {error}; still trying");
                    tokio::time::sleep(LOOK_EVERY * 4).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut present = HashSet::with_capacity(rows.len());
            for row in &rows {
                let value = parsed(row)?;
                let id = screen::text(&value, "invocation_id");
                if !is_first && !seen.contains(&id) {
                    if self.json { screen::json(row) } else { line(&value) }
                }
                present.insert(id);
            }
            seen = present;
            is_first = false;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

const HEAD: &str = "time      status             http        ms  invocation";

fn line(row: &Value) {
    let text = |field: &str| screen::text(row, field);
    let status = text("status");
    let is_well = ["ok", "rejected", "queued", "running"].contains(&status.as_str());
    let at = screen::moment(row, if row["finished_at"].is_null() { "enqueued_at" } else { "finished_at" });
    say(format_args!(
        "{:<8}  {}  {:>4}  {:>8}  {}",
        at.get(11..).unwrap_or_default(),
        screen::verdict(is_well, &format!("{status:<17}")),
        text("http_status"),
        screen::ms(row, "duration_ms"),
        text("invocation_id")
    ));
}

/// One invocation with everything that is known of it.
pub(super) fn print(row: &Value) {
    let text = |field: &str| screen::text(row, field);
    let with_unit = |field: &str| {
        let ms = screen::ms(row, field);
        if ms.is_empty() { ms } else { format!("{ms} ms") }
    };
    let deny = [text("deny_code"), text("deny_reason")];
    screen::fields(
        &text("invocation_id"),
        &[
            ("status", text("status")),
            ("decision", text("decision")),
            ("error", text("error")),
            ("deny", deny.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(": ")),
            ("dropped", text("dropped")),
            ("outcome", text("outcome")),
            ("event", text("event_id")),
            ("action", format!("{} version {}", text("action_id"), text("action_version"))),
            ("project", text("project_id")),
            ("trigger", text("trigger")),
            ("test", if row["test"] == true { "yes".to_owned() } else { String::new() }),
            ("http", text("http_status")),
            ("call", with_unit("duration_ms")),
            ("of it, ms", text("phases")),
            ("queued for", with_unit("queue_ms")),
            ("response", text("response_sha256")),
            ("enqueued", screen::moment(row, "enqueued_at")),
            ("finished", screen::moment(row, "finished_at")),
            ("worker", text("worker")),
        ],
    );
}
