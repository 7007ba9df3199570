//! Signing in with an account of the operator's identity provider: OpenID Connect, the code flow with
//! PKCE, state and nonce. The provider is the operator's own, so it is called with reqwest and not
//! under the rules for customers' endpoints.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse, reqwest,
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{begin, cookie};
use crate::config::{Config, ConfigError};
use crate::console::error::PageError;
use crate::console::{Console, Fields};
use crate::store::console::Session;

/// Holds state, nonce and verifier in the browser that began, until it comes back.
const COOKIE_NAME: &str = "actions_console_sign_in";
/// Seconds that signing in at the provider may take.
const LASTING_S: u32 = 600;

/// The groups of a person.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Groups {
    #[serde(default)]
    groups: Vec<String>,
}

impl AdditionalClaims for Groups {}

type Tokens = StandardTokenResponse<
    IdTokenFields<Groups, EmptyExtraTokenFields, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>,
    CoreTokenType,
>;
type Relying = Client<
    Groups,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// So long the provider's addresses and keys are taken to be what they were.
const FRESH: std::time::Duration = std::time::Duration::from_secs(300);

/// The provider, as far as it was asked.
pub struct Provider {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: ClientSecret,
    back: RedirectUrl,
    operators_group: Option<String>,
    http: reqwest::Client,
    /// Its addresses and keys, asked for when the first person comes, and again after a while or where a
    /// token is not believed: keys are changed.
    metadata: Mutex<Option<(Instant, CoreProviderMetadata)>>,
}

impl Provider {
    /// Prepares it; nothing is asked yet. `None` where nobody signs in this way.
    pub fn prepare(config: &Config) -> Result<Option<Self>, ConfigError> {
        let wrong = |key: &str, given: String, accepted: &str| ConfigError { key: key.to_owned(), given, accepted: accepted.to_owned() };
        let Some((issuer, client_id, secret)) = config.console.oidc.client()? else { return Ok(None) };
        let mut http = reqwest::ClientBuilder::new()
            .tls_built_in_native_certs(false) // the public roots, and egress.extra_ca_file
            .redirect(reqwest::redirect::Policy::none()) // a provider that leads elsewhere is not the one that was configured
            .no_proxy()
            .timeout(std::time::Duration::from_secs(10));
        if let Some(path) = &config.egress.extra_ca_file {
            let roots = std::fs::read(path).map_err(|error| error.to_string());
            let roots = roots.and_then(|pem| reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string()));
            let roots = roots.map_err(|error| wrong("egress.extra_ca_file", format!("{}: {error}", path.display()), "a PEM file"))?;
            for root in roots {
                http = http.add_root_certificate(root);
            }
        }
        let back = format!("{}/sign-in/back", config.console.base());
        Ok(Some(Self {
            issuer: IssuerUrl::new(issuer.to_owned())
                .map_err(|error| wrong("console.oidc.issuer", error.to_string(), "a URL such as https://login.example.com"))?,
            client_id: ClientId::new(client_id.to_owned()),
            client_secret: ClientSecret::new(secret.reveal().to_owned()),
            back: RedirectUrl::new(back).map_err(|error| wrong("console.public_url", error.to_string(), "a URL"))?,
            operators_group: config.console.oidc.operators_group.clone(),
            http: http.build().map_err(|error| wrong("console.oidc.issuer", error.to_string(), "see the log"))?,
            metadata: Mutex::default(),
        }))
    }

    async fn client(&self) -> Result<Relying, PageError> {
        let mut known = self.metadata.lock().await;
        let metadata = match &*known {
            Some((at, metadata)) if at.elapsed() < FRESH => metadata.clone(),
            _ => {
                let asked = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
                let asked = asked.map_err(|error| failed("the identity provider cannot be asked", &error))?;
                known.insert((Instant::now(), asked)).1.clone()
            }
        };
        Ok(Relying::from_provider_metadata(metadata, self.client_id.clone(), Some(self.client_secret.clone()))
            .set_redirect_uri(self.back.clone()))
    }

    /// Who comes back with a code.
    async fn person(&self, code: String, nonce: Nonce, verifier: String) -> Result<Session, PageError> {
        let client = self.client().await?;
        let request =
            client.exchange_code(AuthorizationCode::new(code)).map_err(|error| failed("the provider names no token endpoint", &error))?;
        let tokens = request.set_pkce_verifier(PkceCodeVerifier::new(verifier)).request_async(&self.http).await;
        let tokens = tokens.map_err(|error| failed("the provider gave no token", &error))?;
        let token = tokens.id_token().ok_or(PageError::Link)?;
        // Signature, issuer, audience, time and nonce.
        let claims = match token.claims(&client.id_token_verifier(), &nonce) {
            Ok(claims) => claims,
            Err(error) => {
                *self.metadata.lock().await = None;
                return Err(failed("the provider's token is not believed", &error));
            }
        };
        let email = claims.email().map(|email| email.as_str()).filter(|_| claims.email_verified() == Some(true));
        let is_operator = self.operators_group.as_ref().is_some_and(|group| claims.additional_claims().groups.contains(group));
        match email {
            Some(email) => Ok(Session { email: email.to_owned(), is_operator, link: None }),
            None => Err(PageError::Forbidden(
                "Your identity provider has not verified your e-mail address, so nobody can tell which projects are yours.",
            )),
        }
    }
}

fn failed(what: &'static str, error: &dyn std::error::Error) -> PageError {
    let causes: Vec<String> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    tracing::warn!(error = causes.join(": "), "{what}");
    PageError::Provider
}

/// `GET /sign-in`: on to the provider.
pub async fn leave_for_provider(State(console): State<Arc<Console>>) -> Result<Response, PageError> {
    let provider = console.provider.as_ref().ok_or(PageError::SignIn)?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = provider.client().await?;
    let (url, state, nonce) = client
        .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
        .add_scope(Scope::new("email".to_owned()))
        .add_scope(Scope::new("profile".to_owned()))
        .set_pkce_challenge(challenge)
        .url();
    let kept = format!("{}.{}.{}", state.secret(), nonce.secret(), verifier.secret());
    Ok((StatusCode::SEE_OTHER, [(LOCATION, url.to_string()), (SET_COOKIE, sign_in_cookie(&console, &kept, LASTING_S))]).into_response())
}

/// `GET /sign-in/back?code=…&state=…`: the provider sends the person back.
pub async fn come_back(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Query(query): Query<Fields>,
) -> Result<Response, PageError> {
    let provider = console.provider.as_ref().ok_or(PageError::SignIn)?;
    let kept = cookie(&headers, COOKIE_NAME).unwrap_or_default();
    let mut parts = kept.splitn(3, '.');
    let (Some(state), Some(nonce), Some(verifier)) = (parts.next(), parts.next(), parts.next()) else { return Err(PageError::Link) };
    let (given, code) = (query.get("state").map(String::as_str).unwrap_or_default(), query.get("code").ok_or(PageError::Link)?);
    if !bool::from(given.as_bytes().ct_eq(state.as_bytes())) {
        return Err(PageError::Link); // not what this browser began
    }
    let session = provider.person(code.clone(), Nonce::new(nonce.to_owned()), verifier.to_owned()).await?;
    let mut response = begin(&console, &session, "/").await?;
    if let Ok(gone) = sign_in_cookie(&console, "", 0).parse() {
        response.headers_mut().append(SET_COOKIE, gone);
    }
    Ok(response)
}

fn sign_in_cookie(console: &Console, value: &str, lasting_s: u32) -> String {
    let secure = if console.is_secure() { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; Path=/sign-in; HttpOnly; SameSite=Lax; Max-Age={lasting_s}{secure}")
}
