//! `obfleet take-over …`

use obfleet_client::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    fleet::{CLUSTERS, HOSTS, cells, id_of, rows},
    secret,
    show::{Shown, text},
    tasks,
};
use crate::cli::{
    client::Output,
    take_over::{TakeOverOrder, Wanted},
};

/// Runs a command about taking proxies over.
pub async fn run(client: &Client, order: TakeOverOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        TakeOverOrder::Find { host } => {
            let path = format!("{HOSTS}/{host}/obproxies");
            let found = client.call(Method::GET, &path, &[], None).await?["contents"].take();
            let members = ["sqlPort", "version", "user", "startMethod", "home", "obproxyServerId"];
            let titles = ["PORT", "VERSION", "USER", "STARTED BY", "HOME", "OURS AS"];
            let rows = rows(&found, |proxy| cells(proxy, &members));
            Ok(Shown::table(found, &titles, rows))
        }
        TakeOverOrder::Check { wanted } => check(client, &wanted).await,
        TakeOverOrder::Start { wanted, follow } => {
            let path = format!("{CLUSTERS}/{}/takeOver", id_of(client, &wanted.cluster).await?);
            let tasks = client.call(Method::POST, &path, &[], Some(&body(&wanted)?)).await?["contents"].take();
            tasks::several(client, tasks, &follow, output).await
        }
    }
}

async fn check(client: &Client, wanted: &Wanted) -> anyhow::Result<Shown> {
    let path = format!("{CLUSTERS}/{}/takeOver/precheck", id_of(client, &wanted.cluster).await?);
    let found = client.call(Method::POST, &path, &[], Some(&body(wanted)?)).await?["contents"].take();
    let mut lines = Vec::new();
    for host in found.as_array().into_iter().flatten() {
        let place = format!("{}:{}", text(&host["hostId"]), text(&host["sqlPort"]));
        let mut line = |what: &str, said: String| lines.push(vec![place.clone(), what.to_owned(), said]);
        for obstacle in of(host, "obstacles") {
            line("in the way", text(&obstacle["message"]));
        }
        for warning in of(host, "warnings") {
            line("mind", text(&warning["message"]));
        }
        for parameter in of(host, "parameters") {
            let [name, before, after] = ["name", "proxyValue", "clusterValue"].map(|member| text(&parameter[member]));
            let when = if parameter["needRestart"] == true {
                ", from its next restart"
            } else {
                ""
            };
            line("changes", format!("{name}: {before} → {after}{when}"));
        }
        if of(host, "obstacles").next().is_none() {
            line(
                "free",
                format!("version {}, it can be taken over", text(&host["proxy"]["version"])),
            );
        }
    }
    Ok(Shown::table(found, &["PROXY", "", "WHAT"], lines))
}

fn of<'v>(value: &'v Value, member: &str) -> impl Iterator<Item = &'v Value> {
    value[member].as_array().into_iter().flatten()
}

fn body(wanted: &Wanted) -> anyhow::Result<Value> {
    let password = wanted.sys_password.as_deref().map(secret).transpose()?;
    let hosts: Vec<Value> = wanted
        .proxies
        .iter()
        .map(|place| {
            let mut host = json!({"hostId": place.host, "sqlPort": place.port});
            if let Some(password) = &password {
                host["proxysysPasswd"] = json!(password);
            }
            host
        })
        .collect();
    Ok(json!({"hosts": hosts}))
}
