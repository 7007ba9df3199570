//! `actionsctl replay`: recorded events, sent again to something new.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::signature::SECRET_VARIABLE;
use super::{say, screen};
use crate::config::Config;
use crate::domain::{Action, Mode, Outcome, Project, Status, Trigger};
use crate::egress::Egress;
use crate::judge::{Judgement, differs};
use crate::program::ProgramError;
use crate::sign::{Purpose, RootKeys};
use crate::store::{Database, candidates, control, projects, schema, trials};
use crate::trial::{self, Recorded, Sent};

/// Send recorded events of an action again, and compare what would be decided now with what was then.
///
/// Needs the role actions_admin and the root keys; record_events of the action says how many events are kept.
/// Every request is the one that was sent then, signed anew, with the header Authio-Mode: replay. Exit status
/// 0 where nothing differs, 1 where something does or a call fails that had not failed then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  actionsctl replay action_… --version 4\n  \
    AUTHIO_ACTION_SECRET=asec_… actionsctl replay action_… --url https://staging.acme.com/authio --last 20 --json")]
pub struct Replay {
    action: String,
    /// This version of the action, with its own secret.
    #[arg(long, value_name = "VERSION", required_unless_present = "url", conflicts_with_all = ["url", "secret"])]
    version: Option<i32>,
    /// Another endpoint, with the other settings of the current version.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Its secret, asec_…; better in the variable AUTHIO_ACTION_SECRET, where the process list does not show it.
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true, value_name = "SECRET")]
    secret: Option<String>,
    /// How many of the newest.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1000))]
    last: i32,
    /// Print a line of JSON for each event.
    #[arg(long)]
    json: bool,
}

/// Where events go, and how answers are judged.
struct Target {
    action: Action,
    project: Project,
    secret: String,
}

/// What came of it all.
#[derive(Default)]
struct Sum {
    sent: usize,
    differ: usize,
    newly_failed: usize,
    unreadable: usize,
}

impl Replay {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let keys = config.root_keys()?;
        let egress = Egress::new(&config.egress)?;
        let database = super::database(config)?;
        schema::check(&database).await?;
        let target = self.target(&database, &keys).await;
        let recorded = trials::recorded(&database, &self.action, self.last).await;
        database.close();
        let (target, recorded) = (target?, recorded?);
        if recorded.is_empty() {
            eprintln!("actionsctl: nothing is recorded of {}; record_events says how many events are kept", self.action);
            return Ok(());
        }
        let mut sum = Sum::default();
        let all = recorded.len();
        for (n, (event_id, key_id, sealed)) in recorded.iter().rev().enumerate() {
            progress(n, all);
            let plain = keys.open(key_id, Purpose::RecordedEvent, &self.action, event_id.as_bytes(), sealed);
            let read = plain.as_deref().and_then(|plain| serde_json::from_slice::<Recorded<'_>>(plain).ok());
            let Some(read) = read else {
                sum.unreadable += 1;
                eprintln!("actionsctl: {event_id} cannot be read: its root key {key_id:?} is not among secrets.root_keys of this machine");
                continue;
            };
            self.one(&egress, &target, event_id, &read, &mut sum).await;
        }
        progress(all, all);
        self.conclude(&sum)
    }

    async fn target(&self, database: &Database, keys: &RootKeys) -> Result<Target, ProgramError> {
        let unknown = || ProgramError::Usage(format!("there is no action {:?}; see: actionsctl action list", self.action));
        let current = screen::parsed(&control::show(database, &self.action).await?.ok_or_else(unknown)?)?;
        let mut row = current.clone();
        if let Some(version) = self.version {
            let none = || ProgramError::Usage(format!("--version is {version}; {} has no such version", self.action));
            row = screen::parsed(&candidates::version(database, &self.action, version).await?.ok_or_else(none)?)?;
        }
        if let Some(url) = &self.url {
            row["endpoint_url"] = json!(url);
        }
        let secret = match (&self.url, &self.secret) {
            (Some(_), Some(secret)) => secret.clone(),
            (Some(_), None) => {
                return Err(ProgramError::Usage(format!("--url needs the endpoint's secret; give --secret, or set {SECRET_VARIABLE}")));
            }
            (None, _) => {
                let key_id = screen::text(&current, "secret_key_id");
                let version = current["secret_version"].as_i64().and_then(|version| i32::try_from(version).ok()).unwrap_or_default();
                let key_id = if key_id.is_empty() { keys.newest_id().to_owned() } else { key_id };
                let lacking = || ProgramError::Failed(format!("its root key {key_id:?} is not among secrets.root_keys of this machine"));
                keys.derive(&key_id, &self.action, version).ok_or_else(lacking)?.reveal().to_owned()
            }
        };
        let project = screen::text(&current, "project_id");
        let project = projects::show(database, &project).await?.map(|row| screen::parsed(&row)).transpose()?.unwrap_or_default();
        let word = |field: &str| screen::text(&row, field);
        let unread = |error: crate::domain::UnknownWord| ProgramError::Failed(error.to_string());
        let trigger: Trigger = screen::text(&current, "trigger").parse().map_err(unread)?;
        Ok(Target {
            action: Action {
                id: self.action.clone(),
                version: row["version"].as_i64().and_then(|version| i32::try_from(version).ok()).unwrap_or_default(),
                trigger,
                endpoint_url: word("endpoint_url"),
                timeout: Duration::from_millis(row["timeout_ms"].as_u64().unwrap_or(2000)),
                fail_mode: word("fail_mode").parse().map_err(unread)?,
                on_killed: word("on_killed").parse().map_err(unread)?,
                require_response_signature: row["require_response_signature"] == true,
                records_events: false,
                last_known: Duration::ZERO,
            },
            project: Project {
                revision: 0,
                roles_action_override: project["roles_action_override"] == true,
                role_slugs: project["role_slugs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
                break_glass: Vec::new(),
            },
            secret,
        })
    }

    async fn one(&self, egress: &Egress, target: &Target, event_id: &str, recorded: &Recorded<'_>, sum: &mut Sum) {
        let Target { action, project, secret } = target;
        let sent = Sent {
            url: &action.endpoint_url,
            secret,
            action_id: &action.id,
            trigger: action.trigger,
            event_id,
            mode: Some(Mode::Replay),
            timeout: action.timeout,
        };
        let exchange = sent.exchange(egress, recorded.body.clone().into_owned()).await;
        let Judgement { outcome: now, error, .. } = trial::judge_exchange(action, project, &exchange);
        let then = &recorded.outcome;
        let differs = differs(then, &now);
        let failed = |outcome: &Outcome| !matches!(outcome.status, Status::Ok | Status::Rejected);
        sum.sent += 1;
        sum.differ += usize::from(!differs.is_empty());
        sum.newly_failed += usize::from(failed(&now) && !failed(then));
        let ms = exchange.took.as_secs_f64() * 1000.0;
        if self.json {
            let side = |outcome: &Outcome| json!({"status": outcome.status.as_str(), "decision": outcome.decision.as_str()});
            say(json!({"event_id": event_id, "then": side(then), "now": side(&now), "differs": differs, "ms": ms}));
            return;
        }
        let what = if differs.is_empty() { "same".to_owned() } else { differs.join(", ") };
        let tone = screen::Tone::of(differs.is_empty());
        say(format_args!(
            "{event_id}  {:<5} -> {:<5}  {:>7.1} ms  {}",
            then.decision.as_str(),
            now.decision.as_str(),
            ms,
            screen::toned(tone, &what)
        ));
        if let Some(error) = error.filter(|_| failed(&now)) {
            say(format_args!("{:32}{}", "", screen::short(&screen::plain(&error), 48)));
        }
    }

    fn conclude(&self, sum: &Sum) -> Result<(), ProgramError> {
        let Sum { sent, differ, newly_failed, unreadable } = sum;
        let summary =
            format!("{sent} sent again: {} the same, {differ} differ, {newly_failed} failed that had not failed then", sent - differ);
        if !self.json {
            say(screen::bold(&summary));
        }
        if *unreadable > 0 {
            return Err(ProgramError::Failed(format!("{unreadable} recorded events could not be read")));
        }
        if *differ > 0 || *newly_failed > 0 { Err(ProgramError::Failed(summary)) } else { Ok(()) }
    }
}

/// How far it is, where somebody looks.
fn progress(done: usize, all: usize) {
    let mut screen = std::io::stderr();
    if screen.is_terminal() {
        let end = if done == all { "\r\x1b[K" } else { "" };
        let _ = write!(screen, "\r{done} of {all}{end}");
        let _ = screen.flush();
    }
}
