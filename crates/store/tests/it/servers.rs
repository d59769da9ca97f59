//! Three processes share one database while they are killed and stopped at random. Each step of each task must count once,
//! and nothing may be left behind.
//!
//! `OBFLEET_SERVERS_TASKS` says how many tasks; few by default. `OBFLEET_SERVERS_SEED` repeats the signals of a run, in
//! their order and their distances; what they hit is up to the machine.

use std::error::Error as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use obfleet_engine::{Engine, Options, Sharing, Store as _, TaskFilter, TaskStatus};
use obfleet_store::{Database, TaskStore};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use crate::support::{Kind, Notes, Place};
use crate::touch::{Resource, registry, submission};

const TASKS: &str = "OBFLEET_SERVERS_TASKS";
const SEED: &str = "OBFLEET_SERVERS_SEED";
const FEW: usize = 60;

/// Environment of a child: the database, its name, the resource, and how many tasks it submits.
const URL: &str = "OBFLEET_SERVERS_URL";
const NAME: &str = "OBFLEET_SERVERS_NAME";
const RESOURCE: &str = "OBFLEET_SERVERS_RESOURCE";
const SHARE: &str = "OBFLEET_SERVERS_SHARE";

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Longer than a lease.
const BEYOND_THE_LEASE: Duration = Duration::from_millis(4500);

/// Longest between two submissions of a server, ms: with a thousand tasks that keeps the servers under fire for some
/// minutes.
const PAUSE_MS: u64 = 800;

/// For one task, were they done one after the other by a server that dies over each of them.
const PATIENCE_PER_TASK: Duration = Duration::from_secs(10);

#[test]
#[ignore = "a child of the tests here"]
fn child() {
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let variable = |name: &str| std::env::var(name).unwrap();
    let (name, share): (String, usize) = (variable(NAME), variable(SHARE).parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let database = Database::connect(&variable(URL).parse().unwrap()).await.unwrap();
        let resource = variable(RESOURCE).parse().unwrap();
        let registry = registry(resource);
        let options = Options {
            slots: 4,
            sharing: Some(Sharing::default()),
            ..Options::new(&name)
        };
        let store = Arc::new(database.task_store(Notes));
        let engine = Engine::start(store.clone(), registry, options).await.unwrap();
        for number in 0..share {
            let new = || submission(&name, number);
            let token = new().client_token.unwrap();
            if store.find_by_token(&token).await.unwrap().is_some() {
                // It was submitted by a predecessor of this process.
                continue;
            }
            sleep(Duration::from_millis(rand::random_range(0..PAUSE_MS))).await;
            // Without its lease it is refused, and tries again; what it has submitted before is what it was.
            while let Err(error) = engine.submit(new()).await {
                eprintln!("{name}: {error}: {:?}", error.source());
                sleep(Duration::from_millis(200)).await;
            }
        }
        std::future::pending::<()>().await;
    });
}

/// A process, killed when it goes.
struct Server {
    child: Child,
}

impl Server {
    fn start(url: &str, name: &str, resource: SocketAddr, share: usize) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "servers::child", "--ignored", "--nocapture"])
            .env(URL, url)
            .env(NAME, name)
            .env(RESOURCE, resource.to_string())
            .env(SHARE, share.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process dies of this, too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn three_servers_on_mariadb() {
    under_fire(Kind::MariaDb).await;
}

#[tokio::test]
async fn three_servers_on_oceanbase() {
    under_fire(Kind::OceanBase).await;
}

async fn under_fire(kind: Kind) {
    let tasks = std::env::var(TASKS).map_or(FEW, |tasks| tasks.parse().unwrap());
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{kind:?}: {SEED}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let share = tasks.div_ceil(NAMES.len());
    let place = Place::new(kind).await;
    let (_, store) = place.open().await;
    let resource = Resource::serve().await;
    let url = place.url().unwrap();
    let start = |name| Server::start(url, name, resource.address(), share);
    let mut servers = NAMES.map(start);

    let deadline = Instant::now() + PATIENCE_PER_TASK * u32::try_from(tasks).unwrap();
    let begun = Instant::now();
    let (mut kills, mut stops) = (0, 0);
    while !all_at_rest(&store, share * NAMES.len()).await {
        assert!(Instant::now() < deadline, "the tasks do not come to rest");
        sleep(Duration::from_millis(random.random_range(300..1500))).await;
        let victim = random.random_range(0..NAMES.len());
        if random.random() {
            kills += 1;
            servers[victim] = start(NAMES[victim]);
        } else {
            stops += 1;
            servers[victim].signal(Signal::SIGSTOP);
            sleep(BEYOND_THE_LEASE).await;
            servers[victim].signal(Signal::SIGCONT);
        }
    }
    // Whoever was stopped has had its say by the time it has a lease again.
    sleep(Duration::from_secs(1)).await;
    drop(servers);

    let tally = resource.verify(&place).await;
    assert!(tally.tasks >= tasks);
    println!(
        "{kind:?}: {kills} kills, {stops} stops, {tally:?}, {} s",
        begun.elapsed().as_secs()
    );
}

async fn all_at_rest(store: &TaskStore<String>, tasks: usize) -> bool {
    let of = |status: Vec<TaskStatus>| TaskFilter {
        status,
        size: 1,
        ..TaskFilter::default()
    };
    let all = store.list(&of(Vec::new())).await.unwrap().total;
    all == tasks as u64 && store.list(&of(vec![TaskStatus::Running])).await.unwrap().total == 0
}
