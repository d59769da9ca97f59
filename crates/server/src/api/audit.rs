//! What was changed, and by whom: `/api/v2/audit/records` (*extension*).

use std::{io, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use futures::{Stream, stream};
use obfleet_store::audit::AuditFilter;
use obfleet_wire::{
    audit::AuditRecord,
    envelope::{Page, Paged},
};

use crate::{
    app::{App, AppState},
    auth::right::Right,
    http::{ApiError, ApiResult, Data, ListQuery},
    routes::Routes,
};

/// Below `/api/v2/audit`.
pub fn routes() -> Routes {
    Routes::new().get("/records", Right::AuditView.whole(), list).get(
        "/records/export",
        Right::AuditView.whole(),
        export,
    )
}

/// Lists records, the newest first: of a user, of paths that begin like `path`, of a status.
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<AuditRecord>>> {
    let status = query.number("status", 100..=599)?;
    let filter = AuditFilter {
        user: query.text("userName").map(str::to_owned),
        path: query.text("path").map(str::to_owned),
        status: status.and_then(|status| i64::try_from(status).ok()),
    };
    let (number, size) = query.paging()?;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let page = app
        .audit
        .list(&filter, whole((number - 1).saturating_mul(size)), whole(size));
    let (records, total) = page.await.map_err(ApiError::internal)?;
    Ok(Data(Paged {
        contents: records,
        page: Page::of(number, size, u64::try_from(total).unwrap_or_default()),
    }))
}

/// All records after `after`, the oldest first, a line of JSON each, as they were digested: `obfleet audit verify` reads them.
pub async fn export(State(app): AppState, query: ListQuery) -> ApiResult<Response> {
    let after = query.number("after", 0..=i64::MAX.unsigned_abs())?.unwrap_or_default();
    let lines = lines(app, i64::try_from(after).unwrap_or(i64::MAX));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// Read as fast as the client takes them.
fn lines(app: Arc<App>, after: i64) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((app, after), async |(app, after)| {
        let records = app.audit.after(after).await.map_err(io::Error::other)?;
        let Some(last) = records.last().map(|record| record.seq) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        for record in &records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        Ok(Some((Bytes::from(text), (app, last))))
    })
}
