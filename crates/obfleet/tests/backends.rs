//! Real transactions on real databases, through a stand-in proxy and across its hot restart.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use obfleet_lab::testbed::until;
use obfleet_mysqlwire::{Client, QueryResult};
use obfleet_obproxy::admin::AdminConn;
use obfleet_standin::ports::PortLease;
use obfleet_standin::{Trailer, pack};
use obfleet_testdb::Database;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Longest any condition may take to come true, and any statement to be answered.
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: usize = 4;
const ROUNDS: usize = 10;
const OLD: &str = "4.2.1.0";
const NEW: &str = "4.3.1.0";
/// `proxy_local_cmd` for a hot restart.
const HOT_RESTART: u8 = 2;

#[tokio::test]
async fn mariadb_transactions_live_through_a_hot_restart() {
    let builds = Builds::get();
    let dir = tempfile::tempdir().unwrap();
    let database = Database::mariadb(dir.path()).await.unwrap();
    transactions(&builds, database.address()).await;
}

#[tokio::test]
async fn oceanbase_transactions_live_through_a_hot_restart() {
    let builds = Builds::get();
    let dir = tempfile::tempdir().unwrap();
    let database = Database::seekdb(dir.path()).await.unwrap();
    transactions(&builds, database.address()).await;
}

/// The whole story on one database.
async fn transactions(builds: &Builds, database: SocketAddr) {
    let proxy = Proxy::start(builds, database).await;
    let mut owner = Person::connect(proxy.address()).await;
    owner.run("create database shop").await;
    owner
        .run("create table shop.orders (client int, number int, primary key (client, number))")
        .await;

    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(commit_and_roll_back(proxy.address(), client));
    }
    clients.join_all().await;
    let committed = CLIENTS * ROUNDS / 2;
    assert_eq!(owner.count("").await, committed);

    // Everybody has a transaction open while the proxy is replaced below them.
    let mut travellers = Vec::new();
    for client in 0..CLIENTS {
        let mut traveller = Person::connect(proxy.address()).await;
        assert!(traveller.run("begin").await.in_transaction());
        traveller.insert(client, ROUNDS).await;
        travellers.push(traveller);
    }
    let mut keeper = proxy.admin().await;
    let old = keeper.answering_pid().await.unwrap();
    proxy.install_new_build(builds);
    keeper.local_command(HOT_RESTART).await.unwrap();
    until("new sessions see the new version", PATIENCE, async || {
        proxy.admin().await.proxy_version().await.unwrap() == NEW
    })
    .await;
    until("the old process drains", PATIENCE, async || {
        keeper.upgrade_info().await.unwrap().graceful_exit_end_time != 0
    })
    .await;
    let mut admin = proxy.admin().await;
    assert_ne!(admin.answering_pid().await.unwrap(), old);
    keeper.close().await;

    let mut newcomer = Person::connect(proxy.address()).await;
    assert_eq!(newcomer.count("").await, committed, "what is not committed is not seen");
    for (client, traveller) in travellers.iter_mut().enumerate() {
        traveller.insert(client, ROUNDS + 1).await;
        assert!(proxy.pids().contains(&old), "an open transaction keeps the old process");
        let ending = if client % 2 == 0 { "commit" } else { "rollback" };
        assert!(!traveller.run(ending).await.in_transaction());
    }
    let carried = format!("where number >= {ROUNDS}");
    // Half of them committed, two rows each.
    assert_eq!(newcomer.count(&carried).await, CLIENTS);
    assert_eq!(newcomer.count(&format!("{carried} and client % 2 = 1")).await, 0);

    for traveller in travellers {
        traveller.client.close().await;
    }
    owner.client.close().await;
    until("the old process is gone", PATIENCE, async || {
        !proxy.pids().contains(&old)
    })
    .await;
    commit_and_roll_back(proxy.address(), CLIENTS).await;

    // The database itself tells the same.
    let mut witness = Person::connect(database).await;
    assert_eq!(witness.count(&carried).await, CLIENTS);
    assert_eq!(witness.count("").await, committed + CLIENTS + ROUNDS / 2);
}

/// One client's transactions, every second one committed; each is read back.
async fn commit_and_roll_back(address: SocketAddr, client: usize) {
    let mut person = Person::connect(address).await;
    for number in 0..ROUNDS {
        let this = format!("where client = {client} and number = {number}");
        assert!(person.run("begin").await.in_transaction());
        person.insert(client, number).await;
        assert_eq!(person.count(&this).await, 1);
        let (ending, left) = if number % 2 == 0 {
            ("commit", 1)
        } else {
            ("rollback", 0)
        };
        assert!(!person.run(ending).await.in_transaction());
        assert_eq!(person.count(&this).await, left, "{this} after {ending}");
    }
    person.client.close().await;
}

/// An ordinary user's session; every answer is bounded by [`PATIENCE`].
struct Person {
    client: Client,
}

impl Person {
    async fn connect(address: SocketAddr) -> Self {
        let client = Client::connect(address, "root", "", Instant::now() + PATIENCE)
            .await
            .unwrap();
        Self { client }
    }

    async fn run(&mut self, sql: &str) -> QueryResult {
        let answer = tokio::time::timeout(PATIENCE, self.client.query(sql)).await;
        match answer.unwrap_or_else(|_| panic!("no answer in time: {sql}")) {
            Ok(result) => result,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn insert(&mut self, client: usize, number: usize) {
        let done = self
            .run(&format!("insert into shop.orders values ({client}, {number})"))
            .await;
        assert_eq!(done.affected_rows, 1);
        assert!(done.in_transaction());
    }

    async fn count(&mut self, condition: &str) -> usize {
        let rows = self
            .run(&format!("select count(*) as n from shop.orders {condition}"))
            .await;
        rows.text(0, "n").unwrap().parse().unwrap()
    }
}

/// Two versions of the stand-in, shared by the tests that run at the same time.
///
/// Whoever starts a process holds them: a child forked while an executable is written would have it open for writing, and
/// executing it would fail. For the same reason homes get links instead of copies.
struct Builds {
    dir: TempDir,
}

impl Builds {
    fn get() -> Arc<Self> {
        static SHARED: Mutex<Weak<Builds>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let builds = Arc::new(Self::pack());
            *shared = Arc::downgrade(&builds);
            builds
        })
    }

    fn pack() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for version in [OLD, NEW] {
            let build = Trailer {
                version: version.into(),
                release: "1.el7".into(),
                ..Trailer::default()
            };
            pack(
                Path::new(env!("CARGO_BIN_EXE_obfleet")),
                &build,
                &dir.path().join(version),
            )
            .unwrap();
        }
        Self { dir }
    }

    fn link(&self, version: &str, path: &Path) {
        fs::hard_link(self.dir.path().join(version), path).unwrap();
    }
}

/// A stand-in proxy in a home of its own; all processes of the home are ended when it is dropped.
struct Proxy {
    home: TempDir,
    sql: PortLease,
    _prometheus: PortLease,
    _rpc: PortLease,
}

impl Proxy {
    /// Starts the old build in front of `database` and waits until it answers.
    async fn start(builds: &Builds, database: SocketAddr) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("bin")).unwrap();
        builds.link(OLD, &home.path().join("bin/obproxy"));
        let lease = || PortLease::take().unwrap();
        let (sql, prometheus, rpc) = (lease(), lease(), lease());
        let mut command = Command::new("./bin/obproxy");
        for (option, port) in [("-p", &sql), ("-l", &prometheus), ("-s", &rpc)] {
            command.args([option, &port.port().to_string()]);
        }
        command
            .args(["-r", &database.to_string()])
            .args(["-o", "local_bound_ip=127.0.0.1,proxy_hot_upgrade_check_interval=1s"])
            .current_dir(home.path())
            .stdin(Stdio::null());
        let proxy = Self {
            home,
            sql,
            _prometheus: prometheus,
            _rpc: rpc,
        };
        // It goes to the background by itself.
        let launched = command.output().unwrap();
        assert!(
            launched.status.success(),
            "{}",
            String::from_utf8_lossy(&launched.stderr)
        );
        until("the proxy answers", PATIENCE, async || {
            AdminConn::connect(proxy.address(), "", PATIENCE).await.is_ok()
        })
        .await;
        proxy
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.sql.port()).into()
    }

    async fn admin(&self) -> AdminConn {
        AdminConn::connect(self.address(), "", PATIENCE).await.unwrap()
    }

    /// Renames the new build over the executable, as an upgrade does.
    fn install_new_build(&self, builds: &Builds) {
        let bin = self.home.path().join("bin");
        builds.link(NEW, &bin.join("staged"));
        fs::rename(bin.join("staged"), bin.join("obproxy")).unwrap();
    }

    /// The processes that live in this home.
    fn pids(&self) -> Vec<i32> {
        let home = self.home.path().canonicalize().unwrap();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        entries
            .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == home))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
