//! `actionsctl break-glass …`: whom no failure of an action locks out.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::{candidates, schema};

/// Say whom no failure of an action locks out of a project.
#[derive(Debug, Args)]
pub struct BreakGlass {
    /// Who does this, for the audit log.
    #[arg(long, global = true, env = "ACTIONS_ACTOR", value_name = "WHO", default_value = "actionsctl")]
    actor: String,
    /// Print a JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show them.
    #[command(after_help = "Example:\n  actionsctl break-glass show proj_acme_prod")]
    Show { project: String },
    /// Set all of them, at most 20; owners get mail. A verdict still denies them.
    #[command(after_help = "Examples:\n  actionsctl break-glass set proj_acme_prod user_1 user_2 --actor ada@acme.com\n  \
        actionsctl break-glass set proj_acme_prod --none")]
    Set {
        project: String,
        /// Ids as events have them in user.id.
        #[arg(value_name = "USER", required_unless_present = "none")]
        users: Vec<String>,
        /// Nobody.
        #[arg(long, conflicts_with = "users")]
        none: bool,
    },
}

impl BreakGlass {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let database = super::database(config)?;
        schema::check(&database).await?;
        let project = match &self.command {
            Command::Show { project } => project,
            Command::Set { project, users, .. } => {
                candidates::set_break_glass(&database, project, users, &self.actor).await?;
                project
            }
        };
        let users = candidates::break_glass(&database, project).await?;
        database.close();
        if self.json {
            screen::json(&json!({"project_id": project, "user_ids": users}).to_string());
        } else if users.is_empty() {
            say(format_args!("Nobody of project {project}: where an action fails closed, everybody waits for it to be mended."));
        } else {
            users.iter().for_each(|user| say(screen::plain(user)));
        }
        Ok(())
    }
}
