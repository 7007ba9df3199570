//! What every answer tells the browser, so that a mistake in a page stays a mistake.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::Next;
use axum::response::Response;

/// Adds the headers to the answer. `ancestors` are origins that may show a page in a frame.
pub async fn add(ancestors: Vec<String>, request: Request, next: Next) -> Response {
    let is_asset = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let ancestors = if ancestors.is_empty() { "'none'".to_owned() } else { format!("'self' {}", ancestors.join(" ")) };
    // Nothing but our own style sheet, script and images; no inline code of any kind; forms go to us alone.
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // The address of a page names a project; other sites need not know it.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // After signing out, the back button shows nothing.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(if is_asset { "public, max-age=86400" } else { "no-store" }));
    response
}
