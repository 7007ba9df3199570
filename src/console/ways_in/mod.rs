//! Who comes in, and how: each way ends in a session, whose cookie is the only thing that a browser has.

mod local;
pub mod oidc;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::local::LocalLink;
use super::error::PageError;
use super::sent::Sent;
use super::{Console, Fields};
use crate::sign::portal_link::PortalLink;
use crate::store::console::{self, Session, Whose};
use crate::store::projects;

const COOKIE_NAME: &str = "actions_console";
/// Seconds that a cookie is kept; the session ends as soon on the server.
const LASTING_S: u32 = 12 * 3600;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Person {
    session: Session,
    /// SHA-256 of the cookie.
    key: [u8; 32],
    /// What a form must send along with a change. It follows from the cookie, so no other site knows it.
    pub csrf: String,
}

/// What somebody may do in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Look at everything but secrets.
    Look,
    /// And change it.
    Change,
}

impl Person {
    fn of(session: Session, token: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).unwrap_or_else(|_| unreachable!("a key of any length"));
        mac.update(b"csrf");
        Self { session, key: sha256(token), csrf: hex::encode(mac.finalize().into_bytes()) }
    }

    /// Whether the session goes on, which somebody who watches does not show again.
    pub async fn is_still_here(&self, console: &Console) -> bool {
        console::session(&console.database, &self.key).await.is_ok_and(|session| session.is_some())
    }

    /// As the audit log names the person.
    pub fn actor(&self) -> &str {
        &self.session.email
    }

    /// Sees and may do everything.
    pub fn is_operator(&self) -> bool {
        self.session.is_operator
    }

    /// Whose projects the person sees.
    pub fn whose(&self) -> Whose<'_> {
        match &self.session.link {
            Some((project, _)) => Whose { all: false, project: Some(project), email: None },
            None => Whose { all: self.session.is_operator, project: None, email: Some(&self.session.email) },
        }
    }

    /// What the person may do in a project, asked anew at every request. Another's project is not found.
    pub async fn right(&self, console: &Console, project: &str) -> Result<Right, PageError> {
        if self.session.is_operator {
            let is_known = projects::show(&console.database, project).await?.is_some();
            return if is_known { Ok(Right::Change) } else { Err(PageError::NotFound) };
        }
        let role = match &self.session.link {
            Some((linked, role)) => (linked == project).then(|| role.clone()),
            None => console::role(&console.database, project, &self.session.email).await?,
        };
        match role {
            None => Err(PageError::NotFound),
            Some(role) if ["owner", "admin"].contains(&role.to_ascii_lowercase().as_str()) => Ok(Right::Change),
            Some(_) => Ok(Right::Look),
        }
    }

    /// The same for a change: a form with the right token, by somebody who may.
    pub async fn may_change(&self, console: &Console, project: &str, fields: &Fields) -> Result<(), PageError> {
        self.sent(fields)?;
        match self.right(console, project).await? {
            Right::Change => Ok(()),
            Right::Look => Err(PageError::Forbidden("Only owners and admins of the project may change it.")),
        }
    }

    /// The form came from a page of ours.
    pub fn sent(&self, fields: &Fields) -> Result<(), PageError> {
        let given = fields.get("csrf_token").map(String::as_str).unwrap_or_default();
        if bool::from(given.as_bytes().ct_eq(self.csrf.as_bytes())) {
            return Ok(());
        }
        Err(PageError::Forbidden("The form did not come from a page of this session. Open the page again and repeat what you did."))
    }
}

impl FromRequestParts<Arc<Console>> for Person {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, PageError> {
        let token = cookie(&parts.headers, COOKIE_NAME).ok_or(PageError::SignIn)?;
        let session = console::session(&console.database, &sha256(token)).await?.ok_or(PageError::SignIn)?;
        Ok(Self::of(session, token))
    }
}

fn sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn set_cookie(console: &Console, value: &str, lasting_s: u32) -> String {
    let secure = if console.is_secure() { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={lasting_s}{secure}")
}

/// Begins a session, and leads on to the first page without anything in the address.
async fn begin(console: &Console, session: &Session, to: &str) -> Result<Response, PageError> {
    let mut bytes = [0; 32];
    for half in bytes.chunks_mut(16) {
        half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    }
    let token = hex::encode(bytes);
    console::sign_in(&console.database, &sha256(&token), session).await?;
    tracing::info!(person = session.email, is_operator = session.is_operator, "signed in");
    Ok((StatusCode::SEE_OTHER, [(LOCATION, to.to_owned()), (SET_COOKIE, set_cookie(console, &token, LASTING_S))]).into_response())
}

/// `GET /enter/{token}`: a link of ours, used once.
pub async fn enter(State(console): State<Arc<Console>>, Path(token): Path<String>) -> Result<Response, PageError> {
    if console.local.as_ref().is_some_and(|local| local.takes(&token)) {
        return begin(&console, &Session { email: "local".to_owned(), is_operator: true, link: None }, "/").await;
    }
    let keys = console.keys.as_ref().ok_or(PageError::Link)?;
    let link = PortalLink::read(keys, &token).ok_or(PageError::Link)?;
    if !console::use_link(&console.database, link.id, link.expires_unix).await? {
        return Err(PageError::Link);
    }
    let to = format!("/projects/{}", super::pages::segment(&link.project));
    begin(&console, &Session { email: link.email, is_operator: false, link: Some((link.project, link.role)) }, &to).await
}

/// `POST /sign-out`: ends the session on the server, too.
pub async fn leave(
    State(console): State<Arc<Console>>,
    person: Person,
    headers: HeaderMap,
    Sent(fields): Sent,
) -> Result<Response, PageError> {
    person.sent(&fields)?;
    if let Some(token) = cookie(&headers, COOKIE_NAME) {
        console::sign_out(&console.database, &sha256(token)).await?;
    }
    Ok((StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, set_cookie(&console, "", 0))]).into_response())
}
