//! Tasks: `/api/v2/tasks/instances…`.

use std::{collections::BTreeMap, slice};

use axum::extract::State;
use obfleet_engine::{SortKey, SubtaskId, TaskFilter, TaskId, TaskView};
use obfleet_wire::{
    envelope::{Page, Paged},
    task::{
        AbandonTask, ClusterRef, Creator, SubtaskInstance, SubtaskLog, UnreadableTask, UnreadableTasks,
        WrappedTaskInstance,
    },
};

use super::{diagnosis, task_events};
use crate::{
    app::{App, AppState},
    auth::{Who, granted::Scope, right::Right},
    http::{ApiError, ApiResult, Data, Json, ListQuery, NoData, PathIds, Wanted},
    masking,
    routes::Routes,
    task_view,
};

/// Characters of the reason for abandoning a task.
const MAX_REASON: usize = 1000;

const STATUSES: &[&str] = &["RUNNING", "FAILED", "SUCCESSFUL"];
const TYPES: &[&str] = &["MANUAL", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED"];

/// Below `/api/v2/tasks`.
pub fn routes() -> Routes {
    let (view, manage) = (
        Right::TaskView.of_task("taskInstanceId"),
        Right::TaskManage.of_task("taskInstanceId"),
    );
    let instance = Routes::new()
        .get("/", view, detail)
        .post("/retry", manage, retry)
        .post("/rollback", manage, rollback)
        .get("/events", view, task_events::events)
        .post("/downloadDiagnosis", manage, diagnosis::download)
        .post("/cancel", manage, cancel)
        .post("/pause", manage, pause)
        .post("/resume", manage, resume)
        .post("/abandon", manage, abandon);
    let subtask = Routes::new()
        .get("/log", view, log)
        .post("/retry", manage, retry_subtask)
        .post("/skip", manage, skip_subtask)
        .post("/cancel", manage, cancel_subtask);
    Routes::new()
        .get("/{taskInstanceId}", view, detail)
        .get("/unreadable", Right::TaskView.whole(), unreadable)
        .get("/instances", Right::TaskView.filtered(), list)
        .nest("/instances/{taskInstanceId}", instance)
        .nest("/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}", subtask)
}

/// Lists tasks by name, status, type, cluster and host, the newest first.
pub async fn list(State(app): AppState, scope: Scope, query: ListQuery) -> ApiResult<Data<Paged<WrappedTaskInstance>>> {
    let mut filter = filter(&query)?;
    filter.clusters = scope.clusters().map(|clusters| clusters.iter().copied().collect());
    if !narrow_to_named_cluster(&app, &query, &mut filter).await? || names_a_tenant(&query) {
        return Ok(Data(Paged {
            contents: Vec::new(),
            page: Page::of(filter.page.into(), filter.size.into(), 0),
        }));
    }
    let page = app.fleet.engine().list(&filter).await?;
    let names = Names::of(&app, &page.items).await?;
    Ok(Data(Paged {
        contents: page.items.iter().map(|task| names.wrap(task)).collect(),
        page: Page::of(filter.page.into(), filter.size.into(), page.total),
    }))
}

fn filter(query: &ListQuery) -> ApiResult<TaskFilter> {
    let (page, size) = query.paging()?;
    let word = |name: &str, text: &str, words| ApiError::value(name, text, Wanted::OneOf(words));
    let status = query
        .texts("status")
        .into_iter()
        .map(|text| text.parse().map_err(|_| word("status", text, STATUSES)));
    let task_type = query
        .text("type")
        .map(|text| text.parse().map_err(|_| word("type", text, TYPES)));
    let (sort, ascending) = query.text("sort").map_or(Ok((SortKey::Id, false)), order)?;
    Ok(TaskFilter {
        name: query.text("name").or_else(|| query.text("keyword")).map(str::to_owned),
        status: status.collect::<Result<_, _>>()?,
        task_type: task_type.transpose()?,
        cluster_id: query.id("clusterId")?,
        clusters: None,
        host_id: query.id("hostId")?,
        page: page.try_into().unwrap_or(u32::MAX),
        size: size.try_into().unwrap_or(u32::MAX),
        sort,
        ascending,
    })
}

/// Adds the cluster that is given by name, which OCP spells `cluterName`. → false when no task can be of that cluster
async fn narrow_to_named_cluster(app: &App, query: &ListQuery, filter: &mut TaskFilter) -> ApiResult<bool> {
    let Some(name) = query.text("cluterName").or_else(|| query.text("clusterName")) else {
        return Ok(true);
    };
    let named = app.fleet.cluster_named(name).await?;
    let asked = filter.cluster_id.or(named);
    filter.cluster_id = asked;
    Ok(named.is_some() && named == asked)
}

/// OCP's tenants are OceanBase's; no task here is about one.
fn names_a_tenant(query: &ListQuery) -> bool {
    query.text("tenantName").is_some() || query.text("tenantId").is_some()
}

fn order(text: &str) -> ApiResult<(SortKey, bool)> {
    let (member, direction) = text.split_once(',').unwrap_or((text, "asc"));
    let key = match member {
        "id" => Some(SortKey::Id),
        "name" => Some(SortKey::Name),
        "status" => Some(SortKey::Status),
        "startTime" | "createTime" => Some(SortKey::StartTime),
        "finishTime" => Some(SortKey::FinishTime),
        _ => None,
    };
    let ascending = match direction.to_ascii_lowercase().as_str() {
        "asc" => Some(true),
        "desc" => Some(false),
        _ => None,
    };
    key.zip(ascending)
        .ok_or_else(|| ApiError::value("sort", text, Wanted::Sort))
}

/// Who and what tasks name by login name and id. A cluster that is gone is still named.
struct Names {
    creators: BTreeMap<String, i64>,
    clusters: BTreeMap<i64, String>,
}

impl Names {
    /// Two reads, however many tasks.
    async fn of(app: &App, tasks: &[TaskView]) -> ApiResult<Self> {
        let creators = tasks.iter().map(|task| task.creator.as_str()).collect();
        let clusters = tasks.iter().filter_map(|task| task.cluster_id).collect();
        Ok(Self {
            creators: app.users.ids(&creators).await.map_err(ApiError::internal)?,
            clusters: app.fleet.cluster_names(&clusters).await?,
        })
    }

    fn wrap(&self, task: &TaskView) -> WrappedTaskInstance {
        let creator = Creator {
            id: self.creators.get(&task.creator).copied().unwrap_or_default(),
            name: task.creator.clone(),
        };
        let cluster = task.cluster_id.and_then(|id| {
            let name = self.clusters.get(&id)?.clone();
            Some(ClusterRef { id, name })
        });
        task_view::wrapped(task, creator, cluster)
    }
}

/// The task with the names of its creator and cluster.
pub(super) async fn show(app: &App, task: &TaskView) -> ApiResult<WrappedTaskInstance> {
    let names = Names::of(app, slice::from_ref(task)).await?;
    Ok(names.wrap(task))
}

pub(super) fn task_id(path: &PathIds) -> ApiResult<TaskId> {
    Ok(TaskId(path.id("taskInstanceId")?))
}

fn subtask_id(path: &PathIds) -> ApiResult<SubtaskId> {
    Ok(SubtaskId(path.id("subtaskInstanceId")?))
}

/// *Extension*: running tasks that this server leaves alone because it cannot read their rows.
pub async fn unreadable(State(app): AppState) -> Data<UnreadableTasks> {
    let tasks = app.fleet.engine().unreadable().into_iter();
    let contents = tasks.map(|(task, reason)| UnreadableTask {
        id: task.0,
        reason: masking::text(&reason).into_owned(),
    });
    Data(UnreadableTasks {
        contents: contents.collect(),
    })
}

/// Shows one task.
pub async fn detail(State(app): AppState, path: PathIds) -> ApiResult<Data<WrappedTaskInstance>> {
    let task = app.fleet.engine().task(task_id(&path)?).await?;
    Ok(Data(show(&app, &task).await?))
}

/// Retries every failed subtask of a failed task.
pub async fn retry(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<Data<WrappedTaskInstance>> {
    let task = app.fleet.engine().retry(task_id(&path)?, &who.name).await?;
    Ok(Data(show(&app, &task).await?))
}

/// Undoes what a failed task did.
pub async fn rollback(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<Data<WrappedTaskInstance>> {
    let task = app.fleet.engine().rollback(task_id(&path)?, &who.name).await?;
    Ok(Data(show(&app, &task).await?))
}

/// *Extension*: asks everything of a task to stop; it ends FAILED.
pub async fn cancel(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<Data<WrappedTaskInstance>> {
    let task = app.fleet.engine().cancel_task(task_id(&path)?, &who.name).await?;
    Ok(Data(show(&app, &task).await?))
}

/// *Extension*: lets nothing of a task begin any more, until it is resumed.
pub async fn pause(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<Data<WrappedTaskInstance>> {
    let task = app.fleet.engine().pause(task_id(&path)?, &who.name).await?;
    Ok(Data(show(&app, &task).await?))
}

/// *Extension*: lets a paused task go on.
pub async fn resume(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<Data<WrappedTaskInstance>> {
    let task = app.fleet.engine().unpause(task_id(&path)?, &who.name).await?;
    Ok(Data(show(&app, &task).await?))
}

/// *Extension*: gives a failed task up as it stands.
pub async fn abandon(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    Json(body): Json<AbandonTask>,
) -> ApiResult<Data<WrappedTaskInstance>> {
    let reason = body.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(ApiError::value("reason", reason, Wanted::Length(1, MAX_REASON)));
    }
    let task = app.fleet.abandon_task(&who, task_id(&path)?, reason).await?;
    Ok(Data(show(&app, &task).await?))
}

/// A subtask's log, all attempts; may be asked for while it runs.
pub async fn log(State(app): AppState, path: PathIds) -> ApiResult<Data<SubtaskLog>> {
    let log = app.fleet.engine().log(task_id(&path)?, subtask_id(&path)?).await?;
    let log = masking::text(&log).into_owned();
    Ok(Data(SubtaskLog { log }))
}

/// Retries one failed subtask.
pub async fn retry_subtask(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<Data<SubtaskInstance>> {
    let (task, subtask) = (task_id(&path)?, subtask_id(&path)?);
    let task = app.fleet.engine().retry_subtask(task, subtask, &who.name).await?;
    let subtask = task
        .subtask(subtask)
        .ok_or_else(|| ApiError::internal("the subtask is not in its task"))?;
    Ok(Data(task_view::in_wrapped(&task, subtask)))
}

/// Goes on as if a failed subtask had succeeded.
pub async fn skip_subtask(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<NoData> {
    let (task, subtask) = (task_id(&path)?, subtask_id(&path)?);
    app.fleet.engine().skip(task, subtask, &who.name).await?;
    Ok(NoData)
}

/// Stops a running subtask; it ends FAILED.
pub async fn cancel_subtask(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<NoData> {
    let (task, subtask) = (task_id(&path)?, subtask_id(&path)?);
    app.fleet.engine().cancel_subtask(task, subtask, &who.name).await?;
    Ok(NoData)
}
