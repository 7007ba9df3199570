//! `actionsctl version`

use clap::Args;
use serde_json::json;

use super::say;
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::schema;

/// Say which release this is, which schema it brings, and whom the database's schema serves.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  actionsctl version --json")]
pub struct Version {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Version {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let (program, schema) = (schema::RELEASE, schema::expected_version());
        let oldest_program = oldest_program(config).await;
        if self.json {
            say(json!({"program": program, "schema": schema, "oldest_program": oldest_program}));
            return Ok(());
        }
        say(format_args!("program         {program}"));
        say(format_args!("schema          {schema}"));
        say(format_args!("oldest program  {}", oldest_program.as_deref().unwrap_or("unknown: no database with a schema is at hand")));
        Ok(())
    }
}

/// What the database says; nothing where there is none.
async fn oldest_program(config: &Config) -> Option<String> {
    config.database.url.as_ref()?;
    let database = super::database(config).ok()?;
    let version = schema::version(&database).await;
    database.close();
    version.ok().map(|(_, oldest)| oldest)
}
