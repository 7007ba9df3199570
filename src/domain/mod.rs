//! Facts of the field, pure: what a trigger, a status, an action, an outcome *is*.
//!
//! Everybody imports this room; it imports nobody and touches no clock, socket or database.

mod action;
mod answer;
mod envelope;
mod error_code;
mod ids;
mod mode;
mod outcome;
mod person;
mod status;
mod trace_parent;
mod trigger;

pub use action::{Action, FailMode, OnKilled, Project};
pub use answer::{Answer, Body, MAX_RESPONSE_BYTES, SignatureCheck};
pub use envelope::request_body;
pub use error_code::ErrorCode;
pub use ids::new_event_id;
pub use mode::{MODE_HEADER, Mode};
pub use outcome::{Decision, Dropped, Outcome, Source};
pub use person::Person;
pub use status::Status;
pub use trace_parent::{TRACE_PARENT_HEADER, TraceParent};
pub use trigger::Trigger;

/// A word of the vocabulary that was not understood, with the words that are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {given:?}; accepted: {accepted}")]
pub struct UnknownWord {
    /// What the word stands for: `trigger`, `status`, …
    pub what: &'static str,
    /// The word as it was given.
    pub given: String,
    /// All words that are understood, comma-separated.
    pub accepted: String,
}

/// Declares an enum whose variants are words shared by Rust, SQL and JSON.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every variant, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word as it stands in SQL, JSON and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::UnknownWord;
            fn from_str(given: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|word| word.as_str() == given).ok_or_else(|| $crate::domain::UnknownWord {
                    what: $what,
                    given: given.chars().take(100).collect(),
                    accepted: Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
use words;
