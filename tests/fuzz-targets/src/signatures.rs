//! Signature headers that strangers sent: none may panic, and only a real HMAC passes.
#![no_main]

use authio_actions::domain::SignatureCheck;
use authio_actions::sign::{Secret, header, verify};
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

const NOW: i64 = 1_790_000_000;
const BODY: &[u8] = br#"{"decision":"deny"}"#;

fuzz_target!(|data: &[u8]| {
    let (new, old) = (Secret::from_text("asec_new"), Secret::from_text("asec_old"));
    let own = header(&[&new, &old], NOW, BODY);
    assert_eq!(verify(std::slice::from_ref(&own), BODY, &[&new, &old], NOW), SignatureCheck::Valid { current: true });
    let Ok(text) = std::str::from_utf8(data) else { return };
    // As it is, and with a real signature before or after it.
    for given in [text.to_owned(), format!("{own},{text}"), format!("{text},{own}"), format!("{text}{own}")] {
        let check = verify(std::slice::from_ref(&given), BODY, &[&new, &old], NOW);
        if matches!(check, SignatureCheck::Valid { .. }) {
            let times = given.split(',').filter_map(|element| element.trim().split_once('=')).filter(|(name, _)| name.trim() == "t");
            let is_signed = times
                .map(|(_, time)| time)
                .any(|time| ["asec_new", "asec_old"].iter().any(|secret| given.to_ascii_lowercase().contains(&hmac(secret, time))));
            assert!(is_signed, "{given:?} passed");
        }
        assert_eq!(
            verify(&[given.clone(), given], BODY, &[&new], NOW),
            SignatureCheck::Malformed("there are several signature headers".to_owned())
        );
    }
    // What signs another body passes for none.
    assert!(data == BODY || !matches!(verify(std::slice::from_ref(&own), data, &[&new, &old], NOW), SignatureCheck::Valid { .. }));
});

fn hmac(secret: &str, time: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(BODY);
    hex::encode(mac.finalize().into_bytes())
}
