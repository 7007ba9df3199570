//! `actionsctl action …`: the life of an action.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{invocations, say, screen};
use crate::config::Config;
use crate::domain::{FailMode, OnKilled, Trigger};
use crate::program::ProgramError;
use crate::store::control::{self, NewAction};
use crate::store::{Database, StoreError, schema};

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

#[derive(Debug, Subcommand)]
enum Command {
    /// Bind an endpoint to a trigger of a project; prints the signing secret once.
    #[command(
        after_help = "Example:\n  actionsctl action create --project proj_acme_prod --trigger pre_token_mint \\\n    --url https://hooks.acme.com/authio --name 'Roles from Acme'"
    )]
    Create(Create),
    /// List actions.
    #[command(after_help = "Example:\n  actionsctl action list --project proj_acme_prod --json")]
    List {
        /// Only those of this project.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// Show an action.
    #[command(after_help = "Example:\n  actionsctl action show action_…")]
    Show { id: String },
    /// Change an action's configuration; an earlier version comes back with --restore.
    #[command(
        after_help = "Examples:\n  actionsctl action update action_… --timeout-ms 3000\n  actionsctl action update action_… --restore 2\n  actionsctl action update action_… --check-every-s 60"
    )]
    Update(Update),
    /// Switch an action on.
    #[command(after_help = "Example:\n  actionsctl action enable action_…")]
    Enable { id: String },
    /// Switch an action off.
    #[command(after_help = "Example:\n  actionsctl action disable action_… --actor ada@acme.com")]
    Disable { id: String },
    /// Take back a kill; a fresh window of the kill-switch begins.
    #[command(after_help = "Example:\n  actionsctl action test action_… && actionsctl action reenable action_…")]
    Reenable { id: String },
    /// Make a new signing secret and print it once; requests carry both signatures for a while.
    #[command(
        after_help = "Example, with two days to hand the new one over:\n  actionsctl action rotate-secret action_… --overlap-s 172800"
    )]
    RotateSecret {
        id: String,
        /// Seconds for which the previous secret still counts; 0 ends it at once.
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(i32).range(0..=2_592_000))]
        overlap_s: i32,
    },
    /// End the overlap: only the new secret counts from here on.
    #[command(
        after_help = "Example, when the endpoint has the new secret (action show tells):\n  actionsctl action finish-rotation action_…"
    )]
    FinishRotation { id: String },
    /// Show the signing secret again; needs the root keys.
    #[command(after_help = "Example:\n  actionsctl action secret action_… | wl-copy")]
    Secret { id: String },
    /// Send a made-up event on the real path, and wait for what becomes of it.
    #[command(
        after_help = "Works on disabled and killed actions, too, and never counts for the kill-switch.\n\nExample:\n  actionsctl action test action_… --json"
    )]
    Test { id: String },
    /// Delete an action for good.
    #[command(after_help = "Its invocations stay until the retention ends.\n\nExample:\n  actionsctl action delete action_…")]
    Delete { id: String },
}

#[derive(Debug, Args)]
struct Create {
    #[arg(long, value_name = "PROJECT")]
    project: String,
    /// The moment: pre_authenticate, post_authenticate, pre_token_mint, post_token_mint,
    /// pre_register or post_register.
    #[arg(long, value_name = "TRIGGER")]
    trigger: Trigger,
    /// The endpoint, https://.
    #[arg(long, value_name = "URL")]
    url: String,
    /// How people call it.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Milliseconds that the endpoint may take, 100 to 5000.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout_ms: i32,
    /// What decides when the endpoint fails: open or closed.
    #[arg(long, value_name = "MODE", default_value = "open")]
    fail_mode: FailMode,
    /// What decides while it is killed: skip or deny.
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    on_killed: OnKilled,
    /// Refuse answers that are not signed.
    #[arg(long)]
    require_response_signature: bool,
}

#[derive(Debug, Args)]
struct Update {
    id: String,
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The endpoint, https://.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Milliseconds, 100 to 5000.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<i32>,
    /// open or closed.
    #[arg(long, value_name = "MODE")]
    fail_mode: Option<FailMode>,
    /// skip or deny.
    #[arg(long, value_name = "WHAT")]
    on_killed: Option<OnKilled>,
    /// true or false.
    #[arg(long, value_name = "BOOL")]
    require_response_signature: Option<bool>,
    /// Seconds between two test events that the fleet sends by itself, 10 to 86400; 0 for none.
    #[arg(long, value_name = "SECONDS")]
    check_every_s: Option<i32>,
    /// Start from this earlier version of the configuration.
    #[arg(long, value_name = "VERSION")]
    restore: Option<i32>,
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
                self.print_list(&rows)
            }
            Command::Show { id } => self.print(&known(database, id).await?),
            Command::Update(update) => self.print(&control::update(database, &update.id, &update.changes()?, actor).await?),
            Command::Enable { id } => self.print(&control::set_enabled(database, id, true, actor).await?),
            Command::Disable { id } => self.print(&control::set_enabled(database, id, false, actor).await?),
            Command::Reenable { id } => self.print(&control::reenable(database, id, actor).await?),
            Command::RotateSecret { id, overlap_s } => {
                let rotating = !parsed(&known(database, id).await?)?["previous_secret_until"].is_null();
                if rotating {
                    confirm("A rotation is going on: the secret from before it stops counting at once.")?;
                } else if *overlap_s == 0 {
                    confirm("The previous secret stops counting at once.")?;
                }
                let row = control::rotate_secret(database, id, actor, *overlap_s).await?;
                self.print_with_secret(config, database, &row).await
            }
            Command::FinishRotation { id } => {
                confirm("The previous secret stops counting at once.")?;
                self.print(&control::finish_rotation(database, id, actor).await?)
            }
            Command::Secret { id } => {
                let row = parsed(&known(database, id).await?)?;
                let (secret, key_id) = secret(config, database, &row).await?;
                if self.json {
                    let version = &row["secret_version"];
                    screen::json(&json!({"action_id": id, "version": version, "key_id": key_id, "secret": secret}).to_string());
                } else {
                    say(secret);
                }
                Ok(())
            }
            Command::Test { id } => self.test(database, id).await,
            Command::Delete { id } => {
                confirm(&format!("{id} is deleted for good."))?;
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
            Ok(Some(row)) => invocations::print(&parsed(&row)?),
            _ => screen::json(&outcome),
        }
        let status = screen::text(&parsed(&outcome)?, "status");
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
        show(&parsed(row)?, None);
        Ok(())
    }

    /// The one time that a new secret is shown; without root keys here, how to see it.
    async fn print_with_secret(&self, config: &Config, database: &Database, row: &str) -> Result<(), ProgramError> {
        let value = parsed(row)?;
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
            show(&value, secret.as_deref());
        }
        Ok(())
    }

    fn print_list(&self, rows: &[String]) -> Result<(), ProgramError> {
        if self.json {
            screen::json_array(rows);
            return Ok(());
        }
        if rows.is_empty() {
            say("There is no action; make one with: actionsctl action create");
        }
        for row in rows {
            let row = parsed(row)?;
            let (is_well, state) = state(&row);
            say(format_args!(
                "{:<33}  {:<17}  {:<8}  {}",
                screen::text(&row, "action_id"),
                screen::text(&row, "trigger"),
                screen::verdict(is_well, &format!("{state:<8}")),
                screen::short(&screen::text(&row, "name"), 16)
            ));
        }
        Ok(())
    }
}

impl Create {
    fn request(&self) -> NewAction<'_> {
        NewAction {
            project_id: &self.project,
            trigger: self.trigger.as_str(),
            endpoint_url: &self.url,
            name: &self.name,
            timeout_ms: self.timeout_ms,
            fail_mode: self.fail_mode.as_str(),
            on_killed: self.on_killed.as_str(),
            require_response_signature: self.require_response_signature,
        }
    }
}

impl Update {
    /// The changes as the SQL function wants them.
    fn changes(&self) -> Result<String, ProgramError> {
        let given = [
            ("name", self.name.as_ref().map(|name| json!(name))),
            ("endpoint_url", self.url.as_ref().map(|url| json!(url))),
            ("timeout_ms", self.timeout_ms.map(|ms| json!(ms))),
            ("fail_mode", self.fail_mode.map(|mode| json!(mode.as_str()))),
            ("on_killed", self.on_killed.map(|what| json!(what.as_str()))),
            ("require_response_signature", self.require_response_signature.map(|required| json!(required))),
            ("check_every_s", self.check_every_s.map(|seconds| json!(seconds))),
            ("version", self.restore.map(|version| json!(version))),
        ];
        let changes: Map<String, Value> = given.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value))).collect();
        if changes.is_empty() {
            return Err(ProgramError::Usage("nothing to change was given; see: actionsctl action update --help".to_owned()));
        }
        Ok(Value::Object(changes).to_string())
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
    let row = parsed(&known(database, &id).await?)?;
    let lacking = || ProgramError::Failed(format!("its root key {key_id:?} is not among secrets.root_keys of this machine"));
    let secret = keys.derive(&key_id, &id, version).ok_or_else(lacking)?;
    if screen::text(&row, "secret_sha256") != secret.fingerprint() && row["secret_version"] == version {
        return Err(ProgramError::Failed(format!("the root key {key_id:?} of this machine is another than the fleet's of that name")));
    }
    Ok((secret.reveal().to_owned(), key_id))
}

/// Asks a person at a terminal; a script has decided already.
fn confirm(what: &str) -> Result<(), ProgramError> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    eprint!("{what} This cannot be undone. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        return Ok(());
    }
    Err(ProgramError::Failed("nothing was changed".to_owned()))
}

/// A test event that nobody answered.
pub(super) fn late(invocation: &str) -> ProgramError {
    ProgramError::Failed(format!("{invocation} has no result in time; does a worker run? See: actionsctl doctor"))
}

pub(super) fn parsed(row: &str) -> Result<Value, ProgramError> {
    serde_json::from_str(row).map_err(|error| StoreError::Schema(format!("a row that is no JSON: {error}")).into())
}

fn state(row: &Value) -> (bool, &'static str) {
    match (row["killed_at"].is_null(), row["enabled"].as_bool()) {
        (false, _) => (false, "killed"),
        (true, Some(true)) => (true, "enabled"),
        (true, _) => (false, "disabled"),
    }
}

fn show(row: &Value, secret: Option<&str>) {
    let text = |field: &str| screen::text(row, field);
    let (is_well, state) = state(row);
    let killed =
        if state == "killed" { format!(" at {} UTC: {}", screen::moment(row, "killed_at"), text("killed_reason")) } else { String::new() };
    let known = text("secret_key_id");
    let under = if known.is_empty() { ", not signed with yet".to_owned() } else { format!(" under root key {known}") };
    let until = screen::moment(row, "previous_secret_until");
    let seen = screen::moment(row, "secret_seen_at");
    screen::fields(
        &text("action_id"),
        &[
            ("name", text("name")),
            ("project", text("project_id")),
            ("trigger", text("trigger")),
            ("endpoint", text("endpoint_url")),
            ("timeout", format!("{} ms, then it fails {}", text("timeout_ms"), text("fail_mode"))),
            ("when killed", text("on_killed")),
            ("answers", if row["require_response_signature"] == true { "must be signed".to_owned() } else { "may be signed".to_owned() }),
            ("state", format!("{}{killed}", screen::verdict(is_well, state))),
            ("secret", format!("version {}{under}", text("secret_version"))),
            ("sha256", text("secret_sha256")),
            ("last used", if seen.is_empty() { seen } else { format!("an answer was signed with it at {seen} UTC") }),
            ("overlap", if until.is_empty() { until } else { format!("the previous secret counts until {until} UTC") }),
            ("checks", if row["check_every_s"] == 0 { String::new() } else { format!("a test event every {} s", text("check_every_s")) }),
            ("version", format!("{}, changed {} UTC", text("version"), screen::moment(row, "updated_at"))),
        ],
    );
    if let Some(secret) = secret {
        say("");
        say(format_args!("  signing secret, shown this once:\n  {}", screen::bold(secret)));
    }
}
