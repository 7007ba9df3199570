//! What a page says where it cannot be shown, each with a way on.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::pages::layout;
use crate::store::StoreError;

/// Why there is no page.
#[derive(Debug)]
pub enum PageError {
    /// There is none, or it is another project's: both read alike.
    NotFound,
    /// Nobody is signed in.
    SignIn,
    /// A link that is forged, over, or was used.
    Link,
    /// The identity provider did not do its part; the log says what.
    Provider,
    /// Not by this person, or not by this form.
    Forbidden(&'static str),
    /// More people watch than one console serves.
    Busy,
    /// The interface refused what was given.
    Refused(String),
    /// The database did not answer.
    Store(StoreError),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { ref code, .. } if code == "22023" => Self::Refused(error.to_string()),
            StoreError::Refused { ref code, .. } if code == "22021" => {
                Self::Refused("a text holds a character that no text can hold".to_owned())
            }
            error => Self::Store(error),
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Self::NotFound => {
                (StatusCode::NOT_FOUND, "Not found", "There is no such page, or it belongs to a project that you do not see.".to_owned())
            }
            Self::SignIn => (
                StatusCode::UNAUTHORIZED,
                "Sign in",
                "Open the console by the link in your dashboard, or sign in below where your operator has set that up.".to_owned(),
            ),
            Self::Link => (
                StatusCode::FORBIDDEN,
                "This link opens nothing",
                "It was used before, its time is over, or it was cut. Ask for another one where you got it.".to_owned(),
            ),
            Self::Provider => (
                StatusCode::BAD_GATEWAY,
                "Not signed in",
                "The identity provider did not answer as it should; the console's log says how. Try again in a moment.".to_owned(),
            ),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Not allowed", why.to_owned()),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many watch",
                "This console shows live lists to as many as it can. Reload the page to see what is new.".to_owned(),
            ),
            Self::Refused(why) => (StatusCode::UNPROCESSABLE_ENTITY, "Not changed", why),
            Self::Store(error) => {
                tracing::warn!(%error, "a page could not be read");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The database does not answer",
                    "Nothing was changed. Try again in a moment; if it stays so, see: actionsctl doctor.".to_owned(),
                )
            }
        };
        let way_on = if status == StatusCode::UNAUTHORIZED { ("/sign-in", "Sign in") } else { ("/", "To the overview") };
        let page = layout::plain(title, &html! { p { (text) } p { a class="button" href=(way_on.0) { (way_on.1) } } });
        (status, page).into_response()
    }
}
