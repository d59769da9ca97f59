//! Taking over proxies that somebody else installed: `/api/v2/obproxy/clusters/{id}/takeOver…`.

use axum::{extract::State, http::HeaderMap};
use obfleet_fleet::TakeOverCheck;
use obfleet_wire::{
    envelope::Contents,
    obproxy::{CheckedHost, MoveOutObproxy, TakeOverObproxy},
    task::TaskInstance,
};

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiResult, Data, Idempotency, Json, OptionalJson, PathIds, language::Language, obstacles},
    routes::Routes,
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    let manage = Right::ObproxyManage.of_cluster("id");
    Routes::new()
        .post("/clusters/{id}/takeOver", manage, take_over)
        .post("/clusters/{id}/takeOver/precheck", manage, precheck)
        .post("/clusters/{id}/obproxies/{obproxyIds}/moveOut", manage, move_out)
}

/// Takes proxies over, without restarting them: one task a proxy.
pub async fn take_over(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<TakeOverObproxy>,
) -> ApiResult<Data<Contents<TaskInstance>>> {
    let once = key.of(&body, None)?;
    let tasks = app.fleet.take_over(&who, path.id("id")?, body, once.as_ref()).await?;
    Ok(Data(Contents {
        contents: tasks.iter().map(task_view::started).collect(),
    }))
}

/// *extension*: what a take over would find and do, without doing it.
pub async fn precheck(
    State(app): AppState,
    path: PathIds,
    headers: HeaderMap,
    Json(body): Json<TakeOverObproxy>,
) -> ApiResult<Data<Contents<CheckedHost>>> {
    let checks = app.fleet.check_take_over(path.id("id")?, &body).await?;
    let language = Language::of(&headers);
    let contents = checks.into_iter().map(|check| shown(check, language)).collect();
    Ok(Data(Contents { contents }))
}

fn shown(check: TakeOverCheck, language: Language) -> CheckedHost {
    let obstacles = check.obstacles.iter();
    let cautions = check.cautions.iter();
    CheckedHost {
        host_id: check.host_id,
        obstacles: obstacles.map(|one| obstacles::obstacle(one, language)).collect(),
        parameters: check.differences,
        proxy: check.proxy,
        sql_port: check.sql_port,
        warnings: cautions.map(|one| obstacles::caution(one, language)).collect(),
    }
}

/// *extension*: gives proxies back, which go on as they run: one task.
pub async fn move_out(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    OptionalJson(body): OptionalJson<MoveOutObproxy>,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&body, None)?;
    let task = app
        .fleet
        .move_out(&who, cluster, &proxies, &body, once.as_ref())
        .await?;
    Ok(Data(task_view::started(&task)))
}
