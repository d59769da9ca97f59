//! The proxies of a cluster: `/api/v2/obproxy/clusters/{id}/obproxies…`, and where their metrics are.

use axum::extract::State;
use obfleet_fleet::{
    Actor, ExporterTarget, LoadBalanceServer,
    plan::{Selection, operate::Restart, upgrade::Wanted},
};
use obfleet_wire::{
    Code, Refusal,
    envelope::Contents,
    obproxy::{AddObproxy, UpgradeObproxy},
    reason::Reason,
    task::TaskInstance,
};

use crate::{
    api::monitor,
    app::{App, AppState},
    auth::{Who, granted::Scope, right::Right},
    http::{ApiResult, Data, Idempotency, Json, ListQuery, NoData, OptionalJson, PathIds},
    routes::Routes,
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    let manage = Right::ObproxyManage.of_cluster("id");
    Routes::new()
        .post("/clusters/{id}/obproxies/batchAdd", manage, batch_add)
        .delete("/clusters/{id}/obproxies/{obproxyIds}", manage, remove)
        .post("/clusters/{id}/obproxies/{obproxyIds}/offline", manage, offline)
        .post("/clusters/{id}/obproxies/{obproxyIds}/online", manage, online)
        .post("/clusters/{id}/obproxies/{obproxyIds}/restart", manage, restart)
        .post("/clusters/{id}/obproxies/{obproxyIds}/upgrade", manage, upgrade)
        .get("/exporterTargets", Right::ObproxyView.filtered(), exporter_targets)
        .get("/metrics", Right::ObproxyView.whole(), monitor::exposition)
        .get("/loadBalanceInfo", Right::ObproxyView.filtered(), load_balance_info)
}

/// Installs a proxy on each of some hosts: one task a host.
pub async fn batch_add(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<AddObproxy>,
) -> ApiResult<Data<Contents<TaskInstance>>> {
    let once = key.of(&body, None)?;
    let tasks = app
        .fleet
        .add_obproxies(&who, path.id("id")?, body, once.as_ref())
        .await?;
    Ok(Data(Contents {
        contents: tasks.iter().map(task_view::started).collect(),
    }))
}

/// Takes proxies away: one task.
pub async fn remove(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&(), None)?;
    let delete = app.fleet.delete_obproxies(&who, cluster, &proxies, once.as_ref());
    let task = delete.await?;
    Ok(Data(task_view::started(&task)))
}

/// Restarts proxies one after another, hot where that can be: one task.
pub async fn restart(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&(), None)?;
    let restart = app.fleet.restart_obproxies(
        &who,
        cluster,
        Selection::in_path(&proxies),
        Restart::Recommended,
        once.as_ref(),
    );
    Ok(Data(task_view::started(&restart.await?)))
}

/// Has load balancers keep away from running proxies: one task. As in OCP there is no data in the answer; `loadBalanceStatus`
/// tells when it is so.
pub async fn offline(State(app): AppState, Who(who, _): Who, path: PathIds, key: Idempotency) -> ApiResult<NoData> {
    balance(&app, &who, &path, key, true).await
}

/// Has load balancers come to running proxies again: one task.
pub async fn online(State(app): AppState, Who(who, _): Who, path: PathIds, key: Idempotency) -> ApiResult<NoData> {
    balance(&app, &who, &path, key, false).await
}

async fn balance(app: &App, who: &Actor, path: &PathIds, key: Idempotency, offline: bool) -> ApiResult<NoData> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&(), None)?;
    let selection = Selection::in_path(&proxies);
    let balance = app
        .fleet
        .balance_obproxies(who, cluster, selection, offline, once.as_ref());
    balance.await?;
    Ok(NoData)
}

/// Upgrades running proxies one after another: one task. Without a body, to the newest package that fits.
pub async fn upgrade(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    OptionalJson(body): OptionalJson<UpgradeObproxy>,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&body, None)?;
    let wanted = Wanted {
        short_rpm_name: body.short_rpm_name.as_deref(),
        operating_system: None,
    };
    let selection = Selection::in_path(&proxies);
    let upgrade = app
        .fleet
        .upgrade_obproxies(&who, cluster, selection, wanted, once.as_ref());
    let task = upgrade.await?;
    Ok(Data(task_view::started(&task)))
}

/// The proxies' metrics endpoints, for Prometheus' HTTP service discovery: a plain JSON array, no envelope.
pub async fn exporter_targets(State(app): AppState, scope: Scope) -> ApiResult<axum::Json<Vec<ExporterTarget>>> {
    let mut targets = app.fleet.exporter_targets().await?;
    targets.retain(|target| scope.holds(target.cluster_id));
    Ok(axum::Json(targets))
}

/// The serving proxies of the cluster that `appName` names, for clients that balance load by themselves.
pub async fn load_balance_info(
    State(app): AppState,
    scope: Scope,
    query: ListQuery,
) -> ApiResult<Data<Contents<LoadBalanceServer>>> {
    let name = query.text("appName");
    let name = name.ok_or_else(|| Refusal::invalid("appName", Reason::Empty))?;
    let cluster = app.fleet.cluster_named(name).await?;
    if cluster.is_some_and(|cluster| !scope.holds(cluster)) {
        return Err(Refusal::new(Code::Iam10017, [Right::ObproxyView.name()]).into());
    }
    let contents = app.fleet.load_balance_servers(name).await?;
    Ok(Data(Contents { contents }))
}
