//! Parameters: `/api/v2/obproxy/parameterInfo` and `/api/v2/obproxy/clusters/{id}/parameters…`.

use axum::extract::State;
use obfleet_wire::{
    envelope::{Contents, Page, Paged},
    parameter::{
        DriftSelection, ObproxyClusterParameter, ParameterChangeRecord, ParameterDrift, ParameterInfo, UpdateParameters,
    },
    task::TaskInstance,
};

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiResult, Data, Idempotency, Json, ListQuery, OptionalJson, PathIds},
    routes::Routes,
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    let (view, manage) = (
        Right::ObproxyView.of_cluster("id"),
        Right::ObproxyManage.of_cluster("id"),
    );
    Routes::new()
        .get("/parameterInfo", Right::ObproxyView.shared(), info)
        .get("/clusters/{id}/parameters", view, list)
        .put("/clusters/{id}/parameters", manage, update)
        .get("/clusters/{id}/parameters/history", view, history)
        .get("/clusters/{id}/parameters/drift", view, drift)
        .post("/clusters/{id}/parameters/drift/repair", manage, repair)
        .post("/clusters/{id}/parameters/drift/accept", manage, accept)
        .post(
            "/clusters/{id}/obproxies/{obproxyIds}/refreshParameters",
            manage,
            refresh,
        )
}

/// Lists the parameters there are, of a `version`, or the one called `name`.
pub async fn info(State(app): AppState, query: ListQuery) -> ApiResult<Data<Contents<ParameterInfo>>> {
    let contents = app
        .fleet
        .parameter_info(query.text("name"), query.text("version"))
        .await?;
    Ok(Data(Contents { contents }))
}

/// Lists the parameters of a cluster's proxies.
pub async fn list(State(app): AppState, path: PathIds) -> ApiResult<Data<Contents<ObproxyClusterParameter>>> {
    let contents = app.fleet.cluster_parameters(path.id("id")?).await?;
    Ok(Data(Contents { contents }))
}

/// Gives all proxies of a cluster, or some, other values: one task.
pub async fn update(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<UpdateParameters>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let update = app.fleet.update_parameters(&who, path.id("id")?, body, once.as_ref());
    Ok(Data(task_view::started(&update.await?)))
}

/// Lists what was changed in a cluster, or of the parameter called `name`, the newest first.
pub async fn history(
    State(app): AppState,
    path: PathIds,
    query: ListQuery,
) -> ApiResult<Data<Paged<ParameterChangeRecord>>> {
    let (number, size) = query.paging()?;
    let history = app
        .fleet
        .parameter_history(path.id("id")?, query.text("name"), number, size);
    let (contents, total) = history.await?;
    let page = Page::of(number, size, total);
    Ok(Data(Paged { contents, page }))
}

/// Lists what drifts in a cluster.
pub async fn drift(State(app): AppState, path: PathIds) -> ApiResult<Data<Contents<ParameterDrift>>> {
    let contents = app.fleet.parameter_drift(path.id("id")?).await?;
    Ok(Data(Contents { contents }))
}

/// Gives proxies back the values they should have: one task. Without a body, all that drifts.
pub async fn repair(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    OptionalJson(body): OptionalJson<DriftSelection>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let repair = app.fleet.repair_drift(&who, path.id("id")?, body, once.as_ref());
    Ok(Data(task_view::started(&repair.await?)))
}

/// Has the values that proxies have be those they should have: one task. Without a body, all that drifts.
pub async fn accept(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    OptionalJson(body): OptionalJson<DriftSelection>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let accept = app.fleet.accept_drift(&who, path.id("id")?, body, once.as_ref());
    Ok(Data(task_view::started(&accept.await?)))
}

/// Gives proxies all of their cluster's parameters: one task.
pub async fn refresh(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&(), None)?;
    let refresh = app.fleet.refresh_parameters(&who, cluster, &proxies, once.as_ref());
    Ok(Data(task_view::started(&refresh.await?)))
}
