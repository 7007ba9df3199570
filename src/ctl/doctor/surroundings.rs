//! What a program needs beside the database: root keys, resolvers, a mail server.

use std::time::Duration;

use tokio::time::Instant;

use super::Finding::{self, Failure, Ok as Well, Warning};
use crate::config::Config;
use crate::domain::ErrorCode;
use crate::egress::{CallError, Egress, Phases};
use crate::smtp::Mailer;
use crate::store::health;

/// A name that every resolver answers, and none with an address (RFC 6761). Not under .invalid,
/// of which our own library knows the answer without asking.
const NOBODY: &str = "https://authio-actions-doctor.example/";
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn keys(config: &Config, actions: Option<&health::Actions>, needs_no_keys: bool) -> Finding {
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
pub(super) async fn dns(config: &Config, endpoints: &[String]) -> Finding {
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

pub(super) async fn smtp(config: &Config) -> Finding {
    match Mailer::new(&config.smtp) {
        Err(error) => Failure(error.to_string()),
        Ok(None) => Warning("smtp.url is not set: mails wait in the outbox".to_owned()),
        Ok(Some(mailer)) => match mailer.check().await {
            Ok(()) => Well("the mail server answers".to_owned()),
            Err(error) => Failure(format!("{error}; see smtp.url")),
        },
    }
}
