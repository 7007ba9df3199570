//! What a status code other than 2xx means, and what its owner may do about it.

use super::{Fault, verdict};
use crate::domain::{Answer, Body, ErrorCode, Status};

/// The fault of an answer that is not 2xx.
pub fn fault(answer: &Answer) -> Fault {
    let status = answer.http_status;
    let (code, hint) = match status {
        300..=399 => (ErrorCode::Http3xx, "redirects are never followed; set the endpoint URL to where it leads"),
        401 => (ErrorCode::Http401, "does the endpoint check the signature over the raw body, with this action's secret?"),
        403 => (ErrorCode::Http403, "does something before the endpoint, such as a firewall or a log-in, refuse our requests?"),
        404 => (ErrorCode::Http404, "is the path of the endpoint URL right, its letter case and trailing slash included?"),
        405 => (ErrorCode::Http4xx, "the endpoint must take POST at exactly this path"),
        413 => (ErrorCode::Http4xx, "the endpoint, or what stands before it, must take larger bodies"),
        415 => (ErrorCode::Http4xx, "the endpoint must take application/json"),
        429 => (ErrorCode::Http429, "the endpoint limits how often it is called; let it take every sign-in"),
        400..=499 => (ErrorCode::Http4xx, ""),
        502..=504 => (ErrorCode::Http5xx, "what stands before the endpoint got no answer from it in time"),
        500..=599 => (ErrorCode::Http5xx, "the endpoint failed; its own log should say why"),
        _ => (ErrorCode::HttpOther, "accepted is 200 to 299"),
    };
    let hint =
        if (400..500).contains(&status) && is_deny(answer) { "a deny is HTTP 200 with {\"decision\": \"deny\"} in its body" } else { hint };
    let separator = if hint.is_empty() { "" } else { "; " };
    Fault { status: Status::HttpError, code, why: format!("the endpoint answered HTTP {status}{separator}{hint}") }
}

/// Whether the body would deny if the status were 200.
fn is_deny(answer: &Answer) -> bool {
    match &answer.body {
        Body::Whole(body) => std::str::from_utf8(body).is_ok_and(|text| verdict::read(text.trim()).is_ok_and(|verdict| verdict.denies())),
        Body::TooLarge | Body::Broken => false,
    }
}
