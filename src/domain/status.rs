//! How an invocation ended, and who is to blame.

super::words! {
    /// A final status of an invocation; written once.
    Status("status") {
        /// The endpoint's verdict allows.
        Ok = "ok",
        /// The endpoint's verdict denies, on a trigger that can deny.
        Rejected = "rejected",
        /// The endpoint used up its `timeout_ms`.
        Timeout = "timeout",
        /// DNS, connect, TLS or a connection that broke, by the endpoint's fault.
        NetworkError = "network_error",
        /// The URL or a resolved address is forbidden; nothing was dialled.
        SsrfBlocked = "ssrf_blocked",
        /// The endpoint answered other than 2xx.
        HttpError = "http_error",
        /// The answer cannot be read as a verdict.
        InvalidResponse = "invalid_response",
        /// The answer's signature is wrong, stale, or missing where it is required.
        InvalidSignature = "invalid_signature",
        /// The action was killed before this invocation was sent.
        Killed = "killed",
        /// The fleet, not the endpoint, ran out of time, or lacked a route, a resolver or a socket.
        Expired = "expired",
    }
}

impl Status {
    /// Whether a verdict decides; otherwise `fail_mode` or `on_killed` does.
    pub fn has_verdict(self) -> bool {
        matches!(self, Self::Ok | Self::Rejected)
    }
}
