//! Which trace an event belongs to: the `traceparent` of W3C Trace Context.

use std::fmt;

/// The name of the header that carries one.
pub const TRACE_PARENT_HEADER: &str = "traceparent";

/// A trace, and the span in it that everything here happens under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace; never all zero.
    pub trace_id: [u8; 16],
    /// The span of whoever asked; never all zero.
    pub span_id: [u8; 8],
    /// Bit 0 says that whoever asked records its own span.
    pub flags: u8,
}

impl TraceParent {
    const SAMPLED: u8 = 1;
    /// What the specification has a meaning for: sampled, and that the trace's id is random.
    const KNOWN: u8 = 3;

    /// Reads a header; `None` for whatever is not valid, because a trace is no reason to refuse anything.
    ///
    /// Of a version that is not known yet, as much is taken as is known (W3C Trace Context, section 4).
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let version = byte(fields.next()?)?;
        let trace_id = bytes(fields.next()?)?;
        let span_id = bytes(fields.next()?)?;
        let flags = byte(fields.next()?)?;
        let is_known = version == 0;
        if version == u8::MAX || (is_known && fields.next().is_some()) || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, flags: flags & if is_known { Self::KNOWN } else { Self::SAMPLED } })
    }

    /// Whether its spans are to be recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The same trace under another span.
    pub fn with_span(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..*self }
    }
}

/// As a header.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace_id), hex::encode(self.span_id), self.flags)
    }
}

fn byte(text: &str) -> Option<u8> {
    bytes(text).map(|[byte]| byte)
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_lower = text.bytes().all(|b| !b.is_ascii_uppercase());
    let mut bytes = [0; N];
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_is_valid_is_said_again_as_it_was() {
        for flags in ["00", "01", "02", "03"] {
            let header = format!("00-{TRACE}-{SPAN}-{flags}");
            let parent = TraceParent::parse(&header).unwrap();
            assert_eq!(parent.to_string(), header);
            assert_eq!(parent.is_sampled(), flags.ends_with(['1', '3']));
        }
    }

    #[test]
    fn flags_that_mean_nothing_yet_are_not_passed_on() {
        for (given, passed) in [("ff", "03"), ("04", "00"), ("81", "01")] {
            let parent = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-{given}")).unwrap();
            assert_eq!(parent.to_string(), format!("00-{TRACE}-{SPAN}-{passed}"));
        }
    }

    #[test]
    fn of_a_later_version_what_is_known_is_taken() {
        let known = format!("00-{TRACE}-{SPAN}-01");
        for later in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-ff-what-the-future-brings")] {
            assert_eq!(TraceParent::parse(&later).unwrap().to_string(), known, "{later}");
        }
    }

    #[test]
    fn what_is_not_valid_is_passed_over() {
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}-0é"),
        ] {
            assert_eq!(TraceParent::parse(&wrong), None, "{wrong:?}");
        }
    }
}
