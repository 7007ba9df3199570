//! Pure: an answer, the action and its project go in; a status and an outcome come out.
//!
//! Called by the worker's flow and by `actionsctl try`. It opens no socket, reads no clock
//! and never fails: whatever a stranger answered has exactly one judgement.
//!
//! The rules are those of README's tables. The order matters: an answer that is not 2xx is an
//! `http_error` whatever else is wrong with it; then come compression, size, signature, content
//! type, JSON, and only then the verdict.

mod compare;
mod json;
mod status_code;
mod verdict;

pub use verdict::RESERVED_CLAIMS;

pub use self::compare::differs;
use crate::domain::{Action, Answer, Body, ErrorCode, MAX_RESPONSE_BYTES, Outcome, Project, SignatureCheck, Status};

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
    /// The same as a word that stays when the sentence is reworded.
    pub error_code: Option<ErrorCode>,
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
    /// A failure would have denied this user, whom none may lock out.
    BreakGlassUsed(String),
}

impl Note {
    /// The name of the audit event.
    pub fn event(&self) -> &'static str {
        match self {
            Self::UnknownRolesDropped(_) => "action.override_unknown_roles_dropped",
            Self::OverrideNotEnabled => "action.override_not_enabled_dropped",
            Self::BreakGlassUsed(_) => "action.break_glass_used",
        }
    }
}

/// Judges an answer whose signature was checked.
pub fn judge(action: &Action, project: &Project, answer: &Answer, signature: &SignatureCheck) -> Judgement {
    match readable(action, answer, signature).and_then(|text| verdict::read(&text)) {
        Ok(verdict) => verdict::apply(verdict, action, project),
        Err(Fault { status, code, why }) => failure(action, status, code, &why),
    }
}

/// The judgement of an invocation that brought no verdict.
pub fn failure(action: &Action, status: Status, code: ErrorCode, error: &str) -> Judgement {
    // Parts of an error may be a stranger's words: the database cannot store NUL, and nobody
    // wants to store all of them.
    let error: String = error.chars().take(MAX_ERROR_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect();
    Judgement {
        status,
        outcome: Outcome::without_verdict(status, action.trigger, action.fail_mode, action.on_killed, &error),
        error: Some(error),
        error_code: Some(code),
        overrode: false,
        notes: Vec::new(),
    }
}

/// Why an answer is no verdict.
struct Fault {
    status: Status,
    code: ErrorCode,
    why: String,
}

/// An answer that cannot be read as a verdict.
fn invalid(code: ErrorCode, why: impl Into<String>) -> Fault {
    Fault { status: Status::InvalidResponse, code, why: why.into() }
}

/// The body's text, if the answer may be read at all. An empty text is an empty body.
fn readable(action: &Action, answer: &Answer, signature: &SignatureCheck) -> Result<String, Fault> {
    if !(200..300).contains(&answer.http_status) {
        return Err(status_code::fault(answer));
    }
    let is_empty = matches!(&answer.body, Body::Whole(body) if body.is_empty());
    if let Some(coding) = answer.compression().filter(|_| !is_empty) {
        let coding: String = coding.chars().take(50).collect();
        let why = format!(
            "the response is compressed ({coding}) although nothing compressed was asked for; send it without Content-Encoding, \
             and switch off compression in what stands before the endpoint"
        );
        return Err(invalid(ErrorCode::Compressed, why));
    }
    let body = match &answer.body {
        Body::Whole(body) => body,
        Body::TooLarge => {
            return Err(invalid(ErrorCode::TooLarge, format!("the response body has more than {MAX_RESPONSE_BYTES} bytes")));
        }
        Body::Broken => {
            let why = "the response ended before its body was complete".to_owned();
            return Err(Fault { status: Status::NetworkError, code: ErrorCode::BodyBroken, why });
        }
    };
    check_signature(action, signature)?;
    let text = std::str::from_utf8(body).map_err(|_| invalid(ErrorCode::NotUtf8, "the response body is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if text.is_empty() {
        return Ok(String::new());
    }
    match answer.content_type.as_slice() {
        [] => Err(invalid(ErrorCode::ContentType, "the response has no Content-Type; accepted: application/json")),
        types if types.iter().all(|one| is_json(one)) => Ok(json::storable(text).into_owned()),
        types => {
            let given: String = types.join(", ").chars().take(100).collect();
            Err(invalid(ErrorCode::ContentType, format!("the response's Content-Type is {given:?}; accepted: application/json")))
        }
    }
}

fn check_signature(action: &Action, signature: &SignatureCheck) -> Result<(), Fault> {
    let refused = |code, why: &str| Err(Fault { status: Status::InvalidSignature, code, why: why.to_owned() });
    match signature {
        SignatureCheck::Malformed(fault) => {
            Err(invalid(ErrorCode::SignatureMalformed, format!("malformed Authio-Response-Signature: {fault}")))
        }
        SignatureCheck::Refused(fault) => refused(ErrorCode::SignatureWrong, fault),
        SignatureCheck::Stale(fault) => refused(ErrorCode::SignatureStale, fault),
        SignatureCheck::Absent if action.require_response_signature => {
            refused(ErrorCode::SignatureMissing, "the action requires a signed response, and Authio-Response-Signature is missing")
        }
        SignatureCheck::Absent | SignatureCheck::Valid { .. } => Ok(()),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
