//! `actionsctl doctor`: every broken set-up that we know of, with its remedy.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{say, screen};
use crate::config::Config;
use crate::domain::ErrorCode;
use crate::egress::{CallError, Egress, Phases};
use crate::program::ProgramError;
use crate::smtp::Mailer;
use crate::store::{Database, health, schema};

/// A name that every resolver answers, and none with an address (RFC 6761). Not under .invalid,
/// of which our own library knows the answer without asking.
const NOBODY: &str = "https://authio-actions-doctor.example/";
/// Signatures are refused when clocks differ by 300 s; long before that something is wrong.
const MOST_SKEW: Duration = Duration::from_secs(5);
/// From here on making log files stalls nobody: half a minute of a busy fleet.
const KEPT_LOG_MB: i64 = 512;
const PATIENCE: Duration = Duration::from_secs(5);

/// Check database, roles, version, keys, DNS, SMTP, clock and fleet.
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
    Ok(String),
    /// Works, but somebody should look.
    Warning(String),
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
        findings.push(("smtp", smtp(config).await));
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
        findings.push((
            "notify",
            match health::hears_itself(database).await {
                Ok(()) => Well("a notification arrives where we listen".to_owned()),
                Err(error) => Failure(format!("{error}; database.listen_url must be a direct connection to the same database")),
            },
        ));
        findings.push((
            "durability",
            if server.durable {
                Well("commits wait for the disk".to_owned())
            } else {
                Warning("fsync or synchronous_commit is off: a crash may forget decided outcomes".to_owned())
            },
        ));
        findings.push(("upkeep", upkeep(&server)));
        findings.push((
            "roles",
            match server.roles.as_slice() {
                [] => {
                    Failure("this login has none; as the owner: grant actions_worker (or _janitor, _core, _admin, _ops) to it".to_owned())
                }
                roles => Well(roles.join(", ")),
            },
        ));
        findings.push((
            "version",
            match schema::check(database).await {
                Ok(()) => Well(format!("schema {}, programs {}", schema::expected_version(), env!("CARGO_PKG_VERSION"))),
                Err(error) => Failure(error.to_string()),
            },
        ));
        findings.push(("clock", clock(asked, server.clock, answered)));
        // Of what the login may not read, nothing is said: another program's doctor sees it.
        let actions = health::actions(database).await.ok();
        let needs_no_keys =
            !server.roles.is_empty() && !server.roles.iter().any(|role| ["actions_worker", "actions_admin"].contains(&role.as_str()));
        findings.push(("keys", keys(config, actions.as_ref(), needs_no_keys)));
        findings.push(("dns", dns(config, &actions.map(|actions| actions.endpoints).unwrap_or_default()).await));
        if let Ok(fleet) = health::fleet(database).await {
            findings.push(("fleet", fleet_of(&fleet)));
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
            say(format_args!("{}  {check:<10}  {what}", screen::verdict(!matches!(finding, Failure(_)), &format!("{result:<7}"))));
        }
    }
}

fn clock(asked: OffsetDateTime, server: OffsetDateTime, answered: OffsetDateTime) -> Finding {
    let there_and_back: time::Duration = answered - asked;
    let here: OffsetDateTime = asked + there_and_back / 2;
    let skew = time::Duration::abs(server - here);
    let ms = skew.whole_milliseconds();
    if skew.unsigned_abs() > MOST_SKEW {
        Failure(format!("this machine and the database differ by {ms} ms; does NTP run on both?"))
    } else {
        Well(format!("differs by {ms} ms from the database's"))
    }
}

/// Settings without which a busy fleet slows down or stumbles.
fn upkeep(server: &health::Server) -> Finding {
    if !server.autovacuum {
        return Warning("autovacuum is off: a busy queue slows down within minutes; set autovacuum = on".to_owned());
    }
    if server.kept_log_mb < KEPT_LOG_MB {
        return Warning(format!(
            "min_wal_size is {} MB: under load everybody waits while log files are made; set it to 1GB",
            server.kept_log_mb
        ));
    }
    Well("autovacuum runs, log files are used again".to_owned())
}

/// What can be told all the same, and what cannot.
async fn without_database(findings: &mut Vec<(&'static str, Finding)>, config: &Config) {
    for check in ["roles", "version", "clock"] {
        findings.push((check, Failure("not checked: it needs the database".to_owned())));
    }
    findings.push(("keys", keys(config, None, false)));
    findings.push(("dns", dns(config, &[]).await));
}

fn keys(config: &Config, actions: Option<&health::Actions>, needs_no_keys: bool) -> Finding {
    let keys = match config.root_keys() {
        Ok(keys) => keys,
        // A janitor, auth-core or a dashboard has no use for them.
        Err(error) if needs_no_keys && config.secrets.root_keys.is_none() && config.secrets.root_keys_file.is_none() => {
            return Warning(format!("{error}; workers and whoever shows secrets need them"));
        }
        Err(error) => return Failure(error.to_string()),
    };
    let Some(actions) = actions else { return Well(format!("the newest is {}", keys.newest_id())) };
    let missing: Vec<&str> = actions.keys.iter().map(String::as_str).filter(|id| keys.derive(id, "", 0).is_none()).collect();
    if !missing.is_empty() {
        return Failure(format!("actions are signed under {}; add it to secrets.root_keys", missing.join(", ")));
    }
    match actions.unrecorded {
        0 => Well(format!("the newest is {}; all {} in use are here", keys.newest_id(), actions.keys.len())),
        some => Warning(format!("{some} new secrets are not recorded yet; a worker does it within a second")),
    }
}

/// Asks for the endpoints that are called; without any, whether the resolvers answer at all.
async fn dns(config: &Config, endpoints: &[String]) -> Finding {
    let egress = match Egress::new(&config.egress).and_then(|egress| egress.check_resolvers().map(|()| egress)) {
        Ok(egress) => egress,
        Err(error) => return Failure(error.to_string()),
    };
    let mut unwell = Vec::new();
    for url in endpoints {
        if let Err(error) = egress.clear(url, Instant::now() + PATIENCE, &mut Phases::default()).await {
            unwell.push(format!("{url}: {error}"));
        }
    }
    if unwell.len() < endpoints.len() {
        // What resolves for one customer shows that the resolvers answer.
        return match unwell.first() {
            None => Well(format!("{} endpoints resolve", endpoints.len())),
            Some(first) => Warning(format!("{} of {} endpoints cannot be called, such as {first}", unwell.len(), endpoints.len())),
        };
    }
    let of_them = unwell.first().map(|first| format!("none of {} endpoints can be called, such as {first}; ", endpoints.len()));
    let of_them = of_them.unwrap_or_default();
    match egress.clear(NOBODY, Instant::now() + PATIENCE, &mut Phases::default()).await {
        Ok(_) | Err(CallError::Blocked { .. }) => Warning("the resolvers invent addresses for names that do not exist".to_owned()),
        Err(error) if answered(error.code()) => {
            if of_them.is_empty() {
                Well("the resolvers answer".to_owned())
            } else {
                Warning(format!("{of_them}the resolvers answer"))
            }
        }
        Err(error) => Failure(format!("{of_them}{error}; see egress.dns_servers")),
    }
}

/// Whether the resolvers answer, although not with an address. Silence for one name is called so
/// only where they answered for another.
fn answered(code: ErrorCode) -> bool {
    use ErrorCode::{DnsFailure, DnsNoAddress, DnsNoAnswer, DnsNoSuchName, TimeoutDns};
    matches!(code, DnsNoSuchName | DnsNoAddress | DnsFailure | DnsNoAnswer | TimeoutDns)
}

async fn smtp(config: &Config) -> Finding {
    match Mailer::new(&config.smtp) {
        Err(error) => Failure(error.to_string()),
        Ok(None) => Warning("smtp.url is not set: mails wait in the outbox".to_owned()),
        Ok(Some(mailer)) => match mailer.check().await {
            Ok(()) => Well("the mail server answers".to_owned()),
            Err(error) => Failure(format!("{error}; see smtp.url")),
        },
    }
}

fn fleet_of(fleet: &health::Fleet) -> Finding {
    let health::Fleet { workers, janitor_leads, versions, mails_waiting, past_deadline } = fleet;
    if *workers == 0 || !janitor_leads {
        let missing = if *workers == 0 { "no worker runs: start actions-worker" } else { "no janitor leads: start actions-janitor" };
        return Warning(missing.to_owned());
    }
    if versions.len() > 1 {
        return Warning(format!("programs of several versions run: {}", versions.join(", ")));
    }
    if *past_deadline > 0 {
        return Warning(format!("{past_deadline} invocations are past their deadline: is the fleet too small?"));
    }
    Well(format!("{workers} workers, a janitor leads, {mails_waiting} mails wait"))
}
