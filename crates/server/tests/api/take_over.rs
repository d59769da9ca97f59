//! Proxies that somebody else installed: what is told of them.

use obfleet_wire::agent::{CronEntry, FoundProcess, FoundProxy, FoundWatchdog, PackageLayout, StartMethod};
use serde_json::json;

use crate::{contract::assert_shape, fake_agent::FakeAgent, support::Api};

/// One that OceanBase Deployer started.
pub fn of_obd() -> FoundProxy {
    FoundProxy {
        cron_entries: vec![CronEntry {
            file: "/var/spool/cron/crontabs/admin".into(),
            line: 3,
        }],
        exporter_port: Some(2884),
        home: Some("/home/admin/obproxy".into()),
        managed: false,
        ob_cluster: Some("ob".into()),
        obproxy_server_id: None,
        package_layout: PackageLayout::Plain,
        processes: vec![FoundProcess {
            argv0: "/home/admin/obproxy/bin/obproxy".into(),
            container: false,
            executable: Some("/home/admin/obproxy/bin/obproxy".into()),
            executable_replaced: false,
            listening: vec!["0.0.0.0:2883".parse().unwrap()],
            parent_pid: 1,
            pid: 4711,
            root: None,
        }],
        restarting: false,
        rpc_port: None,
        sql_port: Some(2883),
        start_method: StartMethod::Obd,
        user: "admin".into(),
        version: Some("4.2.1.0-11".parse().unwrap()),
        watchdogs: vec![FoundWatchdog::Obd {
            pid: 4712,
            script: "/home/admin/obproxy/obproxyd.sh".into(),
        }],
    }
}

#[tokio::test]
async fn what_runs_on_a_host_is_told() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let path = format!("/api/v2/compute/hosts/{}/obproxies", agent.host_id);
    assert_eq!(api.get(&path).await.data()["contents"], json!([]));
    agent.finds(vec![of_obd()]);
    let told = assert_shape(&api.get(&path).await, "found-proxies");
    let one = &told["contents"][0];
    assert_eq!((&one["startMethod"], &one["managed"]), (&json!("OBD"), &json!(false)));
    assert_eq!(one["watchdogs"][0]["kind"], "OBD");

    let nobody = api.get("/api/v2/compute/hosts/777/obproxies").await.refusal();
    assert_eq!(nobody, (404, "CMP07005".into(), "hostId".into()));
    drop(agent);
    let reply = api.get(&path).await;
    assert_eq!(reply.status, 502, "{}", reply.text);
    assert!(reply.text.contains("does not answer"), "{}", reply.text);
}
