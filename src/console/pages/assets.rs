//! Style sheet, script and icon, compiled in.

use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::console::error::PageError;

/// `GET /assets/{name}`
pub async fn serve(Path(name): Path<String>) -> Result<Response, PageError> {
    let (content_type, content) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", include_str!("../assets/console.css")),
        "htmx.min.js" => ("text/javascript; charset=utf-8", include_str!("../assets/htmx.min.js")),
        "htmx-sse.min.js" => ("text/javascript; charset=utf-8", include_str!("../assets/htmx-sse.min.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../assets/icon.svg")),
        _ => return Err(PageError::NotFound),
    };
    Ok(([(CONTENT_TYPE, content_type)], content).into_response())
}
