//! Passwords of the accounts that proxies and we ourselves use: root@proxysys and proxyro.

use axum::extract::State;
use obfleet_wire::{
    obproxy::{SetPassword, SysPassword},
    task::TaskInstance,
};

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiError, ApiResult, Data, Idempotency, Json, NoData, PathIds, Wanted},
    routes::Routes,
    task_view,
};

/// The only account that `/password` is about.
const PROXYRO: &str = "proxyro";

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    Routes::new()
        .post("/password", Right::ObproxyManage.whole(), proxyro)
        .post(
            "/clusters/{id}/sysPassword",
            Right::ObproxyManage.of_cluster("id"),
            sys_password,
        )
}

/// Sets the password of proxyro for all OceanBase clusters. As in OCP there is no data in the answer; a task brings it to the
/// proxies.
pub async fn proxyro(
    State(app): AppState,
    Who(who, _): Who,
    key: Idempotency,
    Json(body): Json<SetPassword>,
) -> ApiResult<NoData> {
    if body.username != PROXYRO {
        return Err(ApiError::value("username", &body.username, Wanted::OneOf(&[PROXYRO])));
    }
    let once = key.of(&body, None)?;
    let change = app.fleet.change_proxyro_password(&who, &body.password, once.as_ref());
    change.await?;
    Ok(NoData)
}

/// *extension*: gives all proxies of a cluster another password of root@proxysys, or none: one task.
pub async fn sys_password(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<SysPassword>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let change = app
        .fleet
        .change_sys_password(&who, path.id("id")?, &body.password, once.as_ref());
    Ok(Data(task_view::started(&change.await?)))
}
