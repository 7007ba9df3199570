//! What a waiting client hears.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::{Outcome, Status};

/// The payload of a NOTIFY on the channel of `reply_to`: several results may share one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Notification(#[schemars(length(min = 1))] Vec<Result>);

/// One result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Result {
    /// The invocation that `actions.enqueue` named.
    #[schemars(regex(pattern = "^inv_"))]
    id: String,
    /// The token of `channel/token`, where one was given. A client believes no result without its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9A-Za-z]{8,32}$"))]
    token: Option<String>,
    /// How the invocation ended.
    status: Status,
    /// The outcome; where it did not fit, `actions.result` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}
