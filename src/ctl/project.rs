//! `actionsctl project …`: projects, the roles that verdicts may give, and whom to tell.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::confirm::Consent;
use super::signature::read;
use super::{arguments, say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::{Database, projects, schema};

/// Make, look at and change projects, their roles and their people.
#[derive(Debug, Args)]
pub struct ProjectCommand {
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
    /// List projects.
    #[command(after_help = "Example:\n  actionsctl project list --json | jq -r '.[].project_id'")]
    List,
    /// Show a project, its roles and, to control planes, its people.
    #[command(after_help = "Example:\n  actionsctl project show proj_acme_prod")]
    Show { id: String },
    /// Make a project known, or change what is given of it.
    #[command(
        after_help = "Example:\n  actionsctl project upsert proj_acme_prod --name Acme --roles-action-override true --actor ada@acme.com"
    )]
    Upsert {
        /// The id under which auth-core knows it.
        id: String,
        /// How people call it; needed for a new one.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Whether verdicts may replace roles and permissions; false for a new one.
        #[arg(long, value_name = "BOOL")]
        roles_action_override: Option<bool>,
    },
    /// Set every role slug of a project; a verdict's other roles are dropped.
    #[command(after_help = "Example:\n  actionsctl project set-roles proj_acme_prod member billing_admin auditor")]
    SetRoles {
        id: String,
        /// Every role slug.
        #[arg(value_name = "SLUG", required_unless_present = "none")]
        slugs: Vec<String>,
        /// The project has no roles.
        #[arg(long, conflicts_with = "slugs")]
        none: bool,
    },
    /// Set every member of a project; owners and admins get mail.
    #[command(
        after_help = "Examples:\n  actionsctl project set-members proj_acme_prod --member ada@acme.com=owner --member bob@acme.com=viewer\n  \
            echo '[{\"email\":\"ada@acme.com\",\"role\":\"owner\"}]' | actionsctl project set-members proj_acme_prod --file -"
    )]
    SetMembers {
        id: String,
        /// One member; give it once for each.
        #[arg(long = "member", value_name = "EMAIL=ROLE", value_parser = arguments::member, required_unless_present = "file")]
        members: Vec<(String, String)>,
        /// File with a JSON array of {"email", "role"}; - is standard input.
        #[arg(long, value_name = "FILE", conflicts_with = "members")]
        file: Option<PathBuf>,
    },
    /// Erase a project with everything that names it or its people, in the history and the audit log, too.
    #[command(after_help = "No event of it is sent from then on; the rest is done by a janitor, bit by bit.\n\n\
            Example:\n  actionsctl project delete proj_acme_prod --yes && actionsctl project erasures")]
    Delete {
        id: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// List what was to be erased, and how far that is.
    #[command(after_help = "Example:\n  actionsctl project erasures --json | jq '.[] | select(.done_at == null)'")]
    Erasures,
}

impl ProjectCommand {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let result = self.command(&database).await;
        database.close();
        result
    }

    async fn command(&self, database: &Database) -> Result<(), ProgramError> {
        let actor = self.actor.as_str();
        let id = match &self.command {
            Command::List => return self.list(&projects::list(database).await?),
            Command::Erasures => return self.erasures(&projects::erasures(database).await?),
            Command::Delete { id, consent } => {
                consent.to(&format!("Project {id} is erased with its actions, its history and its audit log."))?;
                return self.erasures(&[projects::delete(database, id, actor).await?]);
            }
            Command::Show { id } => id,
            Command::Upsert { id, name, roles_action_override } => {
                projects::upsert(database, id, name.as_deref(), *roles_action_override, actor).await?;
                id
            }
            Command::SetRoles { id, slugs, .. } => {
                projects::set_roles(database, id, slugs, actor).await?;
                id
            }
            Command::SetMembers { id, members, file } => {
                projects::set_members(database, id, &array_of(members, file.as_ref())?, actor).await?;
                id
            }
        };
        self.show(database, id).await
    }

    fn list(&self, rows: &[String]) -> Result<(), ProgramError> {
        if self.json {
            screen::json_array(rows);
            return Ok(());
        }
        if rows.is_empty() {
            say("There is no project; make one with: actionsctl project upsert");
        } else {
            say(screen::bold(&format!("{:<30}  {:<24}  {:>5}  made", "project", "name", "roles")));
        }
        for row in rows {
            let row = screen::parsed(row)?;
            let made = screen::moment(&row, "created_at");
            say(format_args!(
                "{:<30}  {:<24}  {:>5}  {}",
                screen::short(&screen::text(&row, "project_id"), 30),
                screen::short(&screen::text(&row, "name"), 24),
                row["role_slugs"].as_array().map_or(0, Vec::len),
                made.get(..10).unwrap_or_default()
            ));
        }
        Ok(())
    }

    fn erasures(&self, rows: &[String]) -> Result<(), ProgramError> {
        if self.json {
            screen::json_array(rows);
            return Ok(());
        }
        if rows.is_empty() {
            say("No project was ever to be erased.");
        } else {
            say(screen::bold(&format!("{:<30}  {:<16}  {:<16}  {:>9}", "project", "asked (UTC)", "done (UTC)", "rows")));
        }
        for row in rows {
            let row = screen::parsed(row)?;
            let moment = |field| screen::moment(&row, field).get(..16).unwrap_or_default().to_owned();
            let done = if row["done_at"].is_null() { "under way".to_owned() } else { moment("done_at") };
            say(format_args!(
                "{:<30}  {:<16}  {:<16}  {:>9}",
                screen::short(&screen::text(&row, "project_id"), 30),
                moment("asked_at"),
                done,
                screen::text(&row, "rows_erased")
            ));
        }
        Ok(())
    }

    async fn show(&self, database: &Database, id: &str) -> Result<(), ProgramError> {
        let unknown = || ProgramError::Usage(format!("there is no project {id:?}; see: actionsctl project list"));
        let row = projects::show(database, id).await?.ok_or_else(unknown)?;
        let members = projects::members(database, id).await?;
        if self.json {
            let members = members.map(|members| format!(",\"members\":{members}")).unwrap_or_default();
            screen::json(&format!("{}{members}}}", row.trim_end().strip_suffix('}').unwrap_or(&row)));
        } else {
            print(&screen::parsed(&row)?, members.as_deref().map(screen::parsed).transpose()?.as_ref());
        }
        Ok(())
    }
}

/// The members as the SQL function takes them.
fn array_of(members: &[(String, String)], file: Option<&PathBuf>) -> Result<String, ProgramError> {
    let Some(path) = file else {
        let members: Vec<Value> = members.iter().map(|(email, role)| json!({"email": email, "role": role})).collect();
        return Ok(Value::Array(members).to_string());
    };
    let wrong =
        |why: String| ProgramError::Usage(format!("--file {}: {why}; accepted is a JSON array of {{\"email\", \"role\"}}", path.display()));
    let text = String::from_utf8(read(path)?).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    serde_json::from_str::<Vec<Value>>(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}

fn print(row: &Value, members: Option<&Value>) {
    let text = |field: &str| screen::text(row, field);
    let slugs = row["role_slugs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let slugs: Vec<String> = slugs.iter().filter_map(Value::as_str).map(screen::plain).collect();
    let may =
        if row["roles_action_override"] == true { "may replace roles and permissions" } else { "may not replace roles and permissions" };
    screen::fields(
        &text("project_id"),
        &[
            ("name", text("name")),
            ("verdicts", may.to_owned()),
            ("roles", if slugs.is_empty() { "none".to_owned() } else { slugs.join(", ") }),
            ("made", format!("{} UTC", screen::moment(row, "created_at"))),
            ("changed", format!("{} UTC", screen::moment(row, "updated_at"))),
        ],
    );
    let Some(members) = members.and_then(Value::as_array) else { return };
    if members.is_empty() {
        say("  members     none: nobody gets mail");
    }
    for member in members {
        say(format_args!("  {:<11} {}", screen::short(&screen::text(member, "role"), 11), screen::text(member, "email")));
    }
}
