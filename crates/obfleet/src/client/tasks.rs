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
        let end = if task["operation"] == "ROLLBACK" {
            "ROLLED BACK"
        } else {
            &status
        };
        let outcome = format!("task {id}: {name} {end}");
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
fn tell(task: &Value, told: &mut BTreeMap<i64, (&'static str, i64)>) {
    for line in news(task, told) {
        println!("{line}");
    }
}

fn news(task: &Value, told: &mut BTreeMap<i64, (&'static str, i64)>) -> Vec<String> {
    let steps = task["subtasks"].as_array().map_or(&[][..], Vec::as_slice);
    let mut steps: Vec<&Value> = steps.iter().filter(|step| !is_barrier(step)).collect();
    if task["operation"] == "ROLLBACK" {
        steps.reverse();
    }
    let mut lines = Vec::new();
    for step in steps {
        let Some(word) = word(step, task["status"] == "RUNNING") else {
            continue;
        };
        let now = (word, step["runTime"].as_i64().unwrap_or_default());
        let before = told.insert(step["id"].as_i64().unwrap_or_default(), now);
        if before == Some(now) {
            continue;
        }
        lines.push(format!("{word:<11} {}", title(step)));
        if let Some(reason) = step["failure"]["message"].as_str().filter(|_| word == "FAILED") {
            lines.push(format!("            {reason}"));
        }
    }
    lines
}

/// What is told of a step; nothing while it waits. In a rollback a step stands as it ended until it is undone, and is
/// PENDING then, as before it began.
fn word(step: &Value, task_runs: bool) -> Option<&'static str> {
    let status = step["status"].as_str()?;
    match (
        matches!(step["operation"].as_str(), Some("ROLLBACK" | "ROLLBACK_SKIP")),
        status,
    ) {
        (true, "PENDING") => Some("UNDONE"),
        (true, "RUNNING") => Some("UNDOING"),
        // Until its turn comes, one that had failed still says so.
        (true, "FAILED") if task_runs => None,
        (true, "SUCCESSFUL" | "READY") | (false, "PENDING" | "READY") => None,
        (_, "FAILED") => Some("FAILED"),
        (_, "CANCELING") => Some("CANCELING"),
        (false, "RUNNING") => Some("RUNNING"),
        (false, "SUCCESSFUL") => Some("SUCCESSFUL"),
        _ => None,
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
        let undone = word(step, true) == Some("UNDONE");
        row.push(if undone {
            "UNDONE".to_owned()
        } else {
            text(&step["status"])
        });
        row.extend(["operation", "runTime"].map(|name| text(&step[name])));
        row.push(text(&step["failure"]["message"]));
        row
    };
    let rows = subtasks.filter(|step| !is_barrier(step)).map(row).collect();
    let titles = ["ID", "STEP", "STATUS", "OPERATION", "RUNS", "FAILURE"];
    Shown::table(task, &titles, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(
        task: &str,
        operation: &str,
        steps: [(&str, &str); 2],
        told: &mut BTreeMap<i64, (&'static str, i64)>,
    ) -> Vec<String> {
        let steps = steps.iter().zip(["Prepare", "Restart"]).zip(1..);
        let steps: Vec<Value> = steps
            .map(|(((status, operation), name), id)| {
                json!({"id": id, "name": name, "status": status, "operation": operation, "runTime": 1, "timeout": 60,
                       "obproxyId": 7, "failure": {"message": "no good"}})
            })
            .collect();
        news(
            &json!({"status": task, "operation": operation, "subtasks": steps}),
            told,
        )
    }

    #[test]
    fn what_is_told_of_a_rollback_is_what_was_undone() {
        let mut told = BTreeMap::new();
        let went = [("SUCCESSFUL", "EXECUTE"), ("FAILED", "EXECUTE")];
        let lines = [
            "SUCCESSFUL  Prepare [proxy 7]",
            "FAILED      Restart [proxy 7]",
            "            no good",
        ];
        assert_eq!(look("RUNNING", "EXECUTE", went, &mut told), lines);
        assert!(look("FAILED", "EXECUTE", went, &mut told).is_empty(), "told once");
        let begun = [("SUCCESSFUL", "ROLLBACK"), ("FAILED", "ROLLBACK")];
        assert!(
            look("RUNNING", "ROLLBACK", begun, &mut told).is_empty(),
            "nothing is undone yet"
        );
        let half = [("SUCCESSFUL", "ROLLBACK"), ("RUNNING", "ROLLBACK")];
        assert_eq!(
            look("RUNNING", "ROLLBACK", half, &mut told),
            ["UNDOING     Restart [proxy 7]"]
        );
        let over = [("PENDING", "ROLLBACK"), ("PENDING", "ROLLBACK")];
        let lines = ["UNDONE      Restart [proxy 7]", "UNDONE      Prepare [proxy 7]"];
        assert_eq!(
            look("SUCCESSFUL", "ROLLBACK", over, &mut told),
            lines,
            "the last is undone first"
        );
        let stuck = [("SUCCESSFUL", "ROLLBACK"), ("FAILED", "ROLLBACK")];
        assert_eq!(
            look("FAILED", "ROLLBACK", stuck, &mut told)[0],
            "FAILED      Restart [proxy 7]"
        );
    }
}
