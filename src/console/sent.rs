//! What a form sent.

use axum::Form;
use axum::extract::{FromRequest, Request};

use super::Fields;
use super::error::PageError;

/// The fields of a form. What is no form came from none of our pages.
pub struct Sent(pub Fields);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        match Form::<Fields>::from_request(request, state).await {
            Ok(Form(fields)) => Ok(Self(fields)),
            Err(_) => Err(PageError::Forbidden("What was sent is no form of these pages. Open the page again and repeat what you did.")),
        }
    }
}
