//! `actionsctl migrate`

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::say;
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::migrate::{self, Migrated, Plan, Step};

/// How often it is told that a step still waits.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Bring the database's schema to this program's version, while people sign in.
///
/// The login must own the database and may create roles. It needs a direct connection and takes
/// `database.listen_url` where there is one. Running it again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ACTIONS_DATABASE__URL=postgres://owner@db.internal/authio actionsctl migrate --plan\n  \
        ACTIONS_DATABASE__URL=postgres://owner@db.internal/authio actionsctl migrate")]
pub struct Migrate {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    plan: bool,
    /// Milliseconds to wait for a lock before it is given up and tried again, 1 to 60000: for so long
    /// others may have to wait behind this.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    lock_timeout_ms: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        if self.plan {
            self.tell_plan(&migrate::plan(&config.database).await?);
            return Ok(());
        }
        let mut told: Option<(String, Instant)> = None;
        let tell = |step: Step<'_>| match step {
            Step::Waiting(what) => {
                if told.as_ref().is_none_or(|(before, at)| before != what || at.elapsed() > TELL_EVERY) {
                    told = Some((what.to_owned(), Instant::now()));
                    eprintln!("actionsctl: {what}: somebody holds a lock that is needed; trying again until it is free");
                }
            }
            Step::Tables(version, name) if !self.json => say(format_args!("  {version:>4}  {name}")),
            Step::Functions(files) if !self.json => say(format_args!("        functions and views: {files} files changed")),
            Step::Tables(..) | Step::Functions(_) => {}
        };
        let Migrated { from, to } = migrate::migrate(&config.database, Duration::from_millis(self.lock_timeout_ms), tell).await?;
        match (self.json, from == to) {
            (true, _) => say(json!({"from": from, "to": to})),
            (false, true) => say(format_args!("The schema is at version {to} already; functions, views and rights are in force.")),
            (false, false) => say(format_args!("The schema went from version {from} to {to}.")),
        }
        Ok(())
    }

    fn tell_plan(&self, plan: &Plan) {
        let Plan { from, to, tables, functions } = plan;
        if self.json {
            let tables: Vec<_> = tables.iter().map(|(version, name)| json!({"version": version, "name": name})).collect();
            say(json!({"from": from, "to": to, "tables": tables, "functions": functions}));
            return;
        }
        say(format_args!("The schema is at version {from}, this program brings {to}."));
        for (version, name) in tables {
            say(format_args!("  {version:>4}  {name}"));
        }
        if !functions.is_empty() {
            say("        functions and views are replaced; of these files the text changed:");
            functions.iter().for_each(|name| say(format_args!("          {name}")));
        }
        say("        roles and rights are brought back to what they should be");
    }
}
