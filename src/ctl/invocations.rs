//! `actionsctl invocations …`: what was sent, and what became of it.

use std::collections::HashSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::screen::Tone;
use super::{arguments, say, screen};
use crate::config::Config;
use crate::program::{self, ProgramError};
use crate::store::control::{self, Since, Wanted};
use crate::store::{Database, schema};

/// How often `tail` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far back it looks each time: a commit may become visible later than its time says.
const LOOK_BACK: Since = Since::Ago(Duration::from_secs(5));
/// How many it reads at a time. More than one statement writes with the same moment, so each page
/// goes on from a later one.
const PAGE: i32 = 10_000;

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
    #[command(after_help = "Examples:\n  actionsctl invocations list --action action_… --status timeout -n 50\n  \
            actionsctl invocations list --project proj_acme_prod --since 2h\n  \
            actionsctl invocations list --event evt_…")]
    List {
        /// Only of this action.
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only of this project.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Those of one event, by the id that its endpoint received.
        #[arg(long, value_name = "EVENT", conflicts_with_all = ["action", "project", "status", "since", "n"])]
        event: Option<String>,
        /// Only with this status.
        #[arg(long, value_name = "STATUS", value_parser = arguments::status())]
        status: Option<String>,
        /// Only what was enqueued from then on: 30m, 2h or 7d ago, or a moment of RFC 3339.
        #[arg(long, value_name = "WHEN", value_parser = arguments::since)]
        since: Option<Since>,
        /// How many, 1 to 10000.
        #[arg(short, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        n: i32,
    },
    /// Show one with everything that is known of it.
    #[command(after_help = "Example:\n  actionsctl invocations show inv_…")]
    Show { id: String },
    /// Follow what ends, until Ctrl-C.
    #[command(after_help = "Examples:\n  actionsctl invocations tail --action action_… --json | jq .error\n  \
            actionsctl invocations tail --since 30m")]
    Tail {
        /// Only of this action.
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Begin with what ended from then on: 30m, 2h or 7d ago, or a moment of RFC 3339.
        #[arg(long, value_name = "WHEN", value_parser = arguments::since)]
        since: Option<Since>,
    },
}

impl Invocations {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = match &self.command {
            Command::List { event: Some(event), .. } => self.list(&control::of_event(&database, event).await?),
            Command::List { action, project, status, since, n, event: None } => {
                let since = since.unwrap_or_default();
                let wanted = Wanted { action: action.as_deref(), project: project.as_deref(), status: status.as_deref(), since, most: *n };
                self.list(&control::invocations(&database, &wanted).await?)
            }
            Command::Show { id } => self.show(&database, id).await,
            Command::Tail { action, since } => tokio::select! {
                result = self.tail(&database, action.as_deref(), *since) => result,
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
        let rows = rows.iter().map(|row| screen::parsed(row)).collect::<Result<Vec<_>, _>>()?;
        let is_mixed = rows.windows(2).any(|pair| pair[0]["project_id"] != pair[1]["project_id"]);
        let mut lines = Lines { with_projects: is_mixed, above: String::new() };
        rows.iter().for_each(|row| lines.print(row));
        Ok(())
    }

    async fn show(&self, database: &Database, id: &str) -> Result<(), ProgramError> {
        let unknown = || ProgramError::Usage(format!("there is no invocation {id:?} within the retention"));
        let row = control::invocation(database, id).await?.ok_or_else(unknown)?;
        if self.json {
            screen::json(&row);
        } else {
            print(&screen::parsed(&row)?);
        }
        Ok(())
    }

    async fn tail(&self, database: &Database, action: Option<&str>, since: Option<Since>) -> Result<(), ProgramError> {
        // Of the look before, and of this one, which may take several pages.
        let (mut told, mut seen): (HashSet<String>, HashSet<String>) = (HashSet::new(), HashSet::new());
        // What ended before is not followed, unless somebody asks for it.
        let mut is_followed = since.is_some();
        let mut from = since.unwrap_or(LOOK_BACK);
        let mut lines = Lines { with_projects: action.is_none(), above: String::new() };
        if !self.json {
            say(screen::bold(HEAD));
        }
        loop {
            let rows = match control::finished(database, from, action, PAGE).await {
                Ok(rows) => rows,
                Err(error) if error.is_unreachable() => {
                    eprintln!("actionsctl: {error}; still trying");
                    tokio::time::sleep(LOOK_EVERY * 4).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut last = None;
            for row in &rows {
                let value = screen::parsed(row)?;
                let id = screen::text(&value, "invocation_id");
                if is_followed && !told.contains(&id) && !seen.contains(&id) {
                    if self.json { screen::json(row) } else { lines.print(&value) }
                }
                seen.insert(id);
                last = OffsetDateTime::parse(value["finished_at"].as_str().unwrap_or_default(), &Rfc3339).ok();
            }
            match last {
                // There is more: on from the last moment, of which this page may have a part.
                Some(moment) if rows.len() >= PAGE as usize && from != Since::At(moment) => from = Since::At(moment),
                _ => {
                    (from, is_followed) = (LOOK_BACK, true);
                    told = std::mem::take(&mut seen);
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }
}

const HEAD: &str = "time (UTC)          status            http    ms invocation";

/// One line an invocation, in 80 columns; where several projects are mixed, its project above it,
/// where it is another than before.
struct Lines {
    with_projects: bool,
    above: String,
}

impl Lines {
    fn print(&mut self, row: &Value) {
        let text = |field: &str| screen::text(row, field);
        let project = text("project_id");
        if self.with_projects && project != self.above {
            say(screen::bold(&screen::short(&project, 80)));
            self.above = project;
        }
        let status = text("status");
        let is_well = ["ok", "rejected", "queued", "running"].contains(&status.as_str());
        let ms = row["duration_ms"].as_f64().map(|ms| if ms < 999.95 { format!("{ms:.1}") } else { format!("{ms:.0}") });
        say(format_args!(
            "{} {} {:>4} {:>5} {}",
            screen::moment(row, if row["finished_at"].is_null() { "enqueued_at" } else { "finished_at" }),
            screen::toned(Tone::of(is_well), &format!("{status:<17}")),
            text("http_status"),
            ms.unwrap_or_default(),
            text("invocation_id")
        ));
    }
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
