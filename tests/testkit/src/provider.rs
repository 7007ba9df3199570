//! An identity provider on loopback (OpenID Connect), for whoever signs in with an account elsewhere.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// The client that it knows, and its secret.
pub const CLIENT: (&str, &str) = ("actions-console", "of the client");

/// What a code stands for: the challenge that came with the request, and the claims of the token.
type Codes = Mutex<HashMap<String, (String, Value)>>;

/// A provider that runs until it is dropped with its runtime.
pub struct Provider {
    /// Its issuer.
    pub issuer: String,
    codes: Arc<Codes>,
    people: Arc<Mutex<Vec<Value>>>,
}

impl Provider {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("its address"));
        let (codes, key) = (Arc::new(Codes::default()), Arc::new(KeyPair::generate().expect("a key")));
        let people = Arc::<Mutex<Vec<Value>>>::default();
        let served = (issuer.clone(), Arc::clone(&codes), Arc::clone(&people));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (issuer, codes, people) = served.clone();
                let key = Arc::clone(&key);
                tokio::spawn(async move {
                    let service =
                        service_fn(|request| async { Ok::<_, Infallible>(answer(request, &issuer, &codes, &people, &key).await) });
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { issuer, codes, people }
    }

    /// Lets somebody choose these claims on its page.
    pub fn knows(&self, claims: Value) {
        self.people.lock().expect("no panic").push(claims);
    }

    /// A code for somebody who signed in; `to` is the address that the console led to.
    pub fn code(&self, to: &url::Url, claims: &Value) -> String {
        code(&self.issuer, &self.codes, to, claims)
    }
}

fn asked(to: &url::Url, name: &str) -> String {
    to.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn code(issuer: &str, codes: &Codes, to: &url::Url, claims: &Value) -> String {
    assert_eq!((asked(to, "response_type").as_str(), asked(to, "code_challenge_method").as_str()), ("code", "S256"));
    let mut claims = claims.clone();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    for (name, value) in [
        ("iss", json!(issuer)),
        ("aud", json!(CLIENT.0)),
        ("sub", json!("1")),
        ("iat", json!(now)),
        ("exp", json!(now + 300)),
        ("nonce", json!(asked(to, "nonce"))),
    ] {
        if claims.get(name).is_none() {
            claims[name] = value;
        }
    }
    let code = uuid::Uuid::new_v4().simple().to_string();
    codes.lock().expect("no panic").insert(code.clone(), (asked(to, "code_challenge"), claims));
    code
}

/// The page on which a person says who she is: a link each.
fn people_page(request: &Request<Incoming>, issuer: &str, codes: &Codes, people: &Mutex<Vec<Value>>) -> Response<Full<Bytes>> {
    let to = url::Url::parse(&format!("{issuer}{}", request.uri())).expect("an address");
    let links = people.lock().expect("no panic").iter().fold(String::new(), |links, claims| {
        let mut back = url::Url::parse(&asked(&to, "redirect_uri")).expect("an address");
        back.query_pairs_mut().append_pair("code", &code(issuer, codes, &to, claims)).append_pair("state", &asked(&to, "state"));
        format!("{links}<p><a href='{}'>{}</a></p>", back.as_str().replace('&', "&amp;"), claims["email"].as_str().unwrap_or_default())
    });
    let built = Response::builder().header("content-type", "text/html; charset=utf-8");
    built.body(Full::new(Bytes::from(format!("<!doctype html><title>Who are you?</title>{links}")))).expect("a response")
}

async fn answer(
    request: Request<Incoming>,
    issuer: &str,
    codes: &Codes,
    people: &Mutex<Vec<Value>>,
    key: &KeyPair,
) -> Response<Full<Bytes>> {
    let body = match request.uri().path() {
        "/.well-known/openid-configuration" => json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }),
        "/jwks" => {
            let point = key.der_bytes(); // 4, x, y
            json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1",
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65])}]})
        }
        "/authorize" => return people_page(&request, issuer, codes, people),
        "/token" => return token(request, codes, key).await,
        _ => return response(404, &json!({})),
    };
    response(200, &body)
}

/// Gives a token once for a code, to the client, which proves that it began.
async fn token(request: Request<Incoming>, codes: &Codes, key: &KeyPair) -> Response<Full<Bytes>> {
    let credentials = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let wanted = url::form_urlencoded::byte_serialize(CLIENT.1.as_bytes()).collect::<String>();
    let wanted = base64::engine::general_purpose::STANDARD.encode(format!("{}:{wanted}", CLIENT.0));
    let found = form.get("code").and_then(|code| codes.lock().expect("no panic").remove(code));
    let verifier = form.get("code_verifier").map(String::as_str).unwrap_or_default();
    match found {
        Some((challenge, claims))
            if credentials == format!("Basic {wanted}") && URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge =>
        {
            let signing = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
            let header = Header { kid: Some("1".to_owned()), ..Header::new(Algorithm::ES256) };
            let id_token = jsonwebtoken::encode(&header, &claims, &signing).expect("a token");
            response(200, &json!({"access_token": "a", "token_type": "bearer", "id_token": id_token}))
        }
        _ => response(400, &json!({"error": "invalid_grant"})),
    }
}

fn response(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let built = Response::builder().status(status).header("content-type", "application/json");
    built.body(Full::new(Bytes::from(body.to_string()))).expect("a response")
}
