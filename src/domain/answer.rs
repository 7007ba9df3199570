//! What came back from an endpoint, before anybody judged it.

/// A complete HTTP response, as far as a verdict needs it.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status code.
    pub http_status: u16,
    /// Every `Content-Type` header.
    pub content_type: Vec<String>,
    /// Every `Content-Encoding` header.
    pub content_encoding: Vec<String>,
    /// Every `Authio-Response-Signature` header.
    pub signature: Vec<String>,
    /// What was read of the body.
    pub body: Body,
}

impl Answer {
    /// How the body is compressed, where it is. Nothing but `identity` is asked for. Some servers
    /// name a character set or `none` there, which changes no byte.
    pub fn compression(&self) -> Option<&str> {
        const PLAIN: [&str; 5] = ["", "identity", "none", "utf-8", "utf8"];
        let words = self.content_encoding.iter().flat_map(|header| header.split(',')).map(str::trim);
        words.into_iter().find(|word| !PLAIN.iter().any(|plain| word.eq_ignore_ascii_case(plain)))
    }
}

/// A body read with a cap.
#[derive(Debug, Clone)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It has more bytes than a verdict may have; reading stopped.
    TooLarge,
    /// The connection or the time ended before the body did.
    Broken,
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Vec::new())
    }
}

/// The most bytes that a response body may have.
pub const MAX_RESPONSE_BYTES: usize = 65_536;

/// What became of an answer's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureCheck {
    /// There is none.
    Absent,
    /// It was made with the current secret or, in an overlap, with the previous one.
    Valid {
        /// Whether the current secret made it, so the customer has switched.
        current: bool,
    },
    /// The header has a wrong form.
    Malformed(String),
    /// It matches no secret: wrong secret, or the body changed after signing.
    Refused(String),
    /// It matches, but its time is too far from ours.
    Stale(String),
}
