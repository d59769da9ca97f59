//! Hosts: `/api/v2/compute/hosts…`.

use axum::extract::State;
use obfleet_wire::{
    agent::FoundProxy,
    envelope::{Contents, Paged},
    host::{CreateHosts, DeleteHosts, EditHost, Host, HostsCreated},
    task::TaskInstance,
};

use crate::{
    app::{App, AppState},
    auth::{Who, right::Right},
    http::{ApiResult, Data, Entry, Idempotency, Json, ListQuery, NoData, PathIds},
    routes::Routes,
    task_view,
};

/// Below `/api/v2/compute`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/hosts", Right::HostView.shared(), list)
        .get("/hosts/{hostId}", Right::HostView.shared(), detail)
        .patch("/hosts/{hostId}", Right::HostManage.whole(), edit)
        .delete("/hosts/{hostId}", Right::HostManage.whole(), remove)
        .post("/hosts/batchCreate", Right::HostManage.whole(), batch_create)
        .post("/hosts/batchDelete", Right::HostManage.whole(), batch_delete)
        .get("/hosts/{hostId}/obproxies", Right::HostView.whole(), obproxies)
}

/// Lists hosts by status, IDC, service type and keyword (name, alias, address or service).
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<Host>>>> {
    let mut hosts = app.fleet.hosts().await?;
    let certificates = app.agents.certificates();
    for host in &mut hosts {
        host.certificate_expire_time = certificates.get(&host.id).map(|validity| validity.not_after);
    }
    let idc = query.id("idcId")?;
    hosts.retain(|host| idc.is_none_or(|id| id == host.idc_id) && is_asked_for(host, &query));
    Ok(Data(query.page(hosts)?))
}

fn is_asked_for(host: &Host, query: &ListQuery) -> bool {
    let runs = |types: &[&str]| {
        host.services
            .iter()
            .any(|service| types.contains(&service.service_type.as_str()))
    };
    let included = query.texts("includedServiceType");
    let mut searched = vec![host.name.as_str(), &host.inner_ip_address];
    searched.extend(host.alias.as_deref());
    searched.extend(host.services.iter().map(|service| service.name.as_str()));
    query.admits("status", &host.status)
        && query.mentions("keyword", &searched)
        && (included.is_empty() || runs(&included))
        && !runs(&query.texts("excludedServiceType"))
}

/// Shows one host.
pub async fn detail(State(app): AppState, path: PathIds) -> ApiResult<Data<Host>> {
    let host = app.fleet.host(path.id("hostId")?).await?;
    Ok(Data(with_certificate(&app, host)))
}

/// Changes alias, description, IDC or type of a host.
pub async fn edit(State(app): AppState, path: PathIds, Json(body): Json<EditHost>) -> ApiResult<Data<Host>> {
    let host = app.fleet.edit_host(path.id("hostId")?, body).await?;
    Ok(Data(with_certificate(&app, host)))
}

/// Adds hosts over SSH: one task a host puts an agent on it.
pub async fn batch_create(
    State(app): AppState,
    Who(who, _): Who,
    key: Idempotency,
    Json(body): Json<CreateHosts>,
) -> ApiResult<Data<HostsCreated<TaskInstance>>> {
    let once = key.of(&body, None)?;
    let tasks = app.fleet.add_hosts(&who, body, once.as_ref()).await?;
    Ok(Data(HostsCreated {
        host_ids: tasks.iter().filter_map(|task| task.host_id).collect(),
        id: tasks.first().map(|task| task.id.0).unwrap_or_default(),
        contents: tasks.iter().map(task_view::started).collect(),
    }))
}

/// Deletes a host without proxies. An agent that was put there over SSH is taken away first, by a task.
pub async fn remove(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<NoData> {
    app.fleet.delete_hosts(&who, &[path.id("hostId")?], "hostId").await?;
    Ok(NoData)
}

/// Deletes hosts without proxies, all of them or none. Agents that were put there over SSH are taken away first, by tasks.
pub async fn batch_delete(State(app): AppState, Who(who, _): Who, Json(body): Json<DeleteHosts>) -> ApiResult<NoData> {
    app.fleet.delete_hosts(&who, &body.host_id_list, "hostIdList").await?;
    Ok(NoData)
}

fn with_certificate(app: &App, mut host: Host) -> Host {
    let certificates = app.agents.certificates();
    host.certificate_expire_time = certificates.get(&host.id).map(|validity| validity.not_after);
    host
}

/// *extension*: the proxies that run on a host, whoever installed and started them.
pub async fn obproxies(State(app): AppState, path: PathIds) -> ApiResult<Data<Contents<FoundProxy>>> {
    let contents = app.fleet.obproxies_on_host(path.id("hostId")?).await?;
    Ok(Data(Contents { contents }))
}
