//! `obfleet cluster …` and `proxy …`

use anyhow::Context as _;
use obfleet_client::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    all, secret,
    show::{Shown, text},
    tasks,
};
use crate::cli::{
    client::Output,
    fleet::{Chosen, ClusterOrder, Follow, ProxyOrder},
};

pub const CLUSTERS: &str = "/api/v2/obproxy/clusters";
pub const HOSTS: &str = "/api/v2/compute/hosts";

/// Runs a command about clusters.
pub async fn cluster(client: &Client, order: ClusterOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        ClusterOrder::List => {
            let clusters = all(client, CLUSTERS, &[]).await?;
            let row = |cluster: &Value| {
                let count = cluster["obproxies"].as_array().map_or(0, Vec::len);
                let versions = cluster["versions"].as_array().into_iter().flatten();
                let versions: Vec<String> = versions.map(|version| text(&version["version"])).collect();
                let mut row = cells(cluster, &["id", "name", "status"]);
                row.extend([count.to_string(), versions.join(", "), text(&cluster["workMode"])]);
                row
            };
            let titles = ["ID", "NAME", "STATUS", "PROXIES", "VERSIONS", "WORK MODE"];
            let rows = rows(&clusters, row);
            Ok(Shown::table(clusters, &titles, rows))
        }
        ClusterOrder::Show { cluster } => {
            let path = format!("{CLUSTERS}/{}", id_of(client, &cluster).await?);
            let cluster = client.call(Method::GET, &path, &[], None).await?;
            let row = |proxy: &Value| {
                let mut row = cells(proxy, &["id", "ip", "sqlPort", "version", "status", "operateStatus"]);
                row.push(text(&proxy["loadBalanceStatus"]));
                row
            };
            let titles = ["ID", "IP", "PORT", "VERSION", "STATUS", "OPERATION", "LOAD BALANCERS"];
            let rows = rows(&cluster["obproxies"], row);
            Ok(Shown::table(cluster, &titles, rows))
        }
        ClusterOrder::Delete { cluster, follow } => {
            let path = format!("{CLUSTERS}/{}", id_of(client, &cluster).await?);
            let task = client.call(Method::DELETE, &path, &[], None).await?;
            started(client, task, &follow, output).await
        }
    }
}

/// Runs a command about proxies.
pub async fn proxy(client: &Client, order: ProxyOrder, output: Output) -> anyhow::Result<Shown> {
    let (chosen, method, action, body) = match order {
        ProxyOrder::Upgrade { chosen, package } => {
            let body = package.map(|package| json!({"shortRpmName": package}));
            (chosen, Method::POST, "/upgrade", body)
        }
        ProxyOrder::Restart { chosen, forced: true } => {
            let path = format!("{CLUSTERS}/{}/servers/restart", id_of(client, &chosen.cluster).await?);
            let body = json!({"hotRestart": false, "obproxyServerIds": chosen.ids});
            return start(client, Method::POST, &path, Some(body), &chosen.follow, output).await;
        }
        ProxyOrder::Restart { chosen, forced: false } => (chosen, Method::POST, "/restart", None),
        ProxyOrder::Stop { chosen } => return in_body(client, chosen, "stop", output).await,
        ProxyOrder::Start { chosen } => return in_body(client, chosen, "start", output).await,
        ProxyOrder::Offline { chosen } => (chosen, Method::POST, "/offline", None),
        ProxyOrder::Online { chosen } => (chosen, Method::POST, "/online", None),
        ProxyOrder::Delete { chosen } => (chosen, Method::DELETE, "", None),
        ProxyOrder::MoveOut { chosen, sys_password } => {
            let password = sys_password.as_deref().map(secret).transpose()?;
            let body = password.map(|password| json!({"proxysysPasswd": password}));
            (chosen, Method::POST, "/moveOut", body)
        }
    };
    ordered(client, chosen, method, action, body, output).await
}

/// Without a body.
pub async fn in_path(client: &Client, chosen: Chosen, action: &str, output: Output) -> anyhow::Result<Shown> {
    ordered(client, chosen, Method::POST, action, None, output).await
}

/// By the routes that take the ids in the path.
async fn ordered(
    client: &Client,
    chosen: Chosen,
    method: Method,
    action: &str,
    body: Option<Value>,
    output: Output,
) -> anyhow::Result<Shown> {
    let cluster = id_of(client, &chosen.cluster).await?;
    let ids: Vec<String> = chosen.ids.iter().map(ToString::to_string).collect();
    let path = format!("{CLUSTERS}/{cluster}/obproxies/{}{action}", ids.join(","));
    let mut task = client.call(method, &path, &[], body.as_ref()).await?;
    if task.is_null() {
        // As in OCP: these routes do not tell their task.
        task = newest(client, cluster).await?;
    }
    started(client, task, &chosen.follow, output).await
}

/// The task that was started last in a cluster.
pub async fn newest(client: &Client, cluster: i64) -> anyhow::Result<Value> {
    let cluster = cluster.to_string();
    let query = [("clusterId", cluster.as_str()), ("page", "1"), ("size", "1")];
    let mut tasks = client.call(Method::GET, tasks::TASKS, &query, None).await?;
    Ok(tasks["contents"][0].take())
}

/// By the newer routes, which take the ids in the body.
async fn in_body(client: &Client, chosen: Chosen, action: &str, output: Output) -> anyhow::Result<Shown> {
    let path = format!("{CLUSTERS}/{}/servers/{action}", id_of(client, &chosen.cluster).await?);
    let body = json!({"obproxyServerIds": chosen.ids});
    start(client, Method::POST, &path, Some(body), &chosen.follow, output).await
}

async fn start(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
    follow: &Follow,
    output: Output,
) -> anyhow::Result<Shown> {
    let task = client.call(method, path, &[], body.as_ref()).await?;
    started(client, task, follow, output).await
}

/// What is shown of a task that was started.
pub async fn started(client: &Client, task: Value, follow: &Follow, output: Output) -> anyhow::Result<Shown> {
    let Some(id) = task["id"].as_i64() else {
        return Ok(Shown::done("the task is started; `obfleet task list` shows it"));
    };
    match follow.watch {
        true => tasks::watch(client, id, output).await,
        false => {
            let text = format!(
                "task {id}: {}; `obfleet task watch {id}` follows it",
                text(&task["name"])
            );
            Ok(Shown::text_of(task, text))
        }
    }
}

/// The id of the cluster that is called so.
pub async fn id_of(client: &Client, cluster: &str) -> anyhow::Result<i64> {
    if let Ok(id) = cluster.parse() {
        return Ok(id);
    }
    let clusters = all(client, CLUSTERS, &[]).await?;
    let mut clusters = clusters.as_array().into_iter().flatten();
    let found = clusters.find(|known| known["name"] == cluster);
    let id = found.and_then(|found| found["id"].as_i64());
    id.with_context(|| format!("there is no cluster {cluster}; `obfleet cluster list` shows all"))
}

/// A row for each entry of a list.
pub fn rows(of: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    of.as_array().into_iter().flatten().map(row).collect()
}

/// Some members of an object.
pub fn cells(of: &Value, members: &[&str]) -> Vec<String> {
    members.iter().map(|member| text(&of[*member])).collect()
}
