//! A verdict: read leniently, the deny first; then applied under the rules of its trigger.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::json::{Members, compact, depth, last_of_each, write_object};
use super::{Fault, Judgement, Note, invalid};
use crate::domain::{Action, Decision, Dropped, ErrorCode, Outcome, Project, Source, Status};

/// Claims a customer may never set: they say who the token is for and what it is.
pub const RESERVED_CLAIMS: [&str; 16] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "kind",
    "roles",
    "permissions",
    "sid",
    "act_org",
    "tenant_id",
    "organization_id",
    "widget_scope",
    "widget_origins",
];
/// The most bytes of compact JSON that `append_audit` may have.
const MAX_AUDIT_BYTES: usize = 4_096;
/// Deeper values would overflow the parsers that read them after us.
const MAX_DEPTH: usize = 64;

/// What an endpoint said, before the rules of trigger and project.
#[derive(Default)]
pub struct Verdict {
    denies: bool,
    deny_code: Option<String>,
    deny_reason: Option<String>,
    claims: Option<Vec<(String, Box<RawValue>)>>,
    roles: Option<Vec<String>>,
    permissions: Option<Vec<String>>,
    audit: Option<Box<RawValue>>,
    dropped: Vec<Dropped>,
}

/// Reads a verdict. An empty text allows; what is not a JSON object is an error.
pub(super) fn read(text: &str) -> Result<Verdict, Fault> {
    let mut verdict = Verdict::default();
    if text.is_empty() {
        return Ok(verdict);
    }
    let Members(members) = serde_json::from_str(text).map_err(|error| no_object(text, &error))?;
    verdict.read_decision(members.iter().filter(|(key, _)| key == "decision").map(|(_, value)| *value));
    for (key, value) in last_of_each(&members) {
        if value.get() != "null" {
            verdict.read_field(key, value);
        }
    }
    Ok(verdict)
}

/// What stands there instead of an object.
fn no_object(text: &str, error: &serde_json::Error) -> Fault {
    // A whole value of another kind is JSON, and its owner mistook what is asked for.
    let kind = match serde_json::from_str::<&RawValue>(text).ok().and_then(|value| value.get().bytes().next()) {
        Some(b'n') => "the JSON value null",
        Some(b'[') => "a JSON array",
        Some(b'"') => "a JSON string",
        Some(b't' | b'f') => "the JSON value true or false",
        Some(b'-' | b'0'..=b'9') => "a JSON number",
        _ => return invalid(ErrorCode::NotJson, format!("the response body is not a JSON object: {error}")),
    };
    invalid(ErrorCode::NotAnObject, format!("the response body is {kind}; send {{}} or nothing"))
}

impl Verdict {
    /// Whether it says `"deny"`.
    pub(super) fn denies(&self) -> bool {
        self.denies
    }

    /// Any `"deny"` denies, even where the key is repeated: parsers differ in which one they
    /// show, and a deny must never become an allow by accident.
    fn read_decision<'a>(&mut self, values: impl Iterator<Item = &'a RawValue>) {
        let mut unknown = None;
        for value in values.filter(|value| value.get() != "null") {
            match serde_json::from_str::<String>(value.get()).as_deref() {
                Ok("deny") => self.denies = true,
                Ok("allow") => {}
                _ => unknown = Some("neither \"allow\" nor \"deny\", so it allows"),
            }
        }
        if let Some(why) = unknown.filter(|_| !self.denies) {
            self.dropped.push(Dropped::field("decision", why));
        }
    }

    fn read_field(&mut self, key: &str, value: &RawValue) {
        let json = value.get();
        let fault = match key {
            "deny_code" => set(&mut self.deny_code, serde_json::from_str(json), "not a string"),
            "deny_reason" => set(&mut self.deny_reason, serde_json::from_str(json), "not a string"),
            "override_roles" => set(&mut self.roles, serde_json::from_str(json), "not an array of strings"),
            "override_permissions" => set(&mut self.permissions, serde_json::from_str(json), "not an array of strings"),
            "override_claims" if depth(json) > MAX_DEPTH => Some("nested too deeply"),
            "append_audit" if depth(json) > MAX_DEPTH => Some("nested too deeply"),
            "override_claims" => {
                let members = serde_json::from_str(json).map(|Members(members)| members);
                set(&mut self.claims, members.map(|all| all.into_iter().map(|(k, v)| (k, v.to_owned())).collect()), "not an object")
            }
            "append_audit" if !json.starts_with('{') => Some("not an object"),
            "append_audit" if compact(json).len() > MAX_AUDIT_BYTES => Some("more than 4096 bytes of JSON"),
            "append_audit" => set(&mut self.audit, RawValue::from_string(compact(json)), "not an object"),
            _ => None, // fields we do not know yet are the customer's own affair
        };
        if let Some(why) = fault {
            self.dropped.push(Dropped::field(key, why));
        }
    }
}

fn set<T>(slot: &mut Option<T>, read: Result<T, serde_json::Error>, fault: &'static str) -> Option<&'static str> {
    match read {
        Ok(value) => {
            *slot = Some(value);
            None
        }
        Err(_) => Some(fault),
    }
}

/// Applies what the trigger and the project honour, and tells everything else as dropped.
pub fn apply(mut verdict: Verdict, action: &Action, project: &Project) -> Judgement {
    let denies = verdict.denies && action.trigger.can_deny();
    let (decision, status) = if denies { (Decision::Deny, Status::Rejected) } else { (Decision::Allow, Status::Ok) };
    let mut outcome = Outcome::plain(decision, Source::Verdict, status);
    let mut notes = Vec::new();
    let mut drop = |field: &str, why: &str| verdict.dropped.push(Dropped::field(field, why));

    if denies {
        outcome.code = Some(verdict.deny_code.filter(|code| !code.is_empty()).unwrap_or_else(|| "action_denied".to_owned()));
        outcome.reason = verdict.deny_reason;
    } else {
        let why = if verdict.denies { "this trigger is informational and never denies" } else { "only used with \"decision\": \"deny\"" };
        if verdict.denies {
            drop("decision", why);
        }
        for (field, given) in [("deny_code", verdict.deny_code.is_some()), ("deny_reason", verdict.deny_reason.is_some())] {
            if given {
                drop(field, why);
            }
        }
    }

    let refused = match () {
        () if !action.trigger.can_override_token() => Some("only honoured on pre_token_mint"),
        () if denies => Some("a denied event mints no token"),
        () => None,
    };
    if let Some(why) = refused {
        for (field, given) in [
            ("override_claims", verdict.claims.take().is_some()),
            ("override_roles", verdict.roles.take().is_some()),
            ("override_permissions", verdict.permissions.take().is_some()),
        ] {
            if given {
                drop(field, why);
            }
        }
    }
    if (verdict.roles.is_some() || verdict.permissions.is_some()) && !project.roles_action_override {
        for (field, given) in
            [("override_roles", verdict.roles.take().is_some()), ("override_permissions", verdict.permissions.take().is_some())]
        {
            if given {
                drop(field, "the project's roles_action_override is off");
            }
        }
        notes.push(Note::OverrideNotEnabled);
    }
    let overrode = verdict.claims.is_some() || verdict.roles.is_some() || verdict.permissions.is_some();

    outcome.dropped = verdict.dropped;
    if let Some(claims) = verdict.claims {
        outcome.claims = free_claims(claims, &mut outcome.dropped);
    }
    let permissions = verdict.permissions.map(sorted);
    match verdict.roles.map(|roles| known_roles(roles, project)) {
        None => outcome.permissions = permissions,
        Some((known, unknown)) => {
            let falls_away = known.is_empty() && !unknown.is_empty();
            if !unknown.is_empty() {
                outcome
                    .dropped
                    .push(Dropped { values: unknown.clone(), ..Dropped::field("override_roles", "unknown to the project's roles") });
                notes.push(Note::UnknownRolesDropped(unknown));
            }
            if !falls_away {
                outcome.roles = Some(known);
                outcome.permissions = permissions;
            } else if permissions.is_some() {
                outcome.dropped.push(Dropped::field("override_permissions", "no role of the override is known, so all of it falls away"));
            }
        }
    }
    outcome.audit = verdict.audit;
    Judgement { status, outcome, error: None, error_code: None, overrode, notes }
}

/// Claims without the reserved ones, which are told as dropped.
fn free_claims(claims: Vec<(String, Box<RawValue>)>, dropped: &mut Vec<Dropped>) -> Option<Box<RawValue>> {
    let (reserved, free): (Vec<_>, Vec<_>) = claims.into_iter().partition(|(key, _)| RESERVED_CLAIMS.contains(&key.as_str()));
    if !reserved.is_empty() {
        let values = sorted(reserved.into_iter().map(|(key, _)| key).collect());
        dropped.push(Dropped { values, ..Dropped::field("override_claims", "reserved claims") });
    }
    let free: Vec<(String, &RawValue)> = free.iter().map(|(key, value)| (key.clone(), &**value)).collect();
    write_object(&free)
}

fn known_roles(roles: Vec<String>, project: &Project) -> (Vec<String>, Vec<String>) {
    sorted(roles).into_iter().partition(|slug| project.role_slugs.contains(slug))
}

fn sorted(slugs: Vec<String>) -> Vec<String> {
    slugs.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}
