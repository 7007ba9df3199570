//! The only room that sees secret bytes: root keys, derived secrets, signatures.
//!
//! Called by the worker's flow and by `actionsctl`. It never stores, logs or serialises a
//! secret: [`Secret`] and [`RootKeys`] print as `<redacted>`, and only
//! [`Secret::reveal`] hands the text out, to be shown once to a person.

pub mod portal_link;
mod seal;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::domain::SignatureCheck;

pub use self::seal::Purpose;

/// The request header that carries our signature.
pub const REQUEST_HEADER: &str = "authio-signature";
/// The response header in which an endpoint may sign its answer.
pub const RESPONSE_HEADER: &str = "authio-response-signature";
/// How far a response signature's time may be from ours, in seconds.
pub const MAX_SKEW_S: i64 = 300;
/// More `v1` elements than any rotation needs are not worth an HMAC each.
const MAX_ELEMENTS: usize = 16;

/// A signing secret, `asec_` and 64 hex characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Secret {
    /// A secret as a customer has it, for the local tools.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The secret itself, to be shown to the person who asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the secret in lower-case hex: what the database knows of it.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }

    fn mac(&self, unix: &str, body: &[u8]) -> [u8; 32] {
        hmac(self.0.as_bytes(), &[unix.as_bytes(), b".", body])
    }
}

/// Why root keys were refused. Never quotes the keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry} {fault}; accepted: \"k2:<64 lower-case hex>,k1:<64 lower-case hex>\", the newest first")]
pub struct RootKeyError {
    entry: usize,
    fault: &'static str,
}

/// The keys from which every secret derives; the first makes new ones.
#[derive(Clone)]
pub struct RootKeys(Vec<(String, String)>);

impl fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| format!("{id}:<redacted>"))).finish()
    }
}

impl RootKeys {
    /// Reads `k2:<64 hex>,k1:<64 hex>`.
    pub fn parse(text: &str) -> Result<Self, RootKeyError> {
        let mut keys: Vec<(String, String)> = Vec::new();
        for (at, entry) in text.trim().split(',').enumerate() {
            let fault = |fault| RootKeyError { entry: at + 1, fault };
            let (id, key) = entry.trim().split_once(':').ok_or(fault("has no key id before a colon"))?;
            if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                return Err(fault("has a key id that is not 1 to 64 letters, digits, _ or -"));
            }
            if key.len() != 64 || !key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(fault("has a key that is not 64 lower-case hex characters"));
            }
            if keys.iter().any(|(known, _)| known == id) {
                return Err(fault("repeats a key id"));
            }
            keys.push((id.to_owned(), key.to_owned()));
        }
        Ok(Self(keys))
    }

    /// The id of the key that derives new secrets.
    pub fn newest_id(&self) -> &str {
        self.0.first().map_or("", |(id, _)| id)
    }

    /// The ids of all of them, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(id, _)| id.as_str())
    }

    /// Signs the content of a link to the console, with a key of its own; `None` without that root key.
    pub fn console_link(&self, key_id: &str, content: &[u8]) -> Option<[u8; 32]> {
        let (_, key) = self.0.iter().find(|(id, _)| id == key_id)?;
        let derived = hmac(key.as_bytes(), &[b"authio-console-link"]);
        Some(hmac(&derived, &[content]))
    }

    /// Derives an action's secret; `None` without that root key.
    ///
    /// The HMAC key is the key's hex characters as they stand, so any SQL tool can do it.
    pub fn derive(&self, key_id: &str, action_id: &str, version: i32) -> Option<Secret> {
        let (_, key) = self.0.iter().find(|(id, _)| id == key_id)?;
        let message = format!("authio-action-secret:{action_id}:{version}");
        Some(Secret(format!("asec_{}", lower_hex(&hmac(key.as_bytes(), &[message.as_bytes()])))))
    }
}

/// `hex::encode` goes character by character, and there are two of these for each call.
fn lower_hex(mac: &[u8; 32]) -> String {
    let mut digits = vec![0; 64];
    // Neither can fail: there are two digits for each byte, all of them ASCII.
    let _ = hex::encode_to_slice(mac, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

/// The signature header of a body: `t=<unix>,v1=<hex>`, one `v1` a secret in the order given.
///
/// During a rotation pass the new secret first and the previous one last: the published
/// receiver reads only the last `v1`.
pub fn header(secrets: &[&Secret], unix: i64, body: &[u8]) -> String {
    let time = unix.to_string();
    let signatures = secrets.iter().map(|secret| format!(",v1={}", lower_hex(&secret.mac(&time, body))));
    format!("t={time}{}", signatures.collect::<String>())
}

/// Checks a signature header over `body`; any `v1` under any of `secrets` passes, the first
/// secret being the current one. `headers` are all headers of that name.
pub fn verify(headers: &[String], body: &[u8], secrets: &[&Secret], now_unix: i64) -> SignatureCheck {
    let header = match headers {
        [] => return SignatureCheck::Absent,
        [one] => one,
        _ => return SignatureCheck::Malformed("there are several signature headers".to_owned()),
    };
    let (time, given) = match read_header(header) {
        Ok(parts) => parts,
        Err(fault) => return SignatureCheck::Malformed(fault),
    };
    let Ok(signed_at) = time.parse::<i64>() else {
        return SignatureCheck::Malformed("t is not whole seconds since 1970".to_owned());
    };
    let matching = secrets.iter().position(|secret| {
        let expected = secret.mac(time, body);
        // Every element is compared, so the time taken tells nothing about which one matched.
        given.iter().fold(subtle::Choice::from(0), |any, signature| any | expected.ct_eq(signature)).into()
    });
    match matching {
        None => SignatureCheck::Refused("the signature does not match: wrong secret, or the body changed after signing".to_owned()),
        Some(_) if signed_at.abs_diff(now_unix) > MAX_SKEW_S.unsigned_abs() => SignatureCheck::Stale(format!(
            "the signature's time is {} s {} ours; accepted is up to {MAX_SKEW_S} s",
            signed_at.abs_diff(now_unix),
            if signed_at < now_unix { "before" } else { "after" },
        )),
        Some(which) => SignatureCheck::Valid { current: which == 0 },
    }
}

fn read_header(header: &str) -> Result<(&str, Vec<[u8; 32]>), String> {
    let mut time = None;
    let mut signatures = Vec::new();
    for element in header.split(',') {
        let (name, value) = element.trim().split_once('=').ok_or("an element has no name=value form")?;
        match name.trim() {
            "t" if time.is_some() => return Err("t stands there twice".to_owned()),
            "t" if value.is_empty() || value.len() > 15 || !value.bytes().all(|b| b.is_ascii_digit()) => {
                return Err("t is not whole seconds since 1970".to_owned());
            }
            "t" => time = Some(value),
            "v1" if signatures.len() == MAX_ELEMENTS => return Err(format!("there are more than {MAX_ELEMENTS} v1 elements")),
            "v1" => {
                let mut signature = [0; 32];
                hex::decode_to_slice(value, &mut signature).map_err(|_| "v1 is not 64 hex characters")?;
                signatures.push(signature);
            }
            _ => {} // other schemes may come
        }
    }
    match (time, signatures.is_empty()) {
        (None, _) => Err("t is missing".to_owned()),
        (_, true) => Err("v1 is missing".to_owned()),
        (Some(time), false) => Ok((time, signatures)),
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn check(header: &str, now: i64) -> SignatureCheck {
        verify(&[header.to_owned()], b"{}", &[&Secret::from_text("asec_new"), &Secret::from_text("asec_old")], now)
    }

    #[test]
    fn a_secret_is_what_openssl_derives_from_the_hex_text_of_the_root_key() {
        // printf 'authio-action-secret:action_A:1' | openssl dgst -sha256 -hmac "$KEY"
        let secret = RootKeys::parse(&format!("k1:{KEY}")).unwrap().derive("k1", "action_A", 1).unwrap();
        assert_eq!(secret.reveal(), include_str!("../tests/data/derived_secret.txt").trim());
    }

    #[test]
    fn no_debug_output_shows_a_key_or_a_secret() {
        let keys = RootKeys::parse(&format!("k1:{KEY}")).unwrap();
        assert_eq!(format!("{keys:?} {:?}", keys.derive("k1", "a", 1)), r#"["k1:<redacted>"] Some(<redacted>)"#);
    }

    #[test]
    fn wrong_root_keys_are_refused_without_being_quoted() {
        for (text, fault) in [
            ("", "entry 1 has no key id"),
            ("k1:abc", "not 64 lower-case hex"),
            (&format!("k1:{}", KEY.to_uppercase()), "not 64 lower-case hex"),
            (&format!("k1:{KEY},k1:{KEY}"), "entry 2 repeats"),
            (&format!("k 1:{KEY}"), "key id that is not"),
        ] {
            let error = RootKeys::parse(text).unwrap_err().to_string();
            assert!(error.contains(fault) && !error.contains(&KEY[..16]), "{text}: {error}");
        }
    }

    #[test]
    fn the_previous_secrets_signature_stands_last() {
        let (new, old) = (Secret::from_text("asec_new"), Secret::from_text("asec_old"));
        let both = header(&[&new, &old], 7, b"{}");
        let (_, last) = both.rsplit_once("v1=").unwrap();
        assert_eq!(header(&[&old], 7, b"{}"), format!("t=7,v1={last}"));
    }

    #[test]
    fn either_secret_passes_and_the_current_one_is_told() {
        let old = header(&[&Secret::from_text("asec_old")], 1000, b"{}");
        let new = header(&[&Secret::from_text("asec_new")], 1000, b"{}");
        assert_eq!(check(&old, 1300), SignatureCheck::Valid { current: false });
        assert_eq!(check(&new, 700), SignatureCheck::Valid { current: true });
    }

    #[test]
    fn a_signature_is_fresh_for_300_seconds_either_way() {
        let signed = header(&[&Secret::from_text("asec_new")], 1000, b"{}");
        assert!(matches!(check(&signed, 1301), SignatureCheck::Stale(_)));
        assert!(matches!(check(&signed, 699), SignatureCheck::Stale(_)));
    }

    #[test]
    fn forms_are_told_from_wrong_signatures() {
        let zeros = "0".repeat(64);
        for malformed in
            ["", "t=1", "v1=00", "t=x,v1=00", "t=1,v1=0", "garbage", "t=1,t=2,v1=00", "t=-1,v1=00", "t=99999999999999999999,v1=00"]
        {
            let malformed = malformed.replace("00", &zeros);
            assert!(matches!(check(&malformed, 1), SignatureCheck::Malformed(_)), "{malformed}");
        }
        assert!(matches!(check(&format!("t=1,v1={zeros}"), 1), SignatureCheck::Refused(_)));
        assert!(matches!(check(&format!("t=1{}", format!(",v1={zeros}").repeat(17)), 1), SignatureCheck::Malformed(_)));
        assert_eq!(verify(&[], b"", &[], 1), SignatureCheck::Absent);
    }
}
