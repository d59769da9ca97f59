//! Proxies that were started the way each tool does it are taken over under traffic: nobody is cut off or refused, they go
//! on as they run, and a death is mended by the agent alone. Then they are upgraded, or given back.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{fs, path::Path, sync::Arc};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api,
    ledger::Ledger,
    packages::{NEW, OLD},
    process::signal,
    testbed::{CLIENT, PATIENCE, Testbed, until},
    traffic::Traffic,
};
use obfleet_obproxy::process::{self, ProcessId};
use obfleet_standin::{
    Faults, Trailer,
    foreign::{Foreign, Order, Tool},
    pack,
    ports::PortLease,
};
use serde_json::{Value, json};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const DRAIN_WINDOW_S: u64 = 5;
const PASSWORD: &str = "Foreign-s3cret1";
const TOOLS: [Tool; 4] = [Tool::Obd, Tool::Obshell, Tool::Package, Tool::Hand];
/// What they run, which nothing on the host has.
const VERSION: &str = "4.2.0.0-7";

/// A fleet without proxies, and proxies that are none of its.
struct Place {
    foreign: Vec<Foreign>,
    bed: Testbed,
    _ports: Vec<PortLease>,
}

impl Place {
    async fn with(tools: &[Tool]) -> Self {
        let bed = Testbed::start(Path::new(EXE), 1, DRAIN_WINDOW_S).await.unwrap();
        let (mut foreign, mut ports) = (Vec::new(), Vec::new());
        let root = bed.fleet.root().to_owned();
        let binary = root.join("packed");
        let trailer = Trailer {
            version: "4.2.0.0".into(),
            release: "7.el7".into(),
            faults: Faults::default(),
            fake_backend: false,
        };
        pack(Path::new(EXE), &trailer, &binary).unwrap();
        for (number, tool) in tools.iter().enumerate() {
            let [sql, exporter, rpc] = [(); 3].map(|()| PortLease::take().unwrap());
            let home = root.join(format!("foreign-{number}")).join("obproxy");
            fs::create_dir_all(&home).unwrap();
            let order = Order {
                binary: binary.clone(),
                home,
                sql_port: sql.port(),
                exporter_port: exporter.port(),
                rpc_port: rpc.port(),
                root_servers: bed.backend().address.to_string(),
                ob_cluster: "lab".into(),
                password: PASSWORD.into(),
                items: vec![("proxy_hot_upgrade_check_interval".into(), "1s".into())],
                user: None,
            };
            let tool = *tool;
            let started = tokio::task::spawn_blocking(move || Foreign::start(tool, &order)).await;
            foreign.push(started.unwrap().unwrap());
            ports.extend([sql, exporter, rpc]);
        }
        Self {
            foreign,
            bed,
            _ports: ports,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v2/obproxy/clusters/{}{rest}", self.bed.cluster)
    }

    fn body(&self) -> Value {
        let host = self.bed.fleet.hosts[0].id;
        let of = |foreign: &Foreign| json!({"hostId": host, "sqlPort": foreign.address().port(), "proxysysPasswd": PASSWORD});
        json!({"hosts": self.foreign.iter().map(of).collect::<Vec<_>>()})
    }

    /// Orders that all of them are taken over. → the tasks' ids
    async fn order(&self) -> Vec<i64> {
        let tasks = self
            .bed
            .api()
            .unwrap()
            .post(&self.path("/takeOver"), &self.body())
            .await
            .unwrap();
        api::contents(&tasks)
            .iter()
            .map(|task| api::id(task).unwrap())
            .collect()
    }

    async fn succeed(&self, task: i64) {
        self.bed.api().unwrap().success(task, PATIENCE).await.unwrap();
    }

    /// The fleet's id of each, once it serves.
    async fn ids(&self) -> Vec<i64> {
        let ports: Vec<_> = self.foreign.iter().map(|foreign| foreign.address().port()).collect();
        let of = |detail: &Value, port: u16| {
            let rows = detail["obproxies"].as_array().unwrap().clone();
            rows.into_iter()
                .find(|row| row["sqlPort"] == port && row["status"] == "RUNNING")
        };
        let all = |detail: &Value| ports.iter().all(|port| of(detail, *port).is_some());
        let detail = self
            .bed
            .api()
            .unwrap()
            .until(&self.path(""), PATIENCE, all)
            .await
            .unwrap();
        ports
            .iter()
            .map(|port| api::id(&of(&detail, *port).unwrap()).unwrap())
            .collect()
    }
}

fn only(foreign: &Foreign) -> ProcessId {
    let found = foreign.processes();
    assert_eq!(found.len(), 1, "{:?} {found:?}", foreign.tool);
    found[0]
}

/// Ends the proxy and waits for another process that serves.
async fn dies_and_is_back(foreign: &Foreign) {
    let before = only(foreign);
    signal(before.pid.cast_unsigned(), Signal::SIGKILL);
    until("another process", PATIENCE, async || {
        let now = foreign.processes();
        now.len() == 1
            && now[0] != before
            && process::listens_on(now[0].pid, foreign.address().port()).unwrap_or_default()
    })
    .await;
}

#[tokio::test]
async fn those_of_every_tool_are_taken_over_and_nobody_notices() {
    let place = Place::with(&TOOLS).await;
    let api = place.bed.api().unwrap();
    let before: Vec<_> = place.foreign.iter().map(only).collect();
    let addresses: Vec<_> = place.foreign.iter().map(Foreign::address).collect();
    let ledger = Arc::new(Ledger::create(place.bed.backend()).await.unwrap());
    let traffic = Traffic::start(&addresses, CLIENT, &ledger);
    traffic.warm_up().await.unwrap();

    let checked = api
        .post(&place.path("/takeOver/precheck"), &place.body())
        .await
        .unwrap();
    for (one, tool) in api::contents(&checked)
        .iter()
        .zip(["OBD", "OBSHELL", "OBPROXYD", "BY_HAND"])
    {
        assert_eq!(one["obstacles"], json!([]), "{one}");
        assert_eq!(
            (&one["proxy"]["startMethod"], &one["proxy"]["version"]),
            (&json!(tool), &json!(VERSION))
        );
    }
    for task in place.order().await {
        place.succeed(task).await;
    }
    let ids = place.ids().await;
    let after: Vec<_> = place.foreign.iter().map(only).collect();
    assert_eq!(after, before, "one was restarted");
    for foreign in &place.foreign {
        assert_eq!(foreign.watchdogs(), [0; 0], "{:?}", foreign.tool);
    }
    let counts = traffic.total();
    drop(traffic);
    assert_eq!(
        (counts.refused, counts.broken_transactions, counts.closed_at_boundary),
        (0, 0, 0),
        "{counts:?}"
    );

    for foreign in &place.foreign {
        dies_and_is_back(foreign).await;
    }
    // The one of obd goes up like any other, and is given back as it is then, with its loop; so is the one of the package.
    place.ids().await;
    place.bed.upload(NEW, None).await.unwrap();
    let upgrade = place.path(&format!("/obproxies/{}/upgrade", ids[0]));
    let task = api
        .post(&upgrade, &json!({"shortRpmName": NEW.short_rpm_name()}))
        .await
        .unwrap();
    place.succeed(api::id(&task).unwrap()).await;
    place.ids().await;
    let before = only(&place.foreign[0]);
    let move_out = place.path(&format!("/obproxies/{},{}/moveOut", ids[0], ids[2]));
    let given = json!({"proxysysPasswd": PASSWORD});
    place
        .succeed(api::id(&api.post(&move_out, &given).await.unwrap()).unwrap())
        .await;
    assert_eq!(only(&place.foreign[0]), before, "it was restarted");
    let found = api
        .get(&format!(
            "/api/v2/compute/hosts/{}/obproxies",
            place.bed.fleet.hosts[0].id
        ))
        .await
        .unwrap();
    for foreign in [&place.foreign[0], &place.foreign[2]] {
        let port = foreign.address().port();
        let one = api::contents(&found).iter().find(|one| one["sqlPort"] == port).unwrap();
        assert_eq!(one["managed"], false, "{one}");
        assert!(!foreign.watchdogs().is_empty(), "{:?}", foreign.tool);
    }
    let checked = api
        .post(&place.path("/takeOver/precheck"), &place.body())
        .await
        .unwrap();
    let first = &api::contents(&checked)[0];
    assert_eq!(
        (&first["obstacles"], &first["proxy"]["version"]),
        (&json!([]), &json!(NEW.text()))
    );
    dies_and_is_back(&place.foreign[0]).await;
    place.bed.at_rest_as(OLD).await.unwrap();
}

#[tokio::test]
async fn a_take_over_that_fails_is_gone_on_with_or_leaves_the_proxy_as_it_was() {
    let place = Place::with(&[Tool::Obd]).await;
    let api = place.bed.api().unwrap();
    let (foreign, slots) = (&place.foreign[0], place.bed.fleet.hosts[0].root().join("slots"));
    let (before, watchdogs) = (only(foreign), foreign.watchdogs());
    // Something else lies where what it runs would be kept.
    let in_the_way = slots.join(format!("obproxy-{VERSION}.taken-over"));
    let order = async || {
        fs::create_dir(&in_the_way).unwrap();
        let task = place.order().await[0];
        let failed = api.rest(task, PATIENCE).await.unwrap();
        assert_eq!(failed["status"], "FAILED", "{failed}");
        let why = api.why(&failed).await;
        assert!(why.contains("holds another executable"), "{why}");
        assert_eq!((only(foreign), foreign.watchdogs()), (before, watchdogs.clone()));
        fs::remove_dir(&in_the_way).unwrap();
        task
    };
    let task = order().await;
    let instance = |task: i64, order: &str| format!("/api/v2/tasks/instances/{task}/{order}");
    api.post_nothing(&instance(task, "rollback")).await.unwrap();
    let back = api.rest(task, PATIENCE).await.unwrap();
    assert_eq!(
        (&back["status"], &back["operation"]),
        (&json!("SUCCESSFUL"), &json!("ROLLBACK"))
    );
    let checked = api
        .post(&place.path("/takeOver/precheck"), &place.body())
        .await
        .unwrap();
    assert_eq!(api::contents(&checked)[0]["obstacles"], json!([]));
    assert_eq!((only(foreign), foreign.watchdogs()), (before, watchdogs.clone()));

    let task = order().await;
    api.post_nothing(&instance(task, "retry")).await.unwrap();
    place.succeed(task).await;
    place.ids().await;
    assert_eq!((only(foreign), foreign.watchdogs()), (before, vec![]));
}
