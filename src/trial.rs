//! One signed event to any URL, and what would be applied of its answer: the worker's own rules, without
//! a database. Nothing is changed by it.
//!
//! Called by `actionsctl try` and by the console's `/try`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::domain::{
    Action, Answer, Body, ErrorCode, FailMode, MODE_HEADER, Mode, OnKilled, Outcome, Project, SignatureCheck, Status, Trigger,
    new_event_id, request_body,
};
use crate::egress::{CallError, Egress, Phases, Request};
use crate::judge::{Judgement, failure, judge};
use crate::sign::{self, REQUEST_HEADER, Secret};

/// The keys that the fleet writes; an event must not have them.
const ENVELOPE: [&str; 4] = ["event_id", "trigger", "occurred_at", "project"];

/// What is tried, as an action would say it.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The endpoint.
    pub url: &'a str,
    /// The secret that signs, `asec_…`.
    pub secret: &'a str,
    /// The moment of the auth event.
    pub trigger: Trigger,
    /// A JSON object, sent character for character; see [`check_event`].
    pub event: &'a str,
    /// The whole budget, from DNS to the last byte.
    pub timeout: Duration,
    /// What decides when the endpoint fails.
    pub fail_mode: FailMode,
    /// Whether an answer that is not signed is refused.
    pub require_response_signature: bool,
    /// The project's role slugs; where there are none, each that the verdict asks for counts as known.
    pub roles: &'a [String],
    /// Whether the project lets verdicts replace roles and permissions.
    pub roles_override: bool,
}

/// What was sent and what came back.
#[derive(Debug)]
pub struct Exchange {
    /// The request's body.
    pub body: String,
    /// Its signature header.
    pub signature: String,
    /// The answer, or why there is none.
    pub answer: Result<Answer, CallError>,
    /// From DNS to the last byte.
    pub took: Duration,
    /// Of it, each phase.
    pub phases: Phases,
    /// What the answer's signature is worth.
    pub check: Option<SignatureCheck>,
}

impl Trial<'_> {
    /// Sends it, and judges the answer. What may be dialled is for `egress` to say.
    pub async fn run(&self, egress: &Egress) -> (Exchange, Judgement) {
        let exchange = self.exchange(egress).await;
        let judgement = self.judge(&exchange);
        (exchange, judgement)
    }

    async fn exchange(&self, egress: &Egress) -> Exchange {
        let now = OffsetDateTime::now_utc();
        let at = now.replace_millisecond(now.millisecond()).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
        let event_id = new_event_id();
        let body = request_body(&event_id, self.trigger, &at, "project_try", self.event);
        let sent = Sent {
            url: self.url,
            secrets: &[self.secret],
            action_id: "action_try",
            trigger: self.trigger,
            event_id: &event_id,
            mode: None,
            timeout: self.timeout,
        };
        sent.exchange(egress, body).await
    }

    fn judge(&self, exchange: &Exchange) -> Judgement {
        let action = Action {
            id: "action_try".to_owned(),
            version: 1,
            trigger: self.trigger,
            endpoint_url: self.url.to_owned(),
            timeout: self.timeout,
            fail_mode: self.fail_mode,
            on_killed: OnKilled::Skip,
            require_response_signature: self.require_response_signature,
            records_events: false,
            last_known: Duration::ZERO,
        };
        let role_slugs = if self.roles.is_empty() { exchange.asked_roles() } else { self.roles.iter().cloned().collect() };
        let project = Project { revision: 1, roles_action_override: self.roles_override, role_slugs, break_glass: Vec::new() };
        judge_exchange(&action, &project, exchange)
    }
}

/// One request, whatever it is for.
#[derive(Debug)]
pub struct Sent<'a> {
    /// The endpoint.
    pub url: &'a str,
    /// The secrets that sign, the current one first.
    pub secrets: &'a [&'a str],
    /// As the header names it.
    pub action_id: &'a str,
    /// The moment of the auth event.
    pub trigger: Trigger,
    /// As the header names it.
    pub event_id: &'a str,
    /// Why it is sent, unless it decides.
    pub mode: Option<Mode>,
    /// The whole budget, from DNS to the last byte.
    pub timeout: Duration,
}

impl Sent<'_> {
    /// Sends a body, signed now, and reads the answer.
    pub async fn exchange(&self, egress: &Egress, body: String) -> Exchange {
        let secrets: Vec<Secret> = self.secrets.iter().map(|secret| Secret::from_text(secret)).collect();
        let secrets: Vec<&Secret> = secrets.iter().collect();
        let signature = sign::header(&secrets, OffsetDateTime::now_utc().unix_timestamp(), body.as_bytes());
        let started = Instant::now();
        let deadline = started + self.timeout;
        let mut phases = Phases::default();
        let answer = async {
            let target = egress.clear(self.url, deadline, &mut phases).await?;
            let mut headers = vec![
                (REQUEST_HEADER, signature.as_str()),
                ("authio-action-id", self.action_id),
                ("authio-trigger", self.trigger.as_str()),
                ("authio-event-id", self.event_id),
            ];
            headers.extend(self.mode.map(|mode| (MODE_HEADER, mode.as_str())));
            egress.post("try", &target, Request { headers: &headers, body: body.clone() }, deadline, &mut phases).await
        }
        .await;
        let took = started.elapsed();
        let check = answer.as_ref().ok().map(|answer| match &answer.body {
            Body::Whole(bytes) => sign::verify(&answer.signature, bytes, &secrets, OffsetDateTime::now_utc().unix_timestamp()),
            Body::TooLarge | Body::Broken => SignatureCheck::Absent,
        });
        Exchange { body, signature, answer, took, phases, check }
    }
}

/// What an exchange means for an action.
pub fn judge_exchange(action: &Action, project: &Project, exchange: &Exchange) -> Judgement {
    match (&exchange.answer, &exchange.check) {
        (Ok(answer), Some(check)) => judge(action, project, answer, check),
        // Without a check there is no answer either.
        (Ok(_), None) => failure(action, Status::InvalidSignature, ErrorCode::SignatureMissing, "the response signature was not checked"),
        (Err(error), _) => {
            let (status, why) = match error {
                CallError::Blocked { why, .. } => (Status::SsrfBlocked, why.clone()),
                CallError::Network { .. } | CallError::Ours { .. } => (Status::NetworkError, error.to_string()),
                CallError::OutOfTime { phase } => {
                    (Status::Timeout, format!("the endpoint used up its {} ms in: {phase}", action.timeout.as_millis()))
                }
            };
            failure(action, status, error.code(), &why)
        }
    }
}

/// A recorded event as it is sealed: the outcome that it had, and the bytes that were sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// The request's body.
    pub body: Cow<'a, str>,
}

impl Exchange {
    /// The endpoint's JSON, as it was written.
    pub fn verdict(&self) -> Option<&RawValue> {
        match &self.answer.as_ref().ok()?.body {
            Body::Whole(bytes) => serde_json::from_slice(bytes).ok(),
            Body::TooLarge | Body::Broken => None,
        }
    }

    /// The answer's body as text, where all of it came.
    pub fn shown(&self) -> Option<String> {
        match &self.answer.as_ref().ok()?.body {
            Body::Whole(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Body::TooLarge | Body::Broken => None,
        }
    }

    /// The roles that the verdict asks for.
    fn asked_roles(&self) -> HashSet<String> {
        #[derive(serde::Deserialize)]
        struct Asks {
            #[serde(default)]
            override_roles: Vec<String>,
        }
        let asks = self.verdict().and_then(|verdict| serde_json::from_str::<Asks>(verdict.get()).ok());
        asks.map(|asks| asks.override_roles.into_iter().collect()).unwrap_or_default()
    }
}

/// Whether a text can be an event: a JSON object without the keys that the fleet writes. Else what is wrong.
pub fn check_event(text: &str) -> Result<(), String> {
    let event: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match ENVELOPE.iter().find(|key| event.contains_key(**key)) {
        Some(key) => Err(format!("its key {key} belongs to the envelope, which the fleet writes")),
        None => Ok(()),
    }
}

/// One word for what an answer's signature is worth.
pub fn word(check: &SignatureCheck) -> &'static str {
    match check {
        SignatureCheck::Absent => "absent",
        SignatureCheck::Valid { .. } => "valid",
        SignatureCheck::Malformed(_) => "malformed",
        SignatureCheck::Refused(_) => "refused",
        SignatureCheck::Stale(_) => "stale",
    }
}

/// A made-up event, as auth-core would report it.
pub fn sample(trigger: Trigger) -> Value {
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
