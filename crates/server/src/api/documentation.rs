//! What the API is, for machines and for people: `/api/v2/openapi.json` and `/api/v2/docs`. Both are open: they tell what
//! anybody can read in the sources, and a client reads them before it has a login.

use axum::{
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};

use crate::{auth::access::Access, routes::Routes};

/// Made from the routes' declarations by `cargo xtask openapi`; a test compares it with them.
const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");
const PAGE: &str = include_str!("documentation/page.html");
/// The page asks for the document and for nothing else.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// At the root.
pub fn routes() -> Routes {
    Routes::new()
        .get("/api/v2/openapi.json", Access::Open, document)
        .get("/api/v2/docs", Access::Open, page)
}

/// *extension*: the API as an OpenAPI 3.1 document, without envelope and login.
pub async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// *extension*: the same as a page to read, without a login. It loads nothing but the document.
pub async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, PAGE).into_response()
}
