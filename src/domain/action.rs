//! An action and its project, as far as one invocation needs to know them.

use std::collections::HashSet;
use std::time::Duration;

use super::Trigger;

super::words! {
    /// What happens to the person when the endpoint fails.
    FailMode("fail_mode") {
        /// They pass.
        Open = "open",
        /// They are denied.
        Closed = "closed",
    }
}

super::words! {
    /// What happens to the person while the action is killed.
    OnKilled("on_killed") {
        /// As if the action did not exist.
        Skip = "skip",
        /// They are denied: for compliance gates.
        Deny = "deny",
    }
}

/// One immutable version of an action's configuration.
#[derive(Debug, Clone)]
pub struct Action {
    /// `action_…`
    pub id: String,
    /// Which version of the configuration this is, from 1.
    pub version: i32,
    /// The moment it is called at.
    pub trigger: Trigger,
    /// The customer's HTTPS endpoint, as typed.
    pub endpoint_url: String,
    /// How long the endpoint may take, 100 ms to 5 s.
    pub timeout: Duration,
    /// What decides when there is no verdict.
    pub fail_mode: FailMode,
    /// What decides while it is killed.
    pub on_killed: OnKilled,
    /// Whether an unsigned answer is refused.
    pub require_response_signature: bool,
    /// Whether what is sent is kept, encrypted, to be sent again.
    pub records_events: bool,
    /// How old what a verdict gave a person may be where the endpoint fails; zero applies nothing.
    pub last_known: Duration,
}

/// What of a project matters to a verdict.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Grows with every change.
    pub revision: i64,
    /// Whether verdicts may replace roles and permissions.
    pub roles_action_override: bool,
    /// Every role slug the project knows.
    pub role_slugs: HashSet<String>,
    /// Users whom no failure locks out.
    pub break_glass: Vec<String>,
}
