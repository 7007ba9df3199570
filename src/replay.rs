//! Recorded events, sent again to something new, and compared with what was decided then.
//!
//! Called by `actionsctl replay` and by the console. Nothing is changed by it.

use std::time::Duration;

use serde_json::Value;

use crate::domain::{Action, Mode, Outcome, Project, Status, UnknownWord};
use crate::egress::Egress;
use crate::judge::{Judgement, differs};
use crate::sign::{Purpose, RootKeys};
use crate::store::trials::Encrypted;
use crate::store::{Database, StoreError, candidates, control, projects};
use crate::trial::{self, Recorded, Sent};

/// Where events go again.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// A version of the action, signed with its own secret.
    Version(i32),
    /// Another endpoint with its secret, and the other settings of the current version.
    Endpoint { url: &'a str, secret: &'a str },
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is no such action.
    #[error("there is no action {0:?}; see: actionsctl action list")]
    UnknownAction(String),
    /// Nor such a version.
    #[error("version is {0}; the action has no such version")]
    UnknownVersion(i32),
    /// This machine lacks the root key of the action's secret.
    #[error("its root key {0:?} is not among secrets.root_keys of this machine")]
    MissingKey(String),
    /// The database refused, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row that this program does not understand.
    #[error("a row of the database was not understood: {0}")]
    Unreadable(String),
}

impl From<UnknownWord> for ReplayError {
    fn from(error: UnknownWord) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Where events go, and how answers are judged.
pub struct Target {
    action: Action,
    project: Project,
    /// The current one first, and the previous one while a rotation overlaps.
    secrets: Vec<String>,
}

/// What was decided then, and what would be now.
#[derive(Debug)]
pub struct Compared {
    /// Then.
    pub then: Outcome,
    /// Now.
    pub now: Outcome,
    /// Why the call failed, if it did.
    pub error: Option<String>,
    /// The parts that differ.
    pub differs: Vec<&'static str>,
    /// From DNS to the last byte.
    pub took: Duration,
}

impl Compared {
    /// It fails now, and had not then.
    pub fn has_newly_failed(&self) -> bool {
        let failed = |outcome: &Outcome| !matches!(outcome.status, Status::Ok | Status::Rejected);
        failed(&self.now) && !failed(&self.then)
    }
}

/// Reads a recorded event; `None` without its root key.
pub fn open(keys: &RootKeys, action: &str, event: &Encrypted) -> Option<Recorded<'static>> {
    let plain = keys.open(&event.key_id, Purpose::RecordedEvent, action, event.event_id.as_bytes(), &event.sealed)?;
    serde_json::from_slice(&plain).ok()
}

impl Target {
    /// Reads what is needed to send events of an action again.
    pub async fn of(database: &Database, keys: &RootKeys, action: &str, to: To<'_>) -> Result<Self, ReplayError> {
        let row = control::show(database, action).await?.ok_or_else(|| ReplayError::UnknownAction(action.to_owned()))?;
        let current = parsed(&row)?;
        let (settings, url, secrets) = match to {
            To::Version(version) => {
                let row = candidates::version(database, action, version).await?.ok_or(ReplayError::UnknownVersion(version))?;
                let row = parsed(&row)?;
                let url = text(&row, "endpoint_url");
                (row, url, own_secrets(keys, action, &current)?)
            }
            To::Endpoint { url, secret } => (current.clone(), url.to_owned(), vec![secret.to_owned()]),
        };
        let project = projects::show(database, &text(&current, "project_id")).await?;
        let project = project.map(|row| parsed(&row)).transpose()?.unwrap_or_default();
        let slugs = project["role_slugs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            action: Action {
                id: action.to_owned(),
                version: number(&settings, "version"),
                trigger: text(&current, "trigger").parse()?,
                endpoint_url: url,
                timeout: Duration::from_millis(settings["timeout_ms"].as_u64().unwrap_or(2000)),
                fail_mode: text(&settings, "fail_mode").parse()?,
                on_killed: text(&settings, "on_killed").parse()?,
                require_response_signature: settings["require_response_signature"] == true,
                records_events: false,
                last_known: Duration::ZERO,
            },
            project: Project {
                revision: 0,
                roles_action_override: project["roles_action_override"] == true,
                role_slugs: slugs.map(str::to_owned).collect(),
                break_glass: Vec::new(),
            },
            secrets,
        })
    }

    /// Sends an event again, byte for byte, signed anew.
    pub async fn send(&self, egress: &Egress, event_id: &str, recorded: Recorded<'_>) -> Compared {
        let Self { action, project, secrets } = self;
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let sent = Sent {
            url: &action.endpoint_url,
            secrets: &secrets,
            action_id: &action.id,
            trigger: action.trigger,
            event_id,
            mode: Some(Mode::Replay),
            timeout: action.timeout,
        };
        let exchange = sent.exchange(egress, recorded.body.into_owned()).await;
        let Judgement { outcome: now, error, .. } = trial::judge_exchange(action, project, &exchange);
        let differs = differs(&recorded.outcome, &now);
        Compared { then: recorded.outcome, now, error, differs, took: exchange.took }
    }
}

fn own_secrets(keys: &RootKeys, action: &str, current: &Value) -> Result<Vec<String>, ReplayError> {
    let derive = |key_id: String, version: i32| -> Result<String, ReplayError> {
        let key_id = if key_id.is_empty() { keys.newest_id().to_owned() } else { key_id };
        let secret = keys.derive(&key_id, action, version);
        secret.map(|secret| secret.reveal().to_owned()).ok_or(ReplayError::MissingKey(key_id))
    };
    let mut secrets = vec![derive(text(current, "secret_key_id"), number(current, "secret_version"))?];
    if !current["previous_secret_until"].is_null() {
        secrets.push(derive(text(current, "previous_secret_key_id"), number(current, "previous_secret_version"))?);
    }
    Ok(secrets)
}

fn parsed(row: &str) -> Result<Value, ReplayError> {
    serde_json::from_str(row).map_err(|error| ReplayError::Unreadable(error.to_string()))
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

fn number(row: &Value, field: &str) -> i32 {
    row[field].as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or_default()
}
