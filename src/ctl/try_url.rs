//! `actionsctl try`: the customer's local loop, on the fleet's own code and without a database.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::signature::{SECRET_VARIABLE, read};
use super::{arguments, screen};
use crate::config::Config;
use crate::domain::{
    Action, Answer, Body, ErrorCode, FailMode, OnKilled, Outcome, Project, SignatureCheck, Status, Trigger, new_event_id, request_body,
};
use crate::egress::{CallError, Egress, Phases, Refusal, Request};
use crate::judge::{Judgement, failure, judge};
use crate::program::ProgramError;
use crate::sign::{self, REQUEST_HEADER, Secret};

/// The keys that the fleet writes; an event must not have them.
const ENVELOPE: [&str; 4] = ["event_id", "trigger", "occurred_at", "project"];

/// Send a signed, realistic event to any URL, and print what would be applied.
///
/// Exit status 0 says that the endpoint gave a verdict, whichever; 1 that it failed.
#[derive(Debug, Args)]
#[command(after_help = "The address rules of the fleet hold, except that localhost and the loopback addresses may be\n\
    called, there also with http://. A certificate of your own: set ACTIONS_EGRESS__EXTRA_CA_FILE.\n\n\
    Examples:\n  AUTHIO_ACTION_SECRET=asec_… actionsctl try --url http://localhost:3000/authio --trigger pre_token_mint\n  \
    actionsctl try --url https://hooks.acme.com/a --trigger pre_register --event event.json --json")]
pub struct Try {
    /// The endpoint, https:// or, on this machine, http://.
    #[arg(long, value_name = "URL")]
    url: String,
    /// The action's secret, asec_…; better in the variable AUTHIO_ACTION_SECRET, where the
    /// process list does not show it.
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true, value_name = "SECRET")]
    secret: String,
    /// The moment of the auth event.
    #[arg(long, value_name = "TRIGGER", value_parser = arguments::trigger())]
    trigger: Trigger,
    /// File with the event, a JSON object; - is standard input. Default is a made-up one.
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// Milliseconds that the endpoint may take, 100 to 5000.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=5000))]
    timeout_ms: u64,
    /// What decides when the endpoint fails.
    #[arg(long, value_name = "MODE", default_value = "open", value_parser = arguments::fail_mode())]
    fail_mode: FailMode,
    /// Refuse an answer that is not signed.
    #[arg(long)]
    require_response_signature: bool,
    /// The role slugs of the project; others are dropped from the verdict. Without it each counts as known.
    #[arg(long, value_name = "SLUG,SLUG", value_delimiter = ',')]
    roles: Vec<String>,
    /// As if the project did not let verdicts replace roles and permissions.
    #[arg(long)]
    no_roles_override: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was sent and what came back.
struct Exchange {
    body: String,
    signature: String,
    answer: Result<Answer, CallError>,
    took: Duration,
    phases: Phases,
    check: Option<SignatureCheck>,
}

impl Try {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let event = self.event()?;
        let egress = Egress::local(&config.egress)?;
        if let Err(refusal @ Refusal::Invalid(_)) = egress.check_url(&self.url) {
            return Err(ProgramError::Usage(format!("--url: {refusal}; accepted is https://, or http:// on this machine")));
        }
        let exchange = self.exchange(&egress, &event).await;
        let judgement = self.judge(&exchange);
        if self.json {
            self.print_json(&exchange, &judgement);
        } else {
            self.print(&exchange, &judgement);
        }
        match judgement.status {
            Status::Ok | Status::Rejected => Ok(()),
            status => Err(ProgramError::Failed(format!("{status}: {}", judgement.error.unwrap_or_default()))),
        }
    }

    /// The event as text, character for character.
    fn event(&self) -> Result<String, ProgramError> {
        let Some(path) = &self.event else { return Ok(sample(self.trigger).to_string()) };
        let wrong = |why: String| ProgramError::Usage(format!("--event {}: {why}; accepted is a JSON object", path.display()));
        let text = String::from_utf8(read(path)?).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let event: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if let Some(key) = ENVELOPE.iter().find(|key| event.contains_key(**key)) {
            return Err(wrong(format!("its key {key} belongs to the envelope, which the fleet writes")));
        }
        Ok(text)
    }

    async fn exchange(&self, egress: &Egress, event: &str) -> Exchange {
        let now = OffsetDateTime::now_utc();
        let at = now.replace_millisecond(now.millisecond()).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
        let event_id = new_event_id();
        let secret = Secret::from_text(&self.secret);
        let body = request_body(&event_id, self.trigger, &at, "project_try", event);
        let signature = sign::header(&[&secret], now.unix_timestamp(), body.as_bytes());
        let started = Instant::now();
        let deadline = started + Duration::from_millis(self.timeout_ms);
        let mut phases = Phases::default();
        let answer = async {
            let target = egress.clear(&self.url, deadline, &mut phases).await?;
            let headers = [
                (REQUEST_HEADER, signature.as_str()),
                ("authio-action-id", "action_try"),
                ("authio-trigger", self.trigger.as_str()),
                ("authio-event-id", &event_id),
            ];
            egress.post("try", &target, Request { headers: &headers, body: body.clone() }, deadline, &mut phases).await
        }
        .await;
        let took = started.elapsed();
        let check = answer.as_ref().ok().map(|answer| match &answer.body {
            Body::Whole(bytes) => sign::verify(&answer.signature, bytes, &[&secret], OffsetDateTime::now_utc().unix_timestamp()),
            Body::TooLarge | Body::Broken => SignatureCheck::Absent,
        });
        Exchange { body, signature, answer, took, phases, check }
    }

    fn judge(&self, exchange: &Exchange) -> Judgement {
        let action = Action {
            id: "action_try".to_owned(),
            version: 1,
            trigger: self.trigger,
            endpoint_url: self.url.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
            fail_mode: self.fail_mode,
            on_killed: OnKilled::Skip,
            require_response_signature: self.require_response_signature,
        };
        let role_slugs = if self.roles.is_empty() { asked_roles(exchange) } else { self.roles.iter().cloned().collect() };
        let project = Project { revision: 1, roles_action_override: !self.no_roles_override, role_slugs };
        match (&exchange.answer, &exchange.check) {
            (Ok(answer), Some(check)) => judge(&action, &project, answer, check),
            // Without a check there is no answer either.
            (Ok(_), None) => {
                failure(&action, Status::InvalidSignature, ErrorCode::SignatureMissing, "the response signature was not checked")
            }
            (Err(error), _) => self.failed(&action, error),
        }
    }

    fn failed(&self, action: &Action, error: &CallError) -> Judgement {
        let (status, why) = match error {
            CallError::Blocked { why, .. } => (Status::SsrfBlocked, why.clone()),
            CallError::Network { .. } | CallError::Ours { .. } => (Status::NetworkError, error.to_string()),
            CallError::OutOfTime { phase } => (Status::Timeout, format!("the endpoint used up its {} ms in: {phase}", self.timeout_ms)),
        };
        failure(action, status, error.code(), &why)
    }

    fn print_json(&self, exchange: &Exchange, judgement: &Judgement) {
        let outcome = judgement.outcome.to_json();
        let verdict = verdict(exchange).map_or("null", RawValue::get);
        let rest = json!({
            "status": judgement.status.as_str(),
            "error": judgement.error,
            "error_code": judgement.error_code.map(ErrorCode::as_str),
            "dropped": judgement.outcome.dropped,
            "http_status": exchange.answer.as_ref().ok().map(|answer| answer.http_status),
            "duration_ms": exchange.took.as_secs_f64() * 1000.0,
            "response": exchange.answer.as_ref().ok().and_then(shown),
            "response_signature": exchange.check.as_ref().map(name),
            "request": {"url": self.url, "authio-signature": exchange.signature, "body": exchange.body},
        });
        // Verdict and outcome go in as text, with their numbers as they were written.
        let rest = rest.to_string();
        let phases = exchange.phases.to_json().unwrap_or_else(|| "null".to_owned());
        screen::json(&format!("{{\"verdict\":{verdict},\"outcome\":{outcome},\"phases\":{phases},{}", rest.trim_start_matches('{')));
    }

    fn print(&self, exchange: &Exchange, judgement: &Judgement) {
        let Outcome { decision, source, code, reason, claims, roles, permissions, audit, dropped, .. } = &judgement.outcome;
        let mut answer = Vec::new();
        if let Ok(got) = &exchange.answer {
            answer.push(("HTTP", got.http_status.to_string()));
            answer.push(("body", shown(got).map(|body| screen::plain(&screen::short(&body, 500))).unwrap_or_default()));
        }
        answer.push(("took", format!("{:.1} ms", exchange.took.as_secs_f64() * 1000.0)));
        answer.push(("of it, ms", exchange.phases.to_json().unwrap_or_default()));
        answer.push(("signature", exchange.check.as_ref().map(|check| name(check).to_owned()).unwrap_or_default()));
        screen::fields(
            &format!("POST {}", self.url),
            &[("trigger", self.trigger.to_string()), ("signature", exchange.signature.clone()), ("body", exchange.body.clone())],
        );
        screen::fields("answered", &answer);
        let json_of = |list: &Option<Vec<String>>| list.as_ref().map(|list| json!(list).to_string()).unwrap_or_default();
        screen::fields(
            "auth-core would",
            &[
                ("decide", format!("{} (source {source}, status {})", decision, judgement.status)),
                ("because", screen::plain(judgement.error.as_deref().unwrap_or_default())),
                ("code", screen::plain(code.as_deref().unwrap_or_default())),
                (
                    "reason",
                    screen::plain(reason.as_deref().filter(|reason| Some(*reason) != judgement.error.as_deref()).unwrap_or_default()),
                ),
                ("claims", claims.as_ref().map(|claims| screen::plain(claims.get())).unwrap_or_default()),
                ("roles", json_of(roles)),
                ("permissions", json_of(permissions)),
                ("audit", audit.as_ref().map(|audit| screen::plain(audit.get())).unwrap_or_default()),
            ],
        );
        if !dropped.is_empty() {
            super::say(screen::bold("dropped"));
            for one in dropped {
                let values = if one.values.is_empty() { String::new() } else { format!(": {}", one.values.join(", ")) };
                super::say(screen::plain(&format!("  {}  {}{values}", one.field, one.why)));
            }
        }
    }
}

/// The endpoint's JSON, as it was written.
fn verdict(exchange: &Exchange) -> Option<&RawValue> {
    match &exchange.answer.as_ref().ok()?.body {
        Body::Whole(bytes) => serde_json::from_slice(bytes).ok(),
        Body::TooLarge | Body::Broken => None,
    }
}

/// The roles that the verdict asks for.
fn asked_roles(exchange: &Exchange) -> HashSet<String> {
    #[derive(serde::Deserialize)]
    struct Asks {
        #[serde(default)]
        override_roles: Vec<String>,
    }
    let asks = verdict(exchange).and_then(|verdict| serde_json::from_str::<Asks>(verdict.get()).ok());
    asks.map(|asks| asks.override_roles.into_iter().collect()).unwrap_or_default()
}

fn shown(answer: &Answer) -> Option<String> {
    match &answer.body {
        Body::Whole(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Body::TooLarge | Body::Broken => None,
    }
}

fn name(check: &SignatureCheck) -> &'static str {
    match check {
        SignatureCheck::Absent => "absent",
        SignatureCheck::Valid { .. } => "valid",
        SignatureCheck::Malformed(_) => "malformed",
        SignatureCheck::Refused(_) => "refused",
        SignatureCheck::Stale(_) => "stale",
    }
}

/// A made-up event, as auth-core would report it.
fn sample(trigger: Trigger) -> Value {
    let request = json!({"ip": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64)"});
    let metadata = json!({"test": true});
    let user = json!({"id": "user_test", "email": "test@example.com", "email_verified": true});
    let session = json!({"id": "sess_test", "organization_id": "org_test"});
    match trigger {
        Trigger::PreRegister => {
            json!({"user": {"email": "test@example.com", "email_verified": false}, "request": request, "metadata": metadata})
        }
        Trigger::PreAuthenticate => json!({"user": {"email": "test@example.com"}, "request": request, "metadata": metadata}),
        Trigger::PostRegister | Trigger::PostAuthenticate => json!({"user": user, "request": request, "metadata": metadata}),
        Trigger::PreTokenMint | Trigger::PostTokenMint => json!({
            "user": user, "session": session, "request": request, "metadata": metadata,
            "token": {"token_type": "user", "roles": ["member"], "permissions": [], "ttl_seconds": 900},
        }),
    }
}
