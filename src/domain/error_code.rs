//! What went wrong with an invocation, as one word that stays the same when its sentence is reworded.
//!
//! Dashboards, alerts and customers' own scripts compare these words, so a word is never
//! renamed or given another meaning; new ones may be added. The sentence beside it says
//! what to do.

super::words! {
    /// The reason of an error, beside the sentence that explains it.
    ErrorCode("error_code") {
        /// The URL is no https URL without user-info.
        UrlInvalid = "url_invalid",
        /// The URL's host is the operator's, a name of the machine, or has no domain.
        UrlForbidden = "url_forbidden",
        /// The URL's port is not one that endpoints may use.
        PortForbidden = "port_forbidden",
        /// The host is, or resolves to, an address that may not be dialled.
        AddressForbidden = "address_forbidden",

        /// The host is no name that DNS knows.
        DnsInvalidName = "dns_invalid_name",
        /// There is no such name.
        DnsNoSuchName = "dns_no_such_name",
        /// The name has neither an A nor an AAAA record.
        DnsNoAddress = "dns_no_address",
        /// The domain's name servers answered with a failure.
        DnsFailure = "dns_failure",
        /// The domain's name servers did not answer, while the resolvers answered for others.
        DnsNoAnswer = "dns_no_answer",
        /// No resolver answered this worker, not even for another name: the fleet's fault.
        ResolverSilent = "resolver_silent",
        /// The resolvers refuse to serve this worker: the fleet's fault.
        ResolverRefused = "resolver_refused",
        /// The resolvers could not be asked: the fleet's fault.
        ResolverUnreachable = "resolver_unreachable",
        /// This machine knows no resolver: the fleet's fault.
        NoResolver = "no_resolver",

        /// The endpoint refused the connection.
        ConnectRefused = "connect_refused",
        /// The endpoint reset the connection while it was being made.
        ConnectReset = "connect_reset",
        /// The operating system gave up connecting before the budget ended.
        ConnectTimeout = "connect_timeout",
        /// The connection could not be made for another reason.
        ConnectFailed = "connect_failed",
        /// This machine has no route to the address, or may not use it: the fleet's fault.
        NoRoute = "no_route",
        /// This machine has no file, port or memory left for a socket: the fleet's fault.
        NoSockets = "no_sockets",

        /// The certificate has expired.
        TlsExpired = "tls_expired",
        /// The certificate is not valid yet.
        TlsNotYetValid = "tls_not_yet_valid",
        /// The certificate is for another name.
        TlsWrongName = "tls_wrong_name",
        /// The certificate's chain does not lead to a public authority.
        TlsUnknownIssuer = "tls_unknown_issuer",
        /// The certificate is refused for another reason.
        TlsBadCertificate = "tls_bad_certificate",
        /// The endpoint asks for a certificate of ours.
        TlsClientCertificate = "tls_client_certificate",
        /// No TLS version, cipher suite or protocol in common, or the server knows no such name.
        TlsHandshake = "tls_handshake",
        /// The port answers, but not with TLS.
        TlsNotTls = "tls_not_tls",
        /// TLS failed in another way.
        TlsFailed = "tls_failed",

        /// The endpoint reset the connection.
        ConnectionReset = "connection_reset",
        /// The endpoint closed the connection before it answered.
        ConnectionClosed = "connection_closed",
        /// The connection failed in another way.
        ConnectionFailed = "connection_failed",
        /// The request cannot be written.
        Unsendable = "unsendable",
        /// The answer is no HTTP/1.1.
        NoHttp = "no_http",
        /// The answer has too many headers, or too large ones.
        HeadersTooLarge = "headers_too_large",
        /// The answer ended before its body was complete.
        BodyBroken = "body_broken",

        /// The endpoint's time ended in DNS.
        TimeoutDns = "timeout_dns",
        /// The endpoint's time ended while connecting.
        TimeoutConnect = "timeout_connect",
        /// The endpoint's time ended in the TLS handshake.
        TimeoutTls = "timeout_tls",
        /// The endpoint's time ended before its answer began.
        TimeoutFirstByte = "timeout_first_byte",
        /// The endpoint's time ended in the middle of its answer.
        TimeoutBody = "timeout_body",

        /// A redirect, which is never followed.
        Http3xx = "http_3xx",
        /// HTTP 401.
        Http401 = "http_401",
        /// HTTP 403.
        Http403 = "http_403",
        /// HTTP 404.
        Http404 = "http_404",
        /// HTTP 429.
        Http429 = "http_429",
        /// Another 4xx.
        Http4xx = "http_4xx",
        /// A 5xx.
        Http5xx = "http_5xx",
        /// A status outside of 200 to 599.
        HttpOther = "http_other",

        /// The answer is compressed, although nothing compressed was asked for.
        Compressed = "compressed",
        /// The body has more bytes than a verdict may have.
        TooLarge = "too_large",
        /// The body is not UTF-8.
        NotUtf8 = "not_utf8",
        /// The body is no JSON.
        NotJson = "not_json",
        /// The body is JSON, but no object.
        NotAnObject = "not_an_object",
        /// The body's content type is missing, or is not `application/json`.
        ContentType = "content_type",

        /// The response signature's header has a wrong form.
        SignatureMalformed = "signature_malformed",
        /// The response signature matches no secret.
        SignatureWrong = "signature_wrong",
        /// The response signature's time is too far from ours.
        SignatureStale = "signature_stale",
        /// The action requires a response signature, and there is none.
        SignatureMissing = "signature_missing",

        /// The wait for the fleet left nothing to call the endpoint.
        QueueUsedBudget = "queue_used_budget",
        /// The wait for the fleet left less than the endpoint's time, and that ended.
        CutShortByQueue = "cut_short_by_queue",
        /// The worker lacks the root key of the action's secret.
        MissingRootKey = "missing_root_key",
        /// The action's signing key could not be read from the database.
        KeyNotRead = "key_not_read",
        /// The action was killed before this invocation was sent.
        Killed = "killed",
        /// The waiter gave up at its deadline.
        Abandoned = "abandoned",
        /// The janitor ended it past its deadline.
        DeadlinePassed = "deadline_passed",
        /// PostgreSQL refused to store the result; a plain stand-in was stored.
        NotStorable = "not_storable",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_code_is_a_snake_case_word_of_its_own_that_is_understood_again() {
        let mut seen = HashSet::new();
        for code in ErrorCode::ALL {
            let word = code.as_str();
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{word}");
            assert!(seen.insert(word), "{word} stands for two errors");
            assert_eq!(word.parse(), Ok(*code));
        }
    }
}
