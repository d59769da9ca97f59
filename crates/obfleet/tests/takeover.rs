//! Several servers on one database, with agents and proxies: an upgrade under way loses the server that runs it.

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
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const HOSTS: u8 = 2;
/// Longer than any transaction of the load, also on a slow machine.
const DRAIN_WINDOW_S: u64 = 10;
const RESTART: &str = "Hot restart obproxy";
/// How often the database is asked who runs the step.
const LOOK: Duration = Duration::from_millis(5);

/// Servers, of which the first was given the packages; hosts with proxies, and their clients.
struct Installation {
    bed: Testbed,
    database: Client,
    load: Load,
}

impl Installation {
    async fn start(url: String, servers: usize) -> Self {
        let mut bed = Testbed::start_on(Path::new(EXE), HOSTS, DRAIN_WINDOW_S, Some(url.clone()))
            .await
            .unwrap();
        for _ in 1..servers {
            bed.fleet.add_server().await.unwrap();
        }
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

    /// The id of the server that is at work on the restart of a proxy, the proxies being counted from 0.
    async fn at_restart(&mut self, task: i64, proxy: usize) -> String {
        let seen = self.bed.api().unwrap().task(task).await.unwrap();
        let steps = seen["subtasks"].as_array().unwrap();
        let is_it = |step: &&Value| step["name"] == RESTART && step["parallelIdx"] == proxy;
        let id = steps.iter().find(is_it).unwrap()["id"].as_i64().unwrap();
        let look = format!("select owner_server as server from subtask_instance where id = {id} and state = 'RUNNING'");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.database.query(&look).await.unwrap();
            if let Some(server) = found.text(0, "server") {
                return server;
            }
            assert!(Instant::now() < deadline, "proxy {proxy} is not restarted");
            sleep(LOOK).await;
        }
    }

    /// Upgrades all proxies; for each of the first `strikes` of them, `strike` is given the server that restarts it. → what
    /// it made of them
    async fn upgrade<T>(&mut self, strikes: usize, strike: impl Fn(ServerProcess) -> T) -> Vec<T> {
        let task = api::id(&self.bed.upgrade(NEW).await.unwrap()).unwrap();
        let (mut struck, mut before) = (Vec::new(), Vec::new());
        for proxy in 0..strikes {
            let server = self.at_restart(task, proxy).await;
            before.push(self.bed.api().unwrap().task(task).await.unwrap());
            struck.push(strike(self.bed.fleet.take_server(&server).unwrap()));
        }
        self.bed.api().unwrap().success(task, PATIENCE).await.unwrap();
        self.bed.at_rest_as(NEW).await.unwrap();
        let after = self.bed.api().unwrap().task(task).await.unwrap();
        for before in &before {
            assert_eq!(ran_again(before, &after), [""; 0]);
        }
        let harm = self.load.harm();
        assert!(harm.answered > 0 && harm.refused == 0 && harm.broken == 0, "{harm:?}");
        for host in &self.bed.fleet.hosts {
            let restarts = fs::read_dir(host.root().join("restarts")).unwrap().count();
            assert_eq!(restarts, 1, "restarts of the proxy on {}", host.address);
        }
        struck
    }
}

/// As `kill -9` does.
fn kill(server: ServerProcess) {
    drop(server);
}

#[tokio::test]
async fn the_server_that_runs_an_upgrade_is_killed() {
    let mut all = Installation::start(shared::mariadb().await.unwrap(), 2).await;
    all.upgrade(1, kill).await;

    // Who is left brings its own copies of the packages to hosts that have forgotten them.
    let Installation { mut bed, load, .. } = all;
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
async fn one_after_another_dies_until_a_single_server_is_left_on_oceanbase() {
    let mut all = Installation::start(shared::seekdb().await.unwrap(), 3).await;
    all.upgrade(2, kill).await;
}

#[tokio::test]
async fn the_server_that_runs_an_upgrade_is_stopped_and_wakes_up_when_it_is_over() {
    let mut all = Installation::start(shared::mariadb().await.unwrap(), 2).await;
    let stop = |server: ServerProcess| {
        signal(server.process.pid(), Signal::SIGSTOP);
        server
    };
    let sleeper = all.upgrade(1, stop).await.remove(0);
    let seen = all.bed.api().unwrap().get("/api/v2/tasks/instances").await.unwrap();
    signal(sleeper.process.pid(), Signal::SIGCONT);
    // It has a lease again, and has had time for everything that it still meant to write.
    let deadline = Instant::now() + PATIENCE;
    while !sleeper.api.is_ready().await {
        assert!(Instant::now() < deadline, "{}", sleeper.process.last_words());
        sleep(LOOK).await;
    }
    assert_eq!(sleeper.api.get("/api/v2/tasks/instances").await.unwrap(), seen);
    all.bed.at_rest_as(NEW).await.unwrap();
}
