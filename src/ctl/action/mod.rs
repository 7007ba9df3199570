//! `actionsctl action …`: the life of an action.

mod arguments;
mod rows;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use self::arguments::Changes;
use self::arguments::Command;
use super::{invocations, say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::control;
use crate::store::{Database, schema};

/// How often a test event is asked for.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(25);

/// Make, look at and change actions.
#[derive(Debug, Args)]
pub struct Action {
    /// Who does this, for the audit log.
    #[arg(long, global = true, env = "ACTIONS_ACTOR", value_name = "WHO", default_value = "actionsctl")]
    actor: String,
    /// Print JSON: an object, or an array for a list.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

impl Action {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = self.command(config, &database).await;
        database.close();
        result
    }

    async fn command(&self, config: &Config, database: &Database) -> Result<(), ProgramError> {
        let actor = self.actor.as_str();
        match &self.command {
            Command::Create(create) => {
                let row = control::create(database, &create.request(), actor).await?;
                self.print_with_secret(config, database, &row).await
            }
            Command::List { project } => {
                let rows = control::list(database, project.as_deref()).await?;
                if self.json {
                    screen::json_array(&rows);
                    return Ok(());
                }
                rows::print(&rows)
            }
            Command::Show { id } => self.print(&known(database, id).await?),
            Command::Update(update) => self.print(&control::update(database, &update.id, &update.changes()?, actor).await?),
            Command::Enable { id } => self.print(&control::set_enabled(database, id, true, actor).await?),
            Command::Disable { id } => self.print(&control::set_enabled(database, id, false, actor).await?),
            Command::Reenable { id } => self.print(&control::reenable(database, id, actor).await?),
            Command::Kill { id, reason } => self.print(&control::kill(database, id, reason, actor).await?),
            Command::Swap { disable, enable } => self.print(&control::swap(database, disable, enable, actor).await?),
            Command::RotateSecret { id, overlap_s, consent } => {
                let rotating = !screen::parsed(&known(database, id).await?)?["previous_secret_until"].is_null();
                if rotating {
                    consent.to("A rotation is going on: the secret from before it stops counting at once.")?;
                } else if *overlap_s == 0 {
                    consent.to("The previous secret stops counting at once.")?;
                }
                let row = control::rotate_secret(database, id, actor, *overlap_s).await?;
                self.print_with_secret(config, database, &row).await
            }
            Command::FinishRotation { id, consent } => {
                consent.to("The previous secret stops counting at once.")?;
                self.print(&control::finish_rotation(database, id, actor).await?)
            }
            Command::Secret { id } => {
                let row = screen::parsed(&known(database, id).await?)?;
                let (secret, key_id) = secret(config, database, &row).await?;
                // Before it is shown: a look that cannot be written down does not happen.
                control::note_secret_revealed(database, id, actor).await?;
                if self.json {
                    let version = &row["secret_version"];
                    screen::json(&json!({"action_id": id, "version": version, "key_id": key_id, "secret": secret}).to_string());
                } else {
                    say(secret);
                }
                Ok(())
            }
            Command::Test { id } => self.test(database, id).await,
            Command::Delete { id, consent } => {
                consent.to(&format!("{id} is deleted for good."))?;
                self.print(&control::delete(database, id, actor).await?)
            }
        }
    }

    async fn test(&self, database: &Database, id: &str) -> Result<(), ProgramError> {
        let (invocation, wait_ms) = control::send_test(database, id).await?;
        let last = Instant::now() + Duration::from_millis(wait_ms.unsigned_abs().into()) + Duration::from_secs(2);
        let outcome = loop {
            if let Some(outcome) = control::outcome(database, &invocation).await? {
                break outcome;
            }
            if Instant::now() > last {
                return Err(late(&invocation));
            }
            tokio::time::sleep(ASK_EVERY).await;
        };
        // The whole row is the operators' to read; without that right the outcome has to do.
        match control::invocation(database, &invocation).await {
            Ok(Some(row)) if self.json => screen::json(&row),
            Ok(Some(row)) => invocations::print(&screen::parsed(&row)?),
            _ => screen::json(&outcome),
        }
        let status = screen::text(&screen::parsed(&outcome)?, "status");
        if ["ok", "rejected"].contains(&status.as_str()) {
            Ok(())
        } else {
            Err(ProgramError::Failed(format!("the test ended as {status}")))
        }
    }

    fn print(&self, row: &str) -> Result<(), ProgramError> {
        if self.json {
            screen::json(row);
            return Ok(());
        }
        rows::show(&screen::parsed(row)?, None);
        Ok(())
    }

    /// The one time that a new secret is shown; without root keys here, how to see it.
    async fn print_with_secret(&self, config: &Config, database: &Database, row: &str) -> Result<(), ProgramError> {
        let value = screen::parsed(row)?;
        let secret = match secret(config, database, &value).await {
            Ok((secret, _)) => Some(secret),
            Err(error) => {
                eprintln!("actionsctl: the secret cannot be shown here: {error}");
                None
            }
        };
        if self.json {
            let secret = json!(secret).to_string();
            screen::json(&format!("{},\"secret\":{secret}}}", row.trim_end().strip_suffix('}').unwrap_or(row)));
        } else {
            rows::show(&value, secret.as_deref());
        }
        Ok(())
    }
}

async fn known(database: &Database, id: &str) -> Result<String, ProgramError> {
    let unknown = || ProgramError::Usage(format!("there is no action {id:?}; see: actionsctl action list"));
    control::show(database, id).await?.ok_or_else(unknown)
}

/// The action's current secret and its root key's id; records them if nobody has yet.
async fn secret(config: &Config, database: &Database, row: &Value) -> Result<(String, String), ProgramError> {
    let keys = config.root_keys()?;
    let id = screen::text(row, "action_id");
    let version = row["secret_version"].as_i64().and_then(|version| i32::try_from(version).ok()).unwrap_or_default();
    let mut key_id = screen::text(row, "secret_key_id");
    if key_id.is_empty() {
        let newest = keys.newest_id();
        let made = keys.derive(newest, &id, version).map(|secret| secret.fingerprint()).unwrap_or_default();
        // A worker may have been faster, with a key of its own.
        key_id = control::record_secret(database, &id, version, newest, &made).await?;
    }
    // Recorded by now, by whomever: that is what the secret must fit.
    let row = screen::parsed(&known(database, &id).await?)?;
    let lacking = || ProgramError::Failed(format!("its root key {key_id:?} is not among secrets.root_keys of this machine"));
    let secret = keys.derive(&key_id, &id, version).ok_or_else(lacking)?;
    if screen::text(&row, "secret_sha256") != secret.fingerprint() && row["secret_version"] == version {
        return Err(ProgramError::Failed(format!("the root key {key_id:?} of this machine is another than the fleet's of that name")));
    }
    Ok((secret.reveal().to_owned(), key_id))
}

/// A test event that nobody answered.
pub(super) fn late(invocation: &str) -> ProgramError {
    ProgramError::Failed(format!("{invocation} has no result in time; does a worker run? See: actionsctl doctor"))
}
