//! `obfleet task …`

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::bail;
use obfleet_client::{Client, ClientError};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::show::{Shown, text};
use crate::cli::{
    client::Output,
    fleet::{Decided, Follow, TaskOrder},
};

pub const TASKS: &str = "/api/v2/tasks/instances";
/// Tasks of a list.
const MOST: &str = "50";
/// Between two looks at a task.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a server may be away while one of its tasks is watched: it may be restarted, or another take its place.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command about tasks.
pub async fn run(client: &Client, order: TaskOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        TaskOrder::List { status } => {
            let mut parameters = vec![("page", "1"), ("size", MOST)];
            parameters.extend(status.as_deref().map(|status| ("status", status)));
            let tasks = client.call(Method::GET, TASKS, &parameters, None).await?;
            let tasks = tasks["contents"].clone();
            let row = |task: &Value| {
                let mut row: Vec<String> = ["id", "name", "status", "operation"]
                    .map(|name| text(&task[name]))
                    .to_vec();
                row.extend([text(&task["creator"]["name"]), text(&task["startTime"])]);
                row
            };
            let rows = tasks.as_array().into_iter().flatten().map(row).collect();
            let titles = ["ID", "TASK", "STATUS", "OPERATION", "BY", "STARTED"];
            Ok(Shown::table(tasks, &titles, rows))
        }
        TaskOrder::Show { id } => Ok(steps(task(client, id).await?)),
        TaskOrder::Watch { id } => watch(client, id, output).await,
        TaskOrder::Log { id, step } => {
            let path = format!("{TASKS}/{id}/subtasks/{step}/log");
            let log = client.call(Method::GET, &path, &[], None).await?;
            let lines = log["log"].as_str().unwrap_or_default().to_owned();
            Ok(Shown::text_of(log, lines))
        }
        TaskOrder::Retry(decided) => decide(client, decided, "retry", output).await,
        TaskOrder::Rollback(decided) => decide(client, decided, "rollback", output).await,
        TaskOrder::Cancel(decided) => decide(client, decided, "cancel", output).await,
        TaskOrder::Pause(decided) => decide(client, decided, "pause", output).await,
        TaskOrder::Resume(decided) => decide(client, decided, "resume", output).await,
        TaskOrder::Abandon { id, reason } => {
            let body = json!({"reason": reason});
            let path = format!("{TASKS}/{id}/abandon");
            client.call(Method::POST, &path, &[], Some(&body)).await?;
            Ok(Shown::done("the task is given up"))
        }
    }
}

async fn decide(client: &Client, decided: Decided, what: &str, output: Output) -> anyhow::Result<Shown> {
    let id = decided.id;
    client
        .call(Method::POST, &format!("{TASKS}/{id}/{what}"), &[], None)
        .await?;
    match decided.follow.watch {
        true => watch(client, id, output).await,
        false => Ok(Shown::done("it is under way; `obfleet task show` tells how far it is")),
    }
}

async fn task(client: &Client, id: i64) -> Result<Value, ClientError> {
    client.call(Method::GET, &format!("{TASKS}/{id}"), &[], None).await
}

/// Follows a task to its end; fails unless it succeeds. For people each step is told as it goes.
pub async fn watch(client: &Client, id: i64, output: Output) -> anyhow::Result<Shown> {
    let mut told = BTreeMap::new();
    let mut answered = Instant::now();
    let task = loop {
        match task(client, id).await {
            Ok(task) => {
                answered = Instant::now();
                if output == Output::Table {
                    tell(&task, &mut told);
                }
                if task["status"] != "RUNNING" {
                    break task;
                }
            }
            Err(error @ ClientError::Unreachable { .. }) if answered.elapsed() > PATIENCE => return Err(error.into()),
            Err(ClientError::Unreachable { .. } | ClientError::Refused { status: 503, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(PERIOD).await;
    };
    let (name, status) = (text(&task["name"]), text(&task["status"]));
    if task["status"] == "SUCCESSFUL" {
        let outcome = format!("task {id}: {name} {status}");
        return Ok(Shown::text_of(task, outcome));
    }
    if output != Output::Table {
        println!("{}", steps(task).text(output));
    }
    bail!("task {id}: {name} {status}; `obfleet task show {id}` tells why, then retry it or roll it back")
}

/// What is shown of several tasks that were started.
pub async fn several(client: &Client, tasks: Value, follow: &Follow, output: Output) -> anyhow::Result<Shown> {
    let ids: Vec<i64> = tasks
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|task| task["id"].as_i64())
        .collect();
    if !follow.watch {
        let row = |task: &Value| ["id", "name", "status"].map(|member| text(&task[member])).to_vec();
        let rows = tasks.as_array().into_iter().flatten().map(row).collect();
        return Ok(Shown::table(tasks, &["TASK", "NAME", "STATUS"], rows));
    }
    let mut ended = Vec::new();
    for id in ids {
        ended.push(watch(client, id, output).await?);
    }
    Ok(Shown::all(ended))
}

/// What has become of each step since the last look.
fn tell(task: &Value, told: &mut BTreeMap<i64, (String, i64)>) {
    for step in task["subtasks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|step| !is_barrier(step))
    {
        let now = (text(&step["status"]), step["runTime"].as_i64().unwrap_or_default());
        let id = step["id"].as_i64().unwrap_or_default();
        let is_news = told.get(&id) != Some(&now);
        if is_news && now.0 != "PENDING" && now.0 != "READY" {
            let operation = match step["operation"].as_str() {
                Some("ROLLBACK") => " (undone)",
                _ => "",
            };
            println!("{:<11} {}{operation}", now.0, title(step));
            if let Some(reason) = step["failure"]["message"].as_str().filter(|_| now.0 == "FAILED") {
                println!("            {reason}");
            }
        }
        told.insert(id, now);
    }
}

fn is_barrier(step: &Value) -> bool {
    step["timeout"] == 0 || matches!(step["name"].as_str(), Some("Start node" | "Wait node" | "Finish node"))
}

/// With the proxy it is about, or the number of its branch.
fn title(step: &Value) -> String {
    let name = text(&step["name"]);
    match (step["obproxyId"].as_i64(), step["parallelIdx"].as_i64()) {
        (Some(proxy), _) => format!("{name} [proxy {proxy}]"),
        (None, Some(branch)) if branch >= 0 => format!("{name} [{branch}]"),
        _ => name,
    }
}

fn steps(task: Value) -> Shown {
    let subtasks = task["subtasks"].as_array().into_iter().flatten();
    let row = |step: &Value| {
        let mut row = vec![text(&step["id"]), title(step)];
        row.extend(["status", "operation", "runTime"].map(|name| text(&step[name])));
        row.push(text(&step["failure"]["message"]));
        row
    };
    let rows = subtasks.filter(|step| !is_barrier(step)).map(row).collect();
    let titles = ["ID", "STEP", "STATUS", "OPERATION", "RUNS", "FAILURE"];
    Shown::table(task, &titles, rows)
}
