//! OceanBase clusters: `/api/v2/ob/clusters…`.

use axum::extract::State;
use obfleet_wire::{
    envelope::Paged,
    ob::{
        ObCluster, ObClusterFacts, ObClusterProbe, ProbeObCluster, ProbedServer, RegisterObCluster, RootServer,
        UpdateObCluster,
    },
};

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiResult, Data, Entry, Idempotency, Json, ListQuery, NoData, OptionalJson, PathIds},
    ob_probe,
    routes::Routes,
};

/// Below `/api/v2/ob`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/clusters", Right::ObproxyView.shared(), list)
        .post("/clusters", Right::ObproxyManage.whole(), register)
        .get("/clusters/{id}", Right::ObproxyView.shared(), detail)
        .patch("/clusters/{id}", Right::ObproxyManage.whole(), update)
        .delete("/clusters/{id}", Right::ObproxyManage.whole(), remove)
        .post("/clusters/{id}/probe", Right::ObproxyManage.whole(), probe)
}

/// Lists clusters by type and keyword (name or root server).
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<ObCluster>>>> {
    let mut known = app.fleet.ob_clusters().await?;
    known.retain(|known| {
        let servers: Vec<_> = known.root_servers.iter().map(ToString::to_string).collect();
        let mut searched = vec![known.name.as_str()];
        searched.extend(servers.iter().map(String::as_str));
        query.mentions("keyword", &searched) && query.admits("type", known.cluster_type.as_str())
    });
    Ok(Data(query.page(known)?))
}

/// Shows one.
pub async fn detail(State(app): AppState, path: PathIds) -> ApiResult<Data<ObCluster>> {
    Ok(Data(app.fleet.ob_cluster(path.id("id")?).await?))
}

/// Makes one known.
pub async fn register(
    State(app): AppState,
    Who(who, _): Who,
    Json(body): Json<RegisterObCluster>,
) -> ApiResult<Data<ObCluster>> {
    Ok(Data(app.fleet.register_ob_cluster(&who, &body).await?))
}

/// Changes one: a task where proxies are to hear of it.
pub async fn update(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<UpdateObCluster>,
) -> ApiResult<Data<ObCluster>> {
    let id = path.id("id")?;
    let once = key.of(&body, None)?;
    Ok(Data(app.fleet.update_ob_cluster(&who, id, &body, once.as_ref()).await?))
}

/// Forgets one that nobody serves.
pub async fn remove(State(app): AppState, path: PathIds) -> ApiResult<NoData> {
    app.fleet.delete_ob_cluster(path.id("id")?).await?;
    Ok(NoData)
}

/// Logs in to its root servers, and takes over the ones it names itself if the client wants that.
pub async fn probe(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    OptionalJson(body): OptionalJson<ProbeObCluster>,
) -> ApiResult<Data<ObClusterProbe>> {
    let id = path.id("id")?;
    let target = app.fleet.probe_target(id, body.account).await?;
    let found = ob_probe::probe(&target.root_servers, target.account.as_ref()).await;
    let mut probe = ObClusterProbe {
        cluster: found.cluster,
        servers: found.servers,
        refreshed: false,
        task_id: None,
    };
    let news = probe
        .cluster
        .as_ref()
        .and_then(|facts| news(facts, &probe.servers, &target.root_servers));
    if let Some(root_servers) = news.filter(|_| body.refresh_root_servers) {
        let change = UpdateObCluster {
            root_servers: Some(root_servers),
            ..UpdateObCluster::default()
        };
        let updated = app.fleet.update_ob_cluster(&who, id, &change, None).await?;
        (probe.refreshed, probe.task_id) = (true, updated.task_id);
    }
    Ok(Data(probe))
}

/// The root servers the cluster names, if they are others than those registered. A cluster behind a translation of addresses
/// names none that can be reached from here: one that let the account in has to be among them.
fn news(facts: &ObClusterFacts, probed: &[ProbedServer], registered: &[RootServer]) -> Option<Vec<RootServer>> {
    let mut named = facts.root_servers.clone();
    named.sort_unstable();
    let mut known = registered.to_vec();
    known.sort_unstable();
    let is_among = |server: &ProbedServer| {
        let same = |named: &RootServer| (named.ip, named.sql_port) == (server.ip, server.sql_port);
        server.logged_in && named.iter().any(same)
    };
    (probed.iter().any(is_among) && named != known).then(|| facts.root_servers.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_with_a_server_that_answered_is_news() {
        let servers =
            |text: &str| -> Vec<RootServer> { text.split(';').map(|server| server.parse().unwrap()).collect() };
        let registered = servers("10.0.0.1:2881;10.0.0.2:2881");
        let probed: Vec<_> = registered
            .iter()
            .enumerate()
            .map(|(index, server)| ProbedServer {
                error: None,
                ip: server.ip,
                latency_ms: None,
                logged_in: index == 0,
                reachable: true,
                sql_port: server.sql_port,
                version: None,
            })
            .collect();
        let told = |list: &str| {
            let facts = ObClusterFacts {
                root_servers: servers(list),
                ..ObClusterFacts::default()
            };
            news(&facts, &probed, &registered).is_some()
        };
        assert!(told("10.0.0.1:2882:2881;10.0.0.3:2882:2881"));
        assert!(
            !told("10.0.0.2:2882:2881;10.0.0.1:2882:2881"),
            "the same in another order"
        );
        assert!(!told("192.168.0.1:2882:2881"), "nobody there has answered");
        assert!(!told("10.0.0.2:2882:2881"), "it did not let the account in");
    }
}
