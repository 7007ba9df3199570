//! Pure: an answer, the action and its project go in; a status and an outcome come out.
//!
//! Called by the worker's flow and by `actionsctl try`. It opens no socket, reads no clock
//! and never fails: whatever a stranger answered has exactly one judgement.
//!
//! The rules are those of README's tables. The order matters: an answer that is not 2xx is an
//! `http_error` whatever else is wrong with it; then come size, signature, content type, JSON,
//! and only then the verdict.

mod json;
mod verdict;

use crate::domain::{Action, Answer, Body, MAX_RESPONSE_BYTES, Outcome, Project, SignatureCheck, Status};

/// What of a failure's description is kept.
const MAX_ERROR_CHARS: usize = 500;

/// What one answer means.
#[derive(Debug)]
pub struct Judgement {
    /// How the invocation ended.
    pub status: Status,
    /// What auth-core must do.
    pub outcome: Outcome,
    /// For a failure: what was wrong, in words a customer can act on.
    pub error: Option<String>,
    /// The verdict's overrides were honoured.
    pub overrode: bool,
    /// Facts for the audit log.
    pub notes: Vec<Note>,
}

/// A fact that the audit log should keep, beside the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Role slugs that the project does not know were dropped from an override.
    UnknownRolesDropped(Vec<String>),
    /// The verdict overrides roles or permissions, but the project's toggle is off.
    OverrideNotEnabled,
}

impl Note {
    /// The name of the audit event.
    pub fn event(&self) -> &'static str {
        match self {
            Self::UnknownRolesDropped(_) => "action.override_unknown_roles_dropped",
            Self::OverrideNotEnabled => "action.override_not_enabled_dropped",
        }
    }
}

/// Judges an answer whose signature was checked.
pub fn judge(action: &Action, project: &Project, answer: &Answer, signature: &SignatureCheck) -> Judgement {
    match readable(action, answer, signature) {
        Ok(text) => match verdict::read(&text) {
            Ok(verdict) => verdict::apply(verdict, action, project),
            Err(fault) => failure(action, Status::InvalidResponse, &fault),
        },
        Err((status, fault)) => failure(action, status, &fault),
    }
}

/// The judgement of an invocation that brought no verdict.
pub fn failure(action: &Action, status: Status, error: &str) -> Judgement {
    // Parts of an error may be a stranger's words: the database cannot store NUL, and nobody
    // wants to store all of them.
    let error: String = error.chars().take(MAX_ERROR_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect();
    Judgement {
        status,
        outcome: Outcome::without_verdict(status, action.trigger, action.fail_mode, action.on_killed, &error),
        error: Some(error),
        overrode: false,
        notes: Vec::new(),
    }
}

/// The body's text, if the answer may be read at all. An empty text is an empty body.
fn readable(action: &Action, answer: &Answer, signature: &SignatureCheck) -> Result<String, (Status, String)> {
    if !(200..300).contains(&answer.http_status) {
        let hint = match answer.http_status {
            300..=399 => "; redirects are never followed",
            401 => "; does the endpoint check the signature over the raw body, with this action's secret?",
            _ => "",
        };
        return Err((Status::HttpError, format!("the endpoint answered HTTP {}{hint}", answer.http_status)));
    }
    let invalid = |fault: String| (Status::InvalidResponse, fault);
    let body = match &answer.body {
        Body::Whole(body) => body,
        Body::TooLarge => return Err(invalid(format!("the response body has more than {MAX_RESPONSE_BYTES} bytes"))),
        Body::Broken => return Err((Status::NetworkError, "the response ended before its body was complete".to_owned())),
    };
    match signature {
        SignatureCheck::Malformed(fault) => {
            return Err(invalid(format!("malformed Authio-Response-Signature: {fault}")));
        }
        SignatureCheck::Refused(fault) | SignatureCheck::Stale(fault) => return Err((Status::InvalidSignature, fault.clone())),
        SignatureCheck::Absent if action.require_response_signature => {
            return Err((
                Status::InvalidSignature,
                "the action requires a signed response, and Authio-Response-Signature is missing".to_owned(),
            ));
        }
        SignatureCheck::Absent | SignatureCheck::Valid { .. } => {}
    }
    let text = std::str::from_utf8(body).map_err(|_| invalid("the response body is not UTF-8".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if text.is_empty() {
        return Ok(String::new());
    }
    match answer.content_type.as_slice() {
        [] => Err(invalid("the response has no Content-Type; accepted: application/json".to_owned())),
        types if types.iter().all(|one| is_json(one)) => Ok(json::storable(text).into_owned()),
        types => {
            let given: String = types.join(", ").chars().take(100).collect();
            Err(invalid(format!("the response's Content-Type is {given:?}; accepted: application/json")))
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
