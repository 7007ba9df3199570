//! Why something other than the one call that decides is sent.

super::words! {
    /// As the header `Authio-Mode` says it; a call that decides under the current version has none.
    Mode("mode") {
        /// The event was decided already; this answer is compared.
        Shadow = "shadow",
        /// A candidate decides.
        Canary = "canary",
        /// A recorded event, again.
        Replay = "replay",
    }
}

/// The header that says so.
pub const MODE_HEADER: &str = "authio-mode";
