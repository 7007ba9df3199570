//! Links into the console: Authio's own dashboard lets a person of one project in. Signed with a key derived from
//! the root key, used once, ended by time. Made by `actionsctl console link`, read by `console`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RootKeys;

/// What a link opens, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortalLink {
    /// It opens once.
    pub id: Uuid,
    /// The project.
    pub project: String,
    /// The person, as the audit log will name her.
    pub email: String,
    /// `owner`, `admin` or `viewer`.
    pub role: String,
    /// Its end, in seconds since 1970.
    pub expires_unix: f64,
}

impl PortalLink {
    /// The last part of the link: the content and its signature in hex.
    pub fn token(&self, keys: &RootKeys) -> String {
        let content = serde_json::to_vec(self).unwrap_or_default();
        format!("{}.{}", hex::encode(&content), hex::encode(keys.console_link(keys.newest_id(), &content).unwrap_or_default()))
    }

    /// Reads a token that one of the root keys has signed. Whether it is over or used is asked of the database.
    pub fn read(keys: &RootKeys, token: &str) -> Option<Self> {
        use subtle::ConstantTimeEq;
        let (content, signature) = token.split_once('.')?;
        let (content, signature) = (hex::decode(content).ok()?, hex::decode(signature).ok()?);
        let is_ours = keys.ids().any(|id| keys.console_link(id, &content).is_some_and(|expected| expected.ct_eq(&signature).into()));
        if is_ours { serde_json::from_slice(&content).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_under_any_root_key_and_not_where_one_letter_differs() {
        let old = RootKeys::parse(&format!("k1:{}", "1".repeat(64))).unwrap();
        let both = RootKeys::parse(&format!("k2:{},k1:{}", "2".repeat(64), "1".repeat(64))).unwrap();
        let link = PortalLink {
            id: Uuid::new_v4(),
            project: "proj_a".to_owned(),
            email: "ada@acme.com".to_owned(),
            role: "admin".to_owned(),
            expires_unix: 1.5e9,
        };
        let token = link.token(&old);
        assert_eq!(PortalLink::read(&both, &token), Some(link.clone()));
        assert_eq!(PortalLink::read(&old, &link.token(&both)), None, "a key that it does not hold");
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(PortalLink::read(&both, &String::from_utf8(forged).unwrap()), None, "at {at}");
        }
    }
}
