//! Looks at the servers of an OceanBase cluster by SQL, from here: which answer, which let an account in, and what they say
//! of the cluster.
//!
//! Not every server knows all of it: what one does not know is left out, and no failure.

use std::{error::Error, iter, net::IpAddr, time::Duration};

use futures::future::join_all;
use obfleet_mysqlwire::{Client, ClientError, QueryResult};
use obfleet_wire::ob::{Account, ObClusterFacts, ObServer, ProbedServer, RootServer};
use tokio::time::{Instant, timeout_at};

/// Longest that one server is waited for. All are asked at the same time.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a cluster lists its servers: newer releases, then older ones, and those without the view.
const SERVER_LISTS: [&str; 2] = [
    "SELECT * FROM oceanbase.DBA_OB_SERVERS",
    "SELECT * FROM oceanbase.__all_server",
];

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Each server, in the order given.
    pub servers: Vec<ProbedServer>,
    /// What the first that knows says of the cluster.
    pub cluster: Option<ObClusterFacts>,
}

/// Probes servers, with an account if there is one.
pub async fn probe(servers: &[RootServer], account: Option<&Account>) -> Found {
    let probed = join_all(servers.iter().map(|server| probe_one(*server, account))).await;
    let (servers, facts): (Vec<_>, Vec<_>) = probed.into_iter().unzip();
    Found {
        servers,
        cluster: facts.into_iter().flatten().next(),
    }
}

async fn probe_one(server: RootServer, account: Option<&Account>) -> (ProbedServer, Option<ObClusterFacts>) {
    let mut probed = ProbedServer {
        error: None,
        ip: server.ip,
        latency_ms: None,
        logged_in: false,
        reachable: false,
        sql_port: server.sql_port,
        version: None,
    };
    let begun = Instant::now();
    let deadline = begun + PATIENCE;
    let took = || u64::try_from(begun.elapsed().as_millis()).ok();
    let Some(account) = account else {
        match Client::greet(server.sql_address(), deadline).await {
            Ok(greeting) => {
                (probed.reachable, probed.latency_ms) = (true, took());
                probed.version = Some(greeting.server_version);
            }
            Err(error) => failed(&mut probed, &error),
        }
        return (probed, None);
    };
    match Client::connect(server.sql_address(), &account.user, &account.password, deadline).await {
        Ok(mut client) => {
            (probed.reachable, probed.logged_in, probed.latency_ms) = (true, true, took());
            let version = ask(&mut client, "SELECT version() AS version", deadline).await;
            let version = version.and_then(|answer| answer.text(0, "version"));
            probed.version = version.or_else(|| Some(client.greeting().server_version.clone()));
            let facts = facts(&mut client, deadline).await;
            drop(timeout_at(deadline, client.close()).await);
            (probed, facts)
        }
        Err(error) => {
            failed(&mut probed, &error);
            (probed, None)
        }
    }
}

fn failed(probed: &mut ProbedServer, error: &ClientError) {
    probed.reachable = matches!(
        error,
        ClientError::LoginRefused(_) | ClientError::LoginTimedOut | ClientError::Lost(_) | ClientError::Refusal(_)
    );
    let causes = iter::successors(Some(error as &dyn Error), |error| (*error).source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    probed.error = Some(causes.join(": "));
}

async fn ask(client: &mut Client, sql: &str, deadline: Instant) -> Option<QueryResult> {
    timeout_at(deadline, client.query(sql)).await.ok()?.ok()
}

/// What the server says of its cluster; `None` of one that knows of none.
async fn facts(client: &mut Client, deadline: Instant) -> Option<ObClusterFacts> {
    let mut parameters = Vec::new();
    for name in ["cluster", "cluster_id", "rootservice_list"] {
        let answer = ask(client, &format!("SHOW PARAMETERS LIKE '{name}'"), deadline).await;
        parameters.push(answer.and_then(|answer| answer.text(0, "value")));
    }
    let mut servers = Vec::new();
    for list in SERVER_LISTS {
        if servers.is_empty() {
            let answer = ask(client, list, deadline).await;
            servers = answer.as_ref().map(listed).unwrap_or_default();
        }
    }
    let [name, id, root_servers] = parameters.try_into().ok()?;
    let facts = ObClusterFacts {
        name: name.filter(|name| !name.is_empty()),
        ob_cluster_id: id.and_then(|id| id.parse().ok()),
        root_servers: root_servers_of(root_servers.as_deref(), &servers),
        servers,
    };
    (facts != ObClusterFacts::default()).then_some(facts)
}

/// The list the cluster keeps itself, else all servers that are at work.
fn root_servers_of(list: Option<&str>, servers: &[ObServer]) -> Vec<RootServer> {
    let list = list.unwrap_or_default().split(';');
    let kept: Vec<_> = list.filter_map(|server| server.trim().parse().ok()).collect();
    if !kept.is_empty() {
        return kept;
    }
    let is_active = |server: &&ObServer| {
        server
            .status
            .as_deref()
            .is_none_or(|status| status.eq_ignore_ascii_case("active"))
    };
    let active = servers.iter().filter(is_active);
    active
        .map(|server| RootServer {
            ip: server.ip,
            rpc_port: server.rpc_port,
            sql_port: server.sql_port,
        })
        .collect()
}

/// The rows of either list.
fn listed(answer: &QueryResult) -> Vec<ObServer> {
    let server = |row| {
        let text = |column| answer.text(row, column);
        let port = |column| text(column)?.parse::<u16>().ok();
        let ip: IpAddr = text("svr_ip")?.parse().ok()?;
        Some(ObServer {
            ip,
            rpc_port: port("svr_port")?,
            sql_port: port("sql_port").or_else(|| port("inner_port"))?,
            status: text("status"),
            with_root_server: matches!(text("with_rootserver").as_deref(), Some("YES" | "1")),
            zone: text("zone").unwrap_or_default(),
        })
    };
    (0..answer.rows.len()).filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use obfleet_mysqlwire::{Column, Row};

    use super::*;

    fn answer(columns: &[&str], rows: &[&[&str]]) -> QueryResult {
        QueryResult {
            columns: columns.iter().map(|name| Column::text(name)).collect(),
            rows: rows
                .iter()
                .map(|row| row.iter().map(|value| Some(value.as_bytes().to_vec())).collect::<Row>())
                .collect(),
            ..QueryResult::default()
        }
    }

    #[test]
    fn servers_are_read_from_the_newer_and_the_older_list() {
        let newer = answer(
            &[
                "SVR_IP",
                "SVR_PORT",
                "ID",
                "ZONE",
                "SQL_PORT",
                "WITH_ROOTSERVER",
                "STATUS",
            ],
            &[
                &["10.0.0.1", "2882", "1", "z1", "2881", "YES", "ACTIVE"],
                &["10.0.0.2", "2882", "2", "z2", "2881", "NO", "INACTIVE"],
            ],
        );
        let servers = listed(&newer);
        assert_eq!(
            (servers.len(), servers[0].with_root_server, servers[1].with_root_server),
            (2, true, false)
        );
        let told: Vec<_> = root_servers_of(None, &servers)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, ["10.0.0.1:2881"], "one that is not at work is no root server");

        let older = answer(
            &["svr_ip", "svr_port", "zone", "inner_port", "with_rootserver", "status"],
            &[
                &["10.0.0.3", "3882", "z1", "3881", "1", "active"],
                &["?", "3882", "z1", "3881", "0", "active"],
            ],
        );
        let servers = listed(&older);
        assert_eq!(
            (servers.len(), servers[0].sql_port, servers[0].with_root_server),
            (1, 3881, true)
        );
    }

    #[test]
    fn the_list_a_cluster_keeps_counts_for_more_than_its_servers() {
        let kept = root_servers_of(Some("10.0.0.1:2882:2881;10.0.0.2:2882:2881"), &[]);
        assert_eq!(kept.len(), 2);
        assert!(root_servers_of(Some(""), &[]).is_empty());
    }
}
