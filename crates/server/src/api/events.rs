//! What befell hosts and proxies: `/api/v2/obproxy/events` (*extension*).

use axum::{extract::State, http::HeaderMap};
use obfleet_fleet::inventory::{EventFilter, FleetEvent, Incident};
use obfleet_wire::{
    envelope::{Page, Paged},
    event::FleetEvent as Shown,
};

use crate::{
    app::AppState,
    auth::{granted::Scope, right::Right},
    http::{ApiError, ApiResult, Data, ListQuery, Wanted, language::Language},
    masking,
    routes::Routes,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    Routes::new().get("/events", Right::ObproxyView.filtered(), list)
}

/// Lists events, the newest first: of a cluster, a proxy, a host, or of some kinds. Who may see some clusters alone sees what
/// befell their proxies.
pub async fn list(
    State(app): AppState,
    scope: Scope,
    headers: HeaderMap,
    query: ListQuery,
) -> ApiResult<Data<Paged<Shown>>> {
    let kinds = query.texts("type");
    if let Some(unknown) = kinds.iter().find(|kind| !Incident::KINDS.contains(kind)) {
        return Err(ApiError::value("type", unknown, Wanted::OneOf(Incident::KINDS)));
    }
    let filter = EventFilter {
        cluster_id: query.id("clusterId")?,
        proxy_id: query.id("obproxyId")?,
        host_id: query.id("hostId")?,
        within: scope.clusters().cloned(),
        kinds: kinds.into_iter().map(str::to_owned).collect(),
    };
    let (number, size) = query.paging()?;
    let (events, total) = app.fleet.events(&filter, (number - 1) * size, size).await?;
    let language = Language::of(&headers);
    Ok(Data(Paged {
        contents: events.iter().map(|event| shown(event, language)).collect(),
        page: Page::of(number, size, total),
    }))
}

fn shown(event: &FleetEvent, language: Language) -> Shown {
    Shown {
        cluster_id: event.cluster_id,
        host_id: event.host_id,
        id: event.id,
        message: sentence(event, language),
        obproxy_id: event.proxy_id,
        restarts: match event.incident {
            Incident::ProxyCrashed { restarts } => Some(restarts),
            _ => None,
        },
        time: event.at,
        kind: event.incident.kind().to_owned(),
    }
}

fn sentence(event: &FleetEvent, language: Language) -> String {
    let (host, proxy) = (event.host_id, event.proxy_id.unwrap_or_default());
    match &event.incident {
        Incident::AgentOnline => language.choose(
            format!("The agent of host {host} answers."),
            format!("主机 {host} 的 agent 已应答。"),
        ),
        Incident::AgentOffline => language.choose(
            format!(
                "The agent of host {host} does not answer. Its proxies go on without it; check that it runs and that its \
                 port is open."
            ),
            format!("主机 {host} 的 agent 无应答，其上的 OBProxy 不受影响。请检查 agent 进程及其端口。"),
        ),
        Incident::ProxyAvailable => language.choose(
            format!("Proxy {proxy} serves."),
            format!("OBProxy {proxy} 可以提供服务。"),
        ),
        Incident::ProxyUnavailable => language.choose(
            format!(
                "Proxy {proxy} on host {host} does not serve. If its agent does not bring it back, look into the proxy's log."
            ),
            format!("主机 {host} 上的 OBProxy {proxy} 不可用。若 agent 未能将其恢复，请查看 OBProxy 日志。"),
        ),
        Incident::ProxyCrashed { restarts } => language.choose(
            format!(
                "Proxy {proxy} on host {host} ended by itself and was started again by its agent, {restarts} times so far. \
                 Look into the proxy's log for the reason."
            ),
            format!(
                "主机 {host} 上的 OBProxy {proxy} 异常退出，已由 agent 重新拉起（累计 {restarts} 次）。请查看 OBProxy 日志了解原因。"
            ),
        ),
        Incident::ProxyStartFailed { reason } => {
            let reason = masking::text(reason);
            language.choose(
                format!("Proxy {proxy} on host {host} ended by itself and does not start: {reason}. Its agent goes on trying."),
                format!("主机 {host} 上的 OBProxy {proxy} 异常退出且无法启动：{reason}。agent 将继续尝试。"),
            )
        }
    }
}
