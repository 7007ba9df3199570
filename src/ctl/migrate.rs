//! `actionsctl migrate`

use clap::Args;
use serde_json::json;

use super::say;
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::schema;

/// Bring the database's schema to this program's version.
///
/// The login must own the database and may create roles. Running it again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ACTIONS_DATABASE__URL=postgres://owner@db.internal/authio actionsctl migrate")]
pub struct Migrate {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let tell = |version: i64, name: &str| {
            if !self.json {
                say(format_args!("  {version:>4}  {name}"));
            }
        };
        let schema::Migrated { from, to } = schema::migrate(&config.database, tell).await?;
        match (self.json, from == to) {
            (true, _) => say(json!({"from": from, "to": to})),
            (false, true) => say(format_args!("The schema is at version {to} already.")),
            (false, false) => say(format_args!("The schema went from version {from} to {to}.")),
        }
        Ok(())
    }
}
