//! URLs that strangers typed: none may panic, and what is permitted must mean one thing only.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use authio_actions::config::Config;
use authio_actions::egress::{Egress, forbidden};
use libfuzzer_sys::fuzz_target;
use url::{Host, Url};

static EGRESS: LazyLock<Egress> =
    LazyLock::new(|| Egress::new(&Config::load(None, std::iter::empty()).expect("the defaults").egress).expect("the defaults"));

fn is_hex(label: &str) -> bool {
    label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // With and without the part that everybody types.
    for text in [text.to_owned(), format!("https://{text}")] {
        if EGRESS.check_url(&text).is_err() {
            continue;
        }
        let url = Url::parse(&text).expect("a permitted URL parses");
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none());
        assert!(url.as_str().len() > 2048 || EGRESS.check_url(url.as_str()).is_ok(), "{text:?} reads otherwise when written out: {url}");
        match url.host().expect("a permitted URL has a host") {
            Host::Ipv4(address) => assert_eq!(forbidden(IpAddr::V4(address)), None),
            Host::Ipv6(address) => assert_eq!(forbidden(IpAddr::V6(address)), None),
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                assert!(name.is_ascii() && name.contains('.') && !name.split('.').any(str::is_empty), "{name:?}");
                for own in ["authio.com", "authio.dev", "localhost", "localdomain"] {
                    assert!(name != own && !name.ends_with(&format!(".{own}")), "{name:?}");
                }
                // No libc would read it as an address: the last label of those is a number.
                let last = name.rsplit('.').next().expect("a label");
                assert!(!last.bytes().all(|byte| byte.is_ascii_digit()) && !is_hex(last), "{name:?}");
            }
        }
    }
});
