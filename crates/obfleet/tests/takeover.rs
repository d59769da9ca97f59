//! Two servers on one database, with agents and proxies: an upgrade under way loses the server that runs it.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{fs, net::SocketAddr, path::Path};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api,
    chaos::{account::ran_again, load::Load},
    fleet::ServerProcess,
    packages::{NEW, OLD},
    process::signal,
    testbed::{PATIENCE, Testbed},
};
use obfleet_mysqlwire::Client;
use obfleet_testdb::shared;
use tokio::time::{Duration, Instant, sleep};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const HOSTS: u8 = 2;
/// Longer than any transaction of the load, also on a slow machine.
const DRAIN_WINDOW_S: u64 = 10;
const RESTART: &str = "Hot restart obproxy";
/// How often the database is asked who runs the step.
const LOOK: Duration = Duration::from_millis(5);

/// Two servers, of which the first was given the packages, hosts with proxies, and their clients.
struct Pair {
    bed: Testbed,
    database: Client,
    load: Load,
}

impl Pair {
    async fn start() -> Self {
        let url = shared::mariadb().await.unwrap();
        let mut bed = Testbed::start_on(Path::new(EXE), HOSTS, DRAIN_WINDOW_S, Some(url.clone()))
            .await
            .unwrap();
        bed.fleet.add_server().await.unwrap();
        bed.upload(NEW, None).await.unwrap();
        let (_, rest) = url.split_once('@').unwrap();
        let (address, schema) = rest.split_once('/').unwrap();
        let address: SocketAddr = address.parse().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut database = Client::connect(address, "root", "", deadline).await.unwrap();
        database.query(&format!("use {schema}")).await.unwrap();
        bed.at_rest_as(OLD).await.unwrap();
        let load = Load::start(bed.proxies.iter().map(|proxy| proxy.address));
        Self { bed, database, load }
    }

    /// The id of the server that is at work on the first restart of a proxy.
    async fn at_restart(&mut self, task: i64) -> String {
        let look = format!(
            "select owner_server as server from subtask_instance where task_id = {task} and state = 'RUNNING' \
             and spec like '%{RESTART}%'"
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.database.query(&look).await.unwrap();
            if let Some(server) = found.text(0, "server") {
                return server;
            }
            assert!(Instant::now() < deadline, "no proxy is restarted");
            sleep(LOOK).await;
        }
    }

    /// Upgrades all proxies; `strike` is given the server that restarts the first one. → what it made of it
    async fn upgrade<T>(&mut self, strike: impl AsyncFnOnce(ServerProcess) -> T) -> T {
        let task = api::id(&self.bed.upgrade(NEW).await.unwrap()).unwrap();
        let server = self.at_restart(task).await;
        let before = self.bed.api().unwrap().task(task).await.unwrap();
        let struck = strike(self.bed.fleet.take_server(&server).unwrap()).await;

        self.bed.api().unwrap().success(task, PATIENCE).await.unwrap();
        self.bed.at_rest_as(NEW).await.unwrap();
        let after = self.bed.api().unwrap().task(task).await.unwrap();
        assert_eq!(ran_again(&before, &after), [""; 0]);
        let harm = self.load.harm();
        assert!(harm.answered > 0 && harm.refused == 0 && harm.broken == 0, "{harm:?}");
        for host in &self.bed.fleet.hosts {
            let restarts = fs::read_dir(host.root().join("restarts")).unwrap().count();
            assert_eq!(restarts, 1, "restarts of the proxy on {}", host.address);
        }
        struck
    }
}

#[tokio::test]
async fn the_server_that_runs_an_upgrade_is_killed() {
    let mut pair = Pair::start().await;
    // As `kill -9` does.
    pair.upgrade(async |server| drop(server)).await;

    // Who is left brings its own copies of the packages to hosts that have forgotten them.
    let Pair { mut bed, load, .. } = pair;
    drop(load);
    bed.start_over().await.unwrap();
    for host in &bed.fleet.hosts {
        let packages = host.root().join("packages");
        for file in fs::read_dir(packages).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    let task = api::id(&bed.upgrade(NEW).await.unwrap()).unwrap();
    bed.api().unwrap().success(task, PATIENCE).await.unwrap();
    bed.at_rest_as(NEW).await.unwrap();
}

#[tokio::test]
async fn the_server_that_runs_an_upgrade_is_stopped_and_wakes_up_when_it_is_over() {
    let mut pair = Pair::start().await;
    let sleeper = pair
        .upgrade(async |server| {
            signal(server.process.pid(), Signal::SIGSTOP);
            server
        })
        .await;
    let seen = pair.bed.api().unwrap().get("/api/v2/tasks/instances").await.unwrap();
    signal(sleeper.process.pid(), Signal::SIGCONT);
    // It has a lease again, and has had time for everything that it still meant to write.
    let deadline = Instant::now() + PATIENCE;
    while !sleeper.api.is_ready().await {
        assert!(Instant::now() < deadline, "{}", sleeper.process.last_words());
        sleep(LOOK).await;
    }
    assert_eq!(sleeper.api.get("/api/v2/tasks/instances").await.unwrap(), seen);
    pair.bed.at_rest_as(NEW).await.unwrap();
}
