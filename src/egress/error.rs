//! Why there is no answer, and whose fault that is.

use super::Phase;
use crate::domain::ErrorCode;

/// Why there is no answer, in words that a customer can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL or an address is forbidden; nothing was dialled.
    #[error("{why}")]
    Blocked {
        /// The reason as a word.
        code: ErrorCode,
        /// The reason.
        why: String,
    },
    /// DNS, connect, TLS or the connection failed.
    #[error("{phase}: {why}")]
    Network {
        /// What was going on.
        phase: Phase,
        /// What went wrong, as a word.
        code: ErrorCode,
        /// What went wrong, and what to do.
        why: String,
    },
    /// This machine or its network lacks something: the fleet's fault, not the endpoint's.
    #[error("{why}")]
    Ours {
        /// What is lacking, as a word.
        code: ErrorCode,
        /// What is lacking.
        why: String,
    },
    /// The budget ended first.
    #[error("out of time in {phase}")]
    OutOfTime {
        /// What was going on.
        phase: Phase,
    },
}

impl CallError {
    /// The reason as a word.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Blocked { code, .. } | Self::Network { code, .. } | Self::Ours { code, .. } => *code,
            Self::OutOfTime { phase } => phase.timeout_code(),
        }
    }
}
