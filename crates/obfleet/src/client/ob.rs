//! `obfleet link …` and `ob-cluster …`

use anyhow::{Context as _, bail};
use obfleet_client::{Client, sign};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    all,
    fleet::{CLUSTERS, cells, id_of, newest, rows, started},
    secret,
    show::{Shown, text},
    tasks,
};
use crate::cli::{
    client::Output,
    fleet::Follow,
    ob::{Kind, Known, LinkOrder, ObClusterOrder},
};

const OB_CLUSTERS: &str = "/api/v2/ob/clusters";

/// Runs a command about links.
pub async fn link(client: &Client, order: LinkOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        LinkOrder::List { cluster } => {
            let path = format!("{CLUSTERS}/{}", id_of(client, &cluster).await?);
            let links = client.call(Method::GET, &path, &[], None).await?["obLinks"].take();
            let members = [
                "clusterName",
                "obClusterId",
                "clusterType",
                "username",
                "status",
                "connections",
            ];
            let titles = ["OB CLUSTER", "CLUSTER_ID", "TYPE", "USER", "STATUS", "CONNECTIONS"];
            let rows = rows(&links, |link| cells(link, &members));
            Ok(Shown::table(links, &titles, rows))
        }
        LinkOrder::Add {
            cluster,
            ob_cluster,
            ob_cluster_id,
            servers,
            follow,
        } => {
            let mut link =
                json!({"clusterName": ob_cluster, "username": "proxyro", "rootServers": servers.root_server});
            if let Some(id) = ob_cluster_id {
                link["obClusterId"] = json!(id);
            }
            let cluster = id_of(client, &cluster).await?;
            let path = format!("{CLUSTERS}/{cluster}/obLinks/batchAdd");
            let body = json!({"obLinks": [link]});
            client.call(Method::POST, &path, &[], Some(&body)).await?;
            followed(client, cluster, &follow, output).await
        }
        LinkOrder::Remove {
            cluster,
            ob_cluster,
            follow,
        } => {
            let cluster = id_of(client, &cluster).await?;
            let path = format!("{CLUSTERS}/{cluster}/obLinks/{}", sign::encoded(&ob_cluster));
            client.call(Method::DELETE, &path, &[], None).await?;
            followed(client, cluster, &follow, output).await
        }
    }
}

/// What is shown of a task whose id the answer does not tell.
async fn followed(client: &Client, cluster: i64, follow: &Follow, output: Output) -> anyhow::Result<Shown> {
    let task = newest(client, cluster).await?;
    started(client, task, follow, output).await
}

/// Runs a command about OceanBase clusters.
pub async fn cluster(client: &Client, order: ObClusterOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        ObClusterOrder::List => {
            let clusters = all(client, OB_CLUSTERS, &[]).await?;
            let row = |cluster: &Value| {
                let mut row = cells(cluster, &["id", "name", "obClusterId", "type"]);
                let servers = cluster["rootServers"].as_array().into_iter().flatten();
                row.push(servers.map(address).collect::<Vec<_>>().join(", "));
                let served = cluster["obproxyClusters"].as_array().into_iter().flatten();
                row.push(served.map(|by| text(&by["name"])).collect::<Vec<_>>().join(", "));
                row
            };
            let titles = ["ID", "NAME", "CLUSTER_ID", "TYPE", "ROOT SERVERS", "SERVED BY"];
            let rows = rows(&clusters, row);
            Ok(Shown::table(clusters, &titles, rows))
        }
        ObClusterOrder::Show { cluster } => {
            let cluster = client
                .call(Method::GET, &path(client, &cluster).await?, &[], None)
                .await?;
            let rows = rows(&cluster["obproxyClusters"], |by| cells(by, &["id", "name", "status"]));
            let titles = ["PROXY CLUSTER", "NAME", "LINK"];
            Ok(Shown::table(cluster, &titles, rows))
        }
        ObClusterOrder::Add { name, servers, known } => {
            let mut body = told(&known)?;
            body.insert("name".to_owned(), json!(name));
            body.insert("rootServers".to_owned(), read(&servers.root_server)?);
            let made = client.call(Method::POST, OB_CLUSTERS, &[], Some(&body.into())).await?;
            let text = format!("OceanBase cluster {} has id {}", text(&made["name"]), made["id"]);
            Ok(Shown::text_of(made, text))
        }
        ObClusterOrder::Change {
            cluster,
            servers,
            known,
            follow,
        } => {
            let mut body = told(&known)?;
            if !servers.root_server.is_empty() {
                body.insert("rootServers".to_owned(), read(&servers.root_server)?);
            }
            let path = path(client, &cluster).await?;
            let changed = client.call(Method::PATCH, &path, &[], Some(&body.into())).await?;
            let mut text = "it is changed".to_owned();
            if let Some(names) = changed["restartNeeded"].as_array().filter(|names| !names.is_empty()) {
                let names: Vec<String> = names.iter().map(super::show::text).collect();
                text += &format!("; proxies of {} use it once they are restarted", names.join(", "));
            }
            match changed["taskId"].as_i64() {
                Some(task) if follow.watch => tasks::watch(client, task, output).await,
                Some(task) => {
                    text += &format!("; `obfleet task watch {task}` follows how the proxies are told");
                    Ok(Shown::text_of(changed, text))
                }
                None => Ok(Shown::text_of(changed, text)),
            }
        }
        ObClusterOrder::Probe { cluster, refresh } => {
            let path = format!("{}/probe", path(client, &cluster).await?);
            let body = json!({"refreshRootServers": refresh});
            let probe = client.call(Method::POST, &path, &[], Some(&body)).await?;
            let row = |server: &Value| {
                let mut row = vec![address(server)];
                row.extend(cells(
                    server,
                    &["reachable", "loggedIn", "version", "latencyMs", "error"],
                ));
                row
            };
            let titles = ["ROOT SERVER", "ANSWERS", "LETS IN", "VERSION", "MS", "ERROR"];
            let rows = rows(&probe["servers"], row);
            Ok(Shown::table(probe, &titles, rows))
        }
        ObClusterOrder::Delete { cluster } => {
            client
                .call(Method::DELETE, &path(client, &cluster).await?, &[], None)
                .await?;
            Ok(Shown::done("the OceanBase cluster is forgotten"))
        }
    }
}

/// What was given of a cluster.
fn told(known: &Known) -> anyhow::Result<Map<String, Value>> {
    let mut body = Map::new();
    if let Some(id) = known.ob_cluster_id {
        body.insert("obClusterId".to_owned(), json!(id));
    }
    if let Some(kind) = known.kind {
        let word = match kind {
            Kind::Primary => "PRIMARY",
            Kind::Standby => "STANDBY",
        };
        body.insert("type".to_owned(), json!(word));
    }
    if let Some(file) = &known.proxyro_password {
        body.insert("proxyroPassword".to_owned(), json!(secret(file)?));
    }
    if let (Some(user), Some(file)) = (&known.account, &known.account_password) {
        body.insert("account".to_owned(), json!({"user": user, "password": secret(file)?}));
    }
    Ok(body)
}

/// Root servers as the server takes them.
fn read(texts: &[String]) -> anyhow::Result<Value> {
    if texts.is_empty() {
        bail!("no root server is given; give --root-server IP:PORT, several times for several");
    }
    let server = |text: &String| {
        let wrong = || format!("'{text}' is no root server; write it as ip:sqlport or ip:rpcport:sqlport");
        let (rest, sql) = text.rsplit_once(':').with_context(wrong)?;
        let sql: u16 = sql.parse().ok().with_context(wrong)?;
        // The address of IPv6 has colons of its own.
        let between = rest
            .rsplit_once(':')
            .filter(|(ip, _)| !ip.ends_with(':') && (!ip.contains(':') || ip.ends_with(']')));
        let (ip, rpc) = match between.and_then(|(ip, port)| Some((ip, port.parse::<u16>().ok()?))) {
            Some((ip, port)) => (ip, Some(port)),
            None => (rest, None),
        };
        let mut server = json!({"ip": ip.trim_matches(['[', ']']), "sqlPort": sql});
        if let Some(port) = rpc {
            server["rpcPort"] = json!(port);
        }
        anyhow::Ok(server)
    };
    texts.iter().map(server).collect()
}

fn address(server: &Value) -> String {
    format!("{}:{}", text(&server["ip"]), text(&server["sqlPort"]))
}

/// The path of the cluster that is called so.
async fn path(client: &Client, cluster: &str) -> anyhow::Result<String> {
    if let Ok(id) = cluster.parse::<i64>() {
        return Ok(format!("{OB_CLUSTERS}/{id}"));
    }
    let clusters = all(client, OB_CLUSTERS, &[]).await?;
    let named: Vec<i64> = clusters
        .as_array()
        .into_iter()
        .flatten()
        .filter(|known| known["name"] == cluster)
        .filter_map(|known| known["id"].as_i64())
        .collect();
    match named.as_slice() {
        [id] => Ok(format!("{OB_CLUSTERS}/{id}")),
        [] => bail!("there is no OceanBase cluster {cluster}; `obfleet ob-cluster list` shows all"),
        _ => {
            bail!("several OceanBase clusters are called {cluster}; name one by its id, see `obfleet ob-cluster list`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_servers_are_written_as_elsewhere() {
        let of = |text: &str| read(&[text.to_owned()]).map(|servers| servers[0].clone()).ok();
        assert_eq!(of("10.0.0.1:2881"), Some(json!({"ip": "10.0.0.1", "sqlPort": 2881})));
        let both = json!({"ip": "10.0.0.1", "rpcPort": 2882, "sqlPort": 2881});
        assert_eq!(of("10.0.0.1:2882:2881"), Some(both));
        assert_eq!(of("[fe80::1]:2881"), Some(json!({"ip": "fe80::1", "sqlPort": 2881})));
        let both = json!({"ip": "fe80::1", "rpcPort": 2882, "sqlPort": 2881});
        assert_eq!(of("[fe80::1]:2882:2881"), Some(both));
        assert_eq!(of("10.0.0.1"), None);
        assert_eq!(of("10.0.0.1:x"), None);
        assert!(read(&[]).is_err());
    }
}
