//! `actionsctl try`: the customer's local loop, on the fleet's own code and without a database.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;

use super::signature::{SECRET_VARIABLE, read};
use super::{arguments, screen};
use crate::config::Config;
use crate::domain::{ErrorCode, FailMode, Outcome, Status, Trigger};
use crate::egress::{Egress, Refusal};
use crate::judge::Judgement;
use crate::program::ProgramError;
use crate::trial::{self, Exchange, Trial};

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

impl Try {
    pub async fn run(self, config: &Config) -> Result<(), ProgramError> {
        let event = self.event()?;
        let egress = Egress::local(&config.egress)?;
        if let Err(refusal @ Refusal::Invalid(_)) = egress.check_url(&self.url) {
            return Err(ProgramError::Usage(format!("--url: {refusal}; accepted is https://, or http:// on this machine")));
        }
        let trial = Trial {
            url: &self.url,
            secret: &self.secret,
            trigger: self.trigger,
            event: &event,
            timeout: Duration::from_millis(self.timeout_ms),
            fail_mode: self.fail_mode,
            require_response_signature: self.require_response_signature,
            roles: &self.roles,
            roles_override: !self.no_roles_override,
        };
        let (exchange, judgement) = trial.run(&egress).await;
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
        let Some(path) = &self.event else { return Ok(trial::sample(self.trigger).to_string()) };
        let wrong = |why: String| ProgramError::Usage(format!("--event {}: {why}; accepted is a JSON object", path.display()));
        let text = String::from_utf8(read(path)?).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        trial::check_event(&text).map_err(wrong)?;
        Ok(text)
    }

    fn print_json(&self, exchange: &Exchange, judgement: &Judgement) {
        let outcome = judgement.outcome.to_json();
        let verdict = exchange.verdict().map_or("null", RawValue::get);
        let rest = json!({
            "status": judgement.status.as_str(),
            "error": judgement.error,
            "error_code": judgement.error_code.map(ErrorCode::as_str),
            "dropped": judgement.outcome.dropped,
            "http_status": exchange.answer.as_ref().ok().map(|answer| answer.http_status),
            "duration_ms": exchange.took.as_secs_f64() * 1000.0,
            "response": exchange.shown(),
            "response_signature": exchange.check.as_ref().map(trial::word),
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
            answer.push(("body", exchange.shown().map(|body| screen::plain(&screen::short(&body, 500))).unwrap_or_default()));
        }
        answer.push(("took", format!("{:.1} ms", exchange.took.as_secs_f64() * 1000.0)));
        answer.push(("of it, ms", exchange.phases.to_json().unwrap_or_default()));
        answer.push(("signature", exchange.check.as_ref().map(|check| trial::word(check).to_owned()).unwrap_or_default()));
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
