//! What the database keeps but cannot read: AES-256-GCM under a key of the action, which HKDF makes of a root
//! key. Action and subject go along as associated data, so no row can stand in another's place.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use super::{RootKeys, hmac};

const NONCE: usize = 12;

/// What is sealed: each has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An event as it was sent, with what became of it. The subject is its id.
    RecordedEvent,
    /// What the last verdict gave a person. The subject is the person's name in the table.
    LastKnown,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::RecordedEvent => "authio-recorded-event",
            Self::LastKnown => "authio-last-known",
        }
    }
}

impl RootKeys {
    /// Seals under the newest root key; its id goes with the result.
    pub fn seal(&self, purpose: Purpose, action_id: &str, subject: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let cipher = self.cipher(self.newest_id(), purpose, action_id)?;
        let nonce = random_nonce();
        let payload = Payload { msg: plain, aad: &associated(action_id, subject) };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed under that root key; `None` without the key, or where anything was changed.
    pub fn open(&self, key_id: &str, purpose: Purpose, action_id: &str, subject: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: sealed, aad: &associated(action_id, subject) };
        self.cipher(key_id, purpose, action_id)?.decrypt(&Nonce::from(*nonce), payload).ok()
    }

    /// The names of a person in an organisation, under each root key, the newest first. No organisation is
    /// one of its own.
    pub fn person_names(&self, action_id: &str, user_id: &str, organization_id: Option<&str>) -> Vec<Vec<u8>> {
        let organization = organization_id.map_or_else(|| "none".to_owned(), |id| format!("some:{id}"));
        let name = |key_id| {
            let key = self.expanded(key_id, "authio-person-name", action_id)?;
            Some(hmac(&key, &[&user_id.len().to_be_bytes(), user_id.as_bytes(), organization.as_bytes()]).to_vec())
        };
        self.ids().filter_map(name).collect()
    }

    fn cipher(&self, key_id: &str, purpose: Purpose, action_id: &str) -> Option<Aes256Gcm> {
        Aes256Gcm::new_from_slice(&self.expanded(key_id, purpose.label(), action_id)?).ok()
    }

    fn expanded(&self, key_id: &str, label: &str, action_id: &str) -> Option<[u8; 32]> {
        let (_, key) = self.0.iter().find(|(id, _)| id == key_id)?;
        let mut expanded = [0; 32];
        Hkdf::<Sha256>::new(None, key.as_bytes()).expand_multi_info(&[label.as_bytes(), b":", action_id.as_bytes()], &mut expanded).ok()?;
        Some(expanded)
    }
}

fn associated(action_id: &str, subject: &[u8]) -> Vec<u8> {
    [&action_id.len().to_be_bytes(), action_id.as_bytes(), subject].concat()
}

/// The operating system's randomness, by way of UUIDs, some of whose bits are not random.
fn random_nonce() -> [u8; NONCE] {
    let mut hasher = Sha256::new();
    hasher.update(uuid::Uuid::new_v4().as_bytes());
    hasher.update(uuid::Uuid::new_v4().as_bytes());
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&hasher.finalize()[..NONCE]);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> RootKeys {
        let key = |digit: &str| digit.repeat(64);
        RootKeys::parse(&text.split(',').map(|id| format!("{id}:{}", key(&id[1..]))).collect::<Vec<_>>().join(",")).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_for_its_action_and_subject_alone_also_under_later_keys() {
        let sealed = keys("k1").seal(Purpose::RecordedEvent, "action_A", b"evt_1", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let later = keys("k2,k1");
        let open = |purpose, action, subject: &[u8], sealed: &[u8]| later.open("k1", purpose, action, subject, sealed);
        assert_eq!(open(Purpose::RecordedEvent, "action_A", b"evt_1", &sealed).unwrap(), b"secret");
        for (purpose, action, subject) in [
            (Purpose::LastKnown, "action_A", &b"evt_1"[..]),
            (Purpose::RecordedEvent, "action_B", b"evt_1"),
            (Purpose::RecordedEvent, "action_A", b"evt_2"),
        ] {
            assert_eq!(open(purpose, action, subject, &sealed), None);
        }
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(open(Purpose::RecordedEvent, "action_A", b"evt_1", &changed), None);
        assert_eq!(open(Purpose::RecordedEvent, "action_A", b"evt_1", b"short"), None);
        assert_eq!(keys("k2").open("k1", Purpose::RecordedEvent, "action_A", b"evt_1", &sealed), None, "without that key");
        assert_ne!(sealed, keys("k1").seal(Purpose::RecordedEvent, "action_A", b"evt_1", b"secret").unwrap(), "never the same twice");
    }

    #[test]
    fn a_person_has_another_name_in_each_organisation_and_action_and_keeps_the_old_one_beside_the_new() {
        let names = |keys_of: &str, action, user, organization| keys(keys_of).person_names(action, user, organization);
        let one = names("k1", "action_A", "user_1", Some("org_1"));
        for other in [
            names("k1", "action_B", "user_1", Some("org_1")),
            names("k1", "action_A", "user_2", Some("org_1")),
            names("k1", "action_A", "user_1", None),
            names("k1", "action_A", "user_1", Some("none")),
        ] {
            assert_ne!(one, other);
        }
        assert_eq!(names("k2,k1", "action_A", "user_1", Some("org_1"))[1], one[0]);
    }
}
