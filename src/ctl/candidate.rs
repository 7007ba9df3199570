//! `actionsctl candidate …`: a change is tried before it is trusted.

use clap::{Args, Subcommand};

use super::action::Changes;
use super::{say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::{Database, candidates, schema};

/// Try a change of an action beside its current version.
#[derive(Debug, Args)]
pub struct CandidateCommand {
    /// Who does this, for the audit log.
    #[arg(long, global = true, env = "ACTIONS_ACTOR", value_name = "WHO", default_value = "actionsctl")]
    actor: String,
    /// Print JSON: an object, or an array for a list.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin to try a change: in the shadow it decides nothing, as a canary for some people.
    #[command(after_help = "A canary withdraws itself where it fails, or denies much more or less, than the current version.\n\n\
        Examples:\n  actionsctl candidate stage action_… --url https://hooks.acme.com/v2\n  \
        actionsctl candidate stage action_… --url https://hooks.acme.com/v2 --mode canary --percent 5")]
    Stage(Box<Stage>),
    /// Show what was tried, the newest first, and what came of it.
    #[command(after_help = "Example:\n  actionsctl candidate show action_… --json | jq '.[0].would_deny'")]
    Show { id: String },
    /// Make the running candidate the current version.
    #[command(after_help = "Example:\n  actionsctl candidate promote action_… --actor ada@acme.com")]
    Promote { id: String },
    /// End the running candidate; the current version stays.
    #[command(after_help = "Example:\n  actionsctl candidate withdraw action_…")]
    Withdraw { id: String },
}

#[derive(Debug, Args)]
struct Stage {
    id: String,
    /// shadow gets the same events afterwards; canary decides.
    #[arg(long, value_name = "MODE", default_value = "shadow", value_parser = ["shadow", "canary"])]
    mode: String,
    /// Of the people, so many in a hundred; always the same ones.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=100))]
    percent: i32,
    #[command(flatten)]
    changes: Changes,
}

impl CandidateCommand {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = self.command(&database).await;
        database.close();
        result
    }

    async fn command(&self, database: &Database) -> Result<(), ProgramError> {
        let actor = self.actor.as_str();
        let row = match &self.command {
            Command::Stage(stage) => {
                candidates::stage(database, &stage.id, &stage.changes.json()?, &stage.mode, stage.percent, actor).await?
            }
            Command::Promote { id } => candidates::promote(database, id, actor).await?,
            Command::Withdraw { id } => candidates::withdraw(database, id, actor).await?,
            Command::Show { id } => {
                let rows = candidates::of(database, id).await?;
                if self.json {
                    screen::json_array(&rows);
                } else if rows.is_empty() {
                    say("Nothing was tried; begin with: actionsctl candidate stage");
                }
                return if self.json { Ok(()) } else { rows.iter().try_for_each(|row| show(row)) };
            }
        };
        if self.json {
            screen::json(&row);
            return Ok(());
        }
        show(&row)
    }
}

fn show(row: &str) -> Result<(), ProgramError> {
    let row = screen::parsed(row)?;
    let text = |field: &str| screen::text(&row, field);
    let percent = if row["percent"] == 100 { String::new() } else { format!(" for {} % of the people", text("percent")) };
    let ended = screen::moment(&row, "ended_at");
    screen::fields(
        &format!("version {} of {}", text("version"), text("action_id")),
        &[
            ("tried", format!("in {} mode{percent} since {} UTC", text("mode"), screen::moment(&row, "started_at"))),
            ("state", format!("{}{}", text("state"), if ended.is_empty() { ended } else { format!(" at {ended} UTC") })),
            ("because", text("reason")),
            ("calls", format!("{}, of them {} failed; {} passed over", text("calls"), text("errors"), text("skipped"))),
            ("compared", format!("{} the same, {} differ", text("same"), text("differs"))),
            ("decisions", format!("{} would have denied, {} would have allowed", text("would_deny"), text("would_allow"))),
            (
                "took",
                if row["p50_ms"].is_null() {
                    String::new()
                } else {
                    format!("p50 {} ms, p99 {} ms", screen::ms(&row, "p50_ms"), screen::ms(&row, "p99_ms"))
                },
            ),
        ],
    );
    Ok(())
}
