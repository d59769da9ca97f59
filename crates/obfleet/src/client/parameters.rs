//! `obfleet parameter …`

use obfleet_client::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    all,
    fleet::{self, CLUSTERS, cells, id_of, rows, started},
    show::{Shown, text},
};
use crate::cli::{
    client::Output,
    parameters::{Drifting, ParameterOrder},
};

/// Runs a command about parameters.
pub async fn run(client: &Client, order: ParameterOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        ParameterOrder::List { cluster, names } => list(client, &cluster, &names).await,
        ParameterOrder::Explain { name, of } => explain(client, &name, of.as_deref()).await,
        ParameterOrder::Set {
            cluster,
            values,
            proxy,
            follow,
        } => {
            let values: Vec<Value> = values
                .iter()
                .map(|setting| json!({"name": setting.name, "value": setting.value}))
                .collect();
            let mut body = json!({"parameters": values});
            if !proxy.is_empty() {
                body["obproxyServerIds"] = json!(proxy);
            }
            let path = path(client, &cluster, "").await?;
            let task = client.call(Method::PUT, &path, &[], Some(&body)).await?;
            started(client, task, &follow, output).await
        }
        ParameterOrder::History { cluster, name } => history(client, &cluster, name.as_deref()).await,
        ParameterOrder::Drift { cluster } => {
            let path = path(client, &cluster, "/drift").await?;
            let drift = client.call(Method::GET, &path, &[], None).await?["contents"].take();
            let members = [
                "obproxyId",
                "ip",
                "name",
                "expectedValue",
                "value",
                "source",
                "foundTime",
            ];
            let titles = ["PROXY", "IP", "PARAMETER", "SHOULD BE", "IS", "SET FOR", "FOUND"];
            let rows = rows(&drift, |row| cells(row, &members));
            Ok(Shown::table(drift, &titles, rows))
        }
        ParameterOrder::Repair { drifting } => decide(client, drifting, "repair", output).await,
        ParameterOrder::Accept { drifting } => decide(client, drifting, "accept", output).await,
        ParameterOrder::Refresh { chosen } => fleet::in_path(client, chosen, "/refreshParameters", output).await,
    }
}

async fn list(client: &Client, cluster: &str, names: &[String]) -> anyhow::Result<Shown> {
    let path = path(client, cluster, "").await?;
    let mut list = client.call(Method::GET, &path, &[], None).await?["contents"].take();
    if let Some(list) = list.as_array_mut().filter(|_| !names.is_empty()) {
        list.retain(|parameter| names.iter().any(|name| parameter["name"] == *name));
    }
    let row = |parameter: &Value| {
        let values = parameter["values"].as_array().map_or(&[][..], Vec::as_slice);
        // One value is the rule; where there are several, it is told who has which.
        let shown = match values {
            [] => text(&parameter["valueString"]),
            [one] => text(&one["value"]),
            several => several.iter().map(held).collect::<Vec<_>>().join("; "),
        };
        let waiting = parameter["pendingRestart"].as_array().into_iter().flatten();
        let waiting: Vec<String> = waiting.map(|wait| text(&wait["obproxyId"])).collect();
        let drifts = if parameter["drift"] == true { "yes" } else { "" };
        let mut row = vec![text(&parameter["name"]), shown, text(&parameter["desiredValue"])];
        row.extend([waiting.join(","), drifts.to_owned()]);
        row
    };
    let titles = ["PARAMETER", "VALUE", "THE CLUSTER'S", "WAIT FOR RESTART", "DRIFTS"];
    let rows = rows(&list, row);
    Ok(Shown::table(list, &titles, rows))
}

/// A value and the proxies that have it.
fn held(value: &Value) -> String {
    let ids = value["obproxyIds"].as_array().into_iter().flatten();
    let ids: Vec<String> = ids.map(text).collect();
    format!("{} ({})", text(&value["value"]), ids.join(","))
}

async fn explain(client: &Client, name: &str, version: Option<&str>) -> anyhow::Result<Shown> {
    let mut query = vec![("name", name)];
    query.extend(version.map(|version| ("version", version)));
    let path = "/api/v2/obproxy/parameterInfo";
    let found = client.call(Method::GET, path, &query, None).await?["contents"].take();
    let members = [
        "version",
        "type",
        "allowedStringValues",
        "defaultValue",
        "needRestart",
        "readonly",
        "description",
    ];
    let titles = [
        "VERSION",
        "TYPE",
        "TAKES",
        "DEFAULT",
        "NEEDS RESTART",
        "READ-ONLY",
        "DESCRIPTION",
    ];
    let rows = rows(&found, |one| cells(one, &members));
    Ok(Shown::table(found, &titles, rows))
}

async fn history(client: &Client, cluster: &str, name: Option<&str>) -> anyhow::Result<Shown> {
    let path = path(client, cluster, "/history").await?;
    let filter: Vec<(&str, &str)> = name.map(|name| ("name", name)).into_iter().collect();
    let history = all(client, &path, &filter).await?;
    let row = |change: &Value| {
        let mut row = cells(
            change,
            &["createTime", "operator", "kind", "name", "valueBefore", "valueAfter"],
        );
        let proxies = change["obproxies"].as_array().into_iter().flatten();
        let proxies: Vec<String> = proxies.map(|proxy| text(&proxy["obproxyId"])).collect();
        row.push(match change["wholeCluster"] == true {
            true => "all".to_owned(),
            false => proxies.join(","),
        });
        row.push(text(&change["taskId"]));
        row
    };
    let titles = ["WHEN", "BY", "HOW", "PARAMETER", "BEFORE", "AFTER", "PROXIES", "TASK"];
    let rows = rows(&history, row);
    Ok(Shown::table(history, &titles, rows))
}

async fn decide(client: &Client, drifting: Drifting, what: &str, output: Output) -> anyhow::Result<Shown> {
    let mut body = json!({});
    if !drifting.names.is_empty() {
        body["names"] = json!(drifting.names);
    }
    if !drifting.proxy.is_empty() {
        body["obproxyServerIds"] = json!(drifting.proxy);
    }
    let path = path(client, &drifting.cluster, &format!("/drift/{what}")).await?;
    let task = client.call(Method::POST, &path, &[], Some(&body)).await?;
    started(client, task, &drifting.follow, output).await
}

async fn path(client: &Client, cluster: &str, rest: &str) -> anyhow::Result<String> {
    let id = id_of(client, cluster).await?;
    Ok(format!("{CLUSTERS}/{id}/parameters{rest}"))
}
