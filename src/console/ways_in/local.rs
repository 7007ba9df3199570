//! The link that a console on loopback prints when it starts.

use std::sync::Mutex;
use std::sync::PoisonError;

use subtle::ConstantTimeEq;

/// A token that opens the console once.
pub struct LocalLink(Mutex<Option<String>>);

impl LocalLink {
    /// A new one, and its text to be printed.
    pub fn new() -> (Self, String) {
        let token = format!("local-{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        (Self(Mutex::new(Some(token.clone()))), token)
    }

    /// Whether this is the token, for the first time.
    pub fn takes(&self, given: &str) -> bool {
        let mut token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = token.as_ref().is_some_and(|token| token.as_bytes().ct_eq(given.as_bytes()).into());
        if is_it {
            *token = None;
        }
        is_it
    }
}
