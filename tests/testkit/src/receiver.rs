//! The receiver's side of a signature, as a customer would write it from the documentation:
//! an independent formulation, on purpose not the fleet's own code.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Hex HMAC-SHA-256.
pub fn hmac_hex(key: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key length");
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

/// An action's secret, from the root key's hex characters.
pub fn secret(root_key: &str, action_id: &str, version: i32) -> String {
    format!("asec_{}", hmac_hex(root_key, format!("authio-action-secret:{action_id}:{version}").as_bytes()))
}

/// A signature header over a body.
pub fn sign(secret: &str, time: i64, body: &[u8]) -> String {
    let message = [time.to_string().as_bytes(), b".", body].concat();
    format!("t={time},v1={}", hmac_hex(secret, &message))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}

/// Like the published Node receiver: of several `v1` only the last one counts.
pub fn verify_last(secret: &str, header: &str, body: &[u8]) -> bool {
    let last = |name: &str| header.split(',').filter_map(|part| part.split_once('=')).rfind(|(known, _)| *known == name);
    let (Some((_, time)), Some((_, given))) = (last("t"), last("v1")) else { return false };
    let Ok(time) = time.parse::<i64>() else { return false };
    (now() - time).abs() <= 300 && sign(secret, time, body) == format!("t={time},v1={given}")
}
