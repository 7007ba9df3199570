//! `actionsctl audit …`: what was changed, killed, dropped or shown, by whom and why.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{arguments, say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::audit::{self, Wanted};
use crate::store::control::Since;
use crate::store::schema;

/// Look at what was changed, killed or shown, by whom and why.
#[derive(Debug, Args)]
pub struct Audit {
    /// Print a JSON array.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the newest audit events.
    #[command(after_help = "Examples:\n  actionsctl audit list --project proj_acme_prod --since 7d\n  \
            actionsctl audit list --event action.killed --since 2026-11-26T08:00:00Z --json")]
    List {
        /// Only of this project.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
        /// Only of this action.
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only these events, such as action.updated, action.killed or project.members_set.
        #[arg(long, value_name = "EVENT")]
        event: Option<String>,
        /// Only by this actor; system is the fleet.
        #[arg(long, value_name = "WHO")]
        actor: Option<String>,
        /// Only from then on: 30m, 2h or 7d ago, or a moment of RFC 3339.
        #[arg(long, value_name = "WHEN", value_parser = arguments::since)]
        since: Option<Since>,
        /// How many, 1 to 10000.
        #[arg(short, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        n: i32,
    },
}

impl Audit {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let Command::List { project, action, event, actor, since, n } = &self.command;
        let wanted = Wanted {
            since: since.unwrap_or_default(),
            project: project.as_deref(),
            action: action.as_deref(),
            event: event.as_deref(),
            actor: actor.as_deref(),
            most: *n,
        };
        let rows = audit::list(&database, &wanted).await;
        database.close();
        self.list(&rows?)
    }

    fn list(&self, rows: &[String]) -> Result<(), ProgramError> {
        if self.json {
            screen::json_array(rows);
            return Ok(());
        }
        if rows.is_empty() {
            say("There is no such audit event.");
        } else {
            say(screen::bold(&format!("{:<19}  {:<25}  by", "time (UTC)", "event")));
        }
        for row in rows {
            print(&screen::parsed(row)?);
        }
        Ok(())
    }
}

/// When, what and who; below it where, and what differs.
fn print(row: &Value) {
    let text = |field: &str| screen::text(row, field);
    say(format_args!("{}  {:<25}  {}", screen::moment(row, "at"), screen::short(&text("event"), 25), screen::short(&text("actor"), 32)));
    let action = text("action_id");
    let room = 59 - if action.is_empty() { 0 } else { action.chars().count() + 2 };
    let place = [screen::short(&text("project_id"), room), action];
    say(format_args!("{:21}{}", "", place.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("  ")));
    let changed = changes(&row["details"]);
    if !changed.is_empty() {
        say(format_args!("{:21}{}", "", screen::short(&changed, 59)));
    }
}

/// Why, where that is told; else `timeout_ms 2000 → 3000` for what has a before and an after.
fn changes(details: &Value) -> String {
    let Some(changed) = details["changed"].as_object() else { return screen::text(details, "reason") };
    let one = |(key, pair): (&String, &Value)| {
        format!("{} {} → {}", screen::plain(key), screen::plain(&bare(&pair[0])), screen::plain(&bare(&pair[1])))
    };
    changed.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
