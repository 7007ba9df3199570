//! What is said of a URL before anybody calls it.

use std::net::IpAddr;

use tokio::time::Instant;

use super::{CallError, Egress, Phases, Refusal};

/// A word and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// `allowed`, `ssrf_blocked` or `invalid`.
    pub verdict: &'static str,
    /// In a sentence.
    pub reason: String,
}

/// Where the addresses of a name come from.
#[derive(Debug, Clone, Copy)]
pub enum Addresses<'a> {
    /// They are asked for, until then.
    Asked(Instant),
    /// They are these.
    Given(&'a [IpAddr]),
    /// The name alone decides.
    Left,
}

impl Egress {
    /// What the fleet would say to a URL.
    pub async fn check(&self, url: &str, addresses: Addresses<'_>) -> Checked {
        let said = |verdict, reason| Checked { verdict, reason };
        let endpoint = match self.check_url(url) {
            Ok(endpoint) => endpoint,
            Err(refusal @ Refusal::Invalid(_)) => return said("invalid", refusal.to_string()),
            Err(refusal @ Refusal::Forbidden(..)) => return said("ssrf_blocked", refusal.to_string()),
        };
        let cleared = match addresses {
            Addresses::Left => return said("allowed", "the name is permitted; its addresses were not asked for".to_owned()),
            Addresses::Given(answers) => self.check_answers(endpoint, answers),
            Addresses::Asked(deadline) => self.clear(url, deadline, &mut Phases::default()).await,
        };
        match cleared {
            Ok(target) => said("allowed", format!("permitted, at {} address(es)", target.address_count())),
            Err(CallError::Blocked { why, .. }) => said("ssrf_blocked", why),
            // Not forbidden: a call would end as network_error or timeout.
            Err(error) => said("allowed", format!("the name is permitted, but a call would fail: {error}")),
        }
    }
}
