//! `actionsctl doctor`: every broken set-up that we know of, with its remedy.

mod login;
mod server;
mod surroundings;

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::screen::Tone;
use super::{say, screen};
use crate::config::Config;
use crate::program::ProgramError;
use crate::store::{Database, health, rights, schema};

/// Check database, encoding, notifications, roles, settings, version, keys, DNS, SMTP, clock and fleet.
///
/// One line each; exit status 1 if any fails. A line that only warns is no failure.
#[derive(Debug, Args)]
#[command(after_help = "Run it with a worker's configuration on a worker's machine, and so for each program.\n\n\
    Example:\n  actionsctl --config /etc/authio-actions.toml doctor")]
pub struct Doctor {
    /// Print one JSON array.
    #[arg(long)]
    json: bool,
}

enum Finding {
    /// Nothing to do.
    Ok(String),
    /// Works, but somebody should look.
    Warning(String),
    /// Exit status 1.
    Failure(String),
}

use Finding::{Failure, Ok as Well, Warning};

impl Doctor {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let mut findings: Vec<(&'static str, Finding)> = Vec::new();
        match Database::new(&config.database, "actionsctl doctor") {
            Ok(database) => {
                self.of_database(&mut findings, config, &database).await;
                database.close();
            }
            Err(error) => {
                findings.push(("database", Failure(error.to_string())));
                without_database(&mut findings, config).await;
            }
        }
        findings.push(("smtp", surroundings::smtp(config).await));
        let failed = findings.iter().filter(|(_, finding)| matches!(finding, Failure(_))).count();
        self.print(&findings);
        if failed == 0 { Ok(()) } else { Err(ProgramError::Failed(format!("{failed} of {} checks failed", findings.len()))) }
    }

    async fn of_database(&self, findings: &mut Vec<(&'static str, Finding)>, config: &Config, database: &Database) {
        let asked = OffsetDateTime::now_utc();
        let server = match health::server(database).await {
            Ok(server) => server,
            Err(error) => {
                findings.push(("database", Failure(format!("{error}; is database.url right, and may this machine connect?"))));
                return without_database(findings, config).await;
            }
        };
        let answered = OffsetDateTime::now_utc();
        findings.push(("database", Well(format!("PostgreSQL {} as {}", server.version, server.login))));
        findings.push(("encoding", server::encoding(&server)));
        findings.push((
            "notify",
            match health::hears_itself(database).await {
                Ok(()) => Well("a notification arrives where we listen".to_owned()),
                Err(error) => Failure(format!("{error}; database.listen_url must be a direct connection to the same database")),
            },
        ));
        // What a login may not see it leaves out, here and below: another program's doctor sees it.
        if let Ok(found) = health::notifications(database).await {
            findings.push(("notifications", server::notifications(&found)));
        }
        findings.push(("durability", server::durability(&server)));
        findings.push(("upkeep", server::upkeep(&server)));
        let roles = rights::roles(database).await.unwrap_or_default();
        findings.push(("roles", login::roles(database, &roles).await));
        findings.push(("settings", login::settings(database).await));
        findings.push((
            "version",
            match schema::check(database).await {
                Ok(()) => Well(format!("schema {}, programs {}", schema::expected_version(), env!("CARGO_PKG_VERSION"))),
                Err(error) => Failure(error.to_string()),
            },
        ));
        findings.push(("clock", server::clock(asked, server.clock, answered)));
        let actions = health::actions(database).await.ok();
        let needs_keys = roles.is_empty() || roles.iter().any(|role| ["actions_worker", "actions_admin"].contains(&role.name.as_str()));
        findings.push(("keys", surroundings::keys(config, actions.as_ref(), !needs_keys)));
        findings.push(("dns", surroundings::dns(config, &actions.map(|actions| actions.endpoints).unwrap_or_default()).await));
        if let Ok(fleet) = health::fleet(database).await {
            findings.push(("fleet", server::fleet_of(&fleet)));
        }
    }

    fn print(&self, findings: &[(&str, Finding)]) {
        let parts = |finding: &Finding| match finding {
            Well(what) => ("ok", what.clone()),
            Warning(what) => ("warning", what.clone()),
            Failure(what) => ("failed", what.clone()),
        };
        if self.json {
            let rows: Vec<String> = findings
                .iter()
                .map(|(check, finding)| {
                    let (result, what) = parts(finding);
                    json!({"check": check, "result": result, "detail": what}).to_string()
                })
                .collect();
            screen::json_array(&rows);
            return;
        }
        for (check, finding) in findings {
            let (result, what) = parts(finding);
            let tone = match finding {
                Well(_) => Tone::Well,
                Warning(_) => Tone::Warning,
                Failure(_) => Tone::Bad,
            };
            say(format_args!("{}  {check:<13}  {what}", screen::toned(tone, &format!("{result:<7}"))));
        }
    }
}

/// What can be told all the same, and what cannot.
async fn without_database(findings: &mut Vec<(&'static str, Finding)>, config: &Config) {
    for check in ["roles", "version", "clock"] {
        findings.push((check, Failure("not checked: it needs the database".to_owned())));
    }
    findings.push(("keys", surroundings::keys(config, None, false)));
    findings.push(("dns", surroundings::dns(config, &[]).await));
}
