//! The part of auth-core that acts on an outcome: the 403, and the signed token.

use authio_actions::domain::Outcome;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Map, Value, json};

/// Signs tokens with a key made on the spot.
pub struct TokenMint {
    private: EncodingKey,
    public: DecodingKey,
}

impl TokenMint {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
        Self {
            private: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a private key"),
            public: DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).expect("a public key"),
        }
    }

    /// Merges the outcome into the token's claims and signs.
    pub fn mint(&self, outcome: &Outcome, now: i64) -> String {
        let mut claims: Map<String, Value> = Map::new();
        if let Some(extra) = &outcome.claims {
            claims = serde_json::from_str(extra.get()).expect("an object");
        }
        let own = json!({
            "iss": "https://auth.acme.com", "sub": "user_alice", "aud": ["acme-prod"], "iat": now, "exp": now + 900, "sid": "sess_1",
            "act_org": "org_acme_us",
            "roles": outcome.roles.clone().unwrap_or_else(|| vec!["member".to_owned()]),
            "permissions": outcome.permissions.clone().unwrap_or_default(),
        });
        claims.extend(own.as_object().expect("an object").clone());
        encode(&Header::new(Algorithm::ES256), &claims, &self.private).expect("a signed token")
    }

    /// Checks the signature and shows the claims.
    pub fn verified(&self, token: &str) -> Value {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["acme-prod"]);
        decode::<Value>(token, &self.public, &validation).expect("our own signature").claims
    }
}

/// What the client gets when the event is denied. The reason stays in the audit log.
pub fn forbidden(outcome: &Outcome) -> String {
    json!({"code": outcome.code, "message": "This sign-in was not permitted."}).to_string()
}
