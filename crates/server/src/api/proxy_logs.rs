//! The log files of proxies: `/api/v2/obproxy/clusters/{id}/obproxies/{obproxyId}/logs…`, an extension.

use axum::{
    extract::State,
    http::{
        HeaderValue,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
};
use obfleet_fleet::{host_agent::HostAgentError, inventory::Host};
use obfleet_wire::{
    Code, Refusal,
    agent::{LOG_TAIL_MOST, ProxyLog},
    envelope::Contents,
    reason::Thing,
};

use crate::{
    app::{App, AppState},
    auth::right::Right,
    http::{ApiError, ApiResult, Data, ListQuery, PathIds, Wanted},
    routes::Routes,
};

/// Bytes of a file that are told to who does not say how many.
const TAIL: u64 = 1024 * 1024;

/// Below `/api/v2/obproxy`. A log tells what clients and operators do, so looking at it takes the right to change.
pub fn routes() -> Routes {
    let manage = Right::ObproxyManage.of_cluster("id");
    Routes::new()
        .get("/clusters/{id}/obproxies/{obproxyIds}/logs", manage, list)
        .get("/clusters/{id}/obproxies/{obproxyIds}/logs/{name}", manage, read)
}

/// Lists the log files of one proxy.
pub async fn list(State(app): AppState, path: PathIds) -> ApiResult<Data<Contents<ProxyLog>>> {
    let (host, proxy) = found(&app, &path).await?;
    let logs = app.agents.proxy_logs(&host, proxy).await;
    let contents = logs.map_err(|error| unanswered(&host, &error))?;
    Ok(Data(Contents { contents }))
}

/// The end of a log file, without envelope; `tail` says how many bytes of it.
pub async fn read(State(app): AppState, path: PathIds, query: ListQuery) -> ApiResult<Response> {
    let (host, proxy) = found(&app, &path).await?;
    let tail = match query.text("tail") {
        None => TAIL,
        Some(text) => {
            let bytes = text.parse().ok().filter(|bytes| (1..=LOG_TAIL_MOST).contains(bytes));
            bytes.ok_or_else(|| ApiError::value("tail", text, Wanted::UpTo(LOG_TAIL_MOST)))?
        }
    };
    let name = path.text("name");
    let body = app.agents.proxy_log(&host, proxy, name, tail).await;
    let body = body.map_err(|error| unanswered(&host, &error))?;
    let body =
        body.ok_or_else(|| Refusal::about(Code::Com10002, [Thing::LogFileKind.into(), name.into()]).field("name"))?;
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let file_name = if plain { name } else { "obproxy.log" };
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{file_name}\"")) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// The host of the one proxy that the path names, and its id.
async fn found(app: &App, path: &PathIds) -> ApiResult<(Host, i64)> {
    let (cluster, proxy) = (path.id("id")?, path.id("obproxyIds")?);
    Ok((app.fleet.host_of_proxy(cluster, proxy).await?, proxy))
}

fn unanswered(host: &Host, error: &HostAgentError) -> ApiError {
    tracing::warn!(host = host.facts.name, %error, "log files cannot be had");
    match error {
        HostAgentError::Unreachable { .. } => Refusal::new(Code::Cmp07004, [host.facts.name.as_str(), "ONLINE"]).into(),
        _ => ApiError::internal(error),
    }
}
