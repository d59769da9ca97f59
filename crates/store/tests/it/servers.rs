//! Three processes share one database while they are killed and stopped at random. Each step of each task must count once,
//! and nothing may be left behind.
//!
//! `OBFLEET_SERVERS_TASKS` says how many tasks; few by default. `OBFLEET_SERVERS_SEED` repeats the signals of a run, in
//! their order and their distances; what they hit is up to the machine.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use obfleet_engine::core::{Change, fsck};
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Lock, Options, Output, Registry, Sharing, Spec, Store as _, Submission,
    TaskFilter, TaskState, TaskStatus, TemplateBuilder,
};
use obfleet_store::fsck::check;
use obfleet_store::{Database, TaskStore, sql};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::support::{Kind, Notes, Place, notes};

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

/// Longest that a step takes, and longest between two submissions of a server, ms. With a thousand tasks this keeps the
/// servers under fire for some minutes, and busy enough that most signals hit a step.
const STEP_MS: u64 = 400;
const PAUSE_MS: u64 = 800;

/// For one task, were they done one after the other by a server that dies over each of them.
const PATIENCE_PER_TASK: Duration = Duration::from_secs(10);

/// What the steps work on, and who refuses whoever comes with a lower epoch than another has come with: an agent in small.
#[derive(Default)]
struct Resource {
    epochs: BTreeMap<i64, i64>,
    /// Keys of what has its effect.
    effects: BTreeSet<String>,
    refused: usize,
    /// Subtasks and epochs that came a second time: a claim that two had, or one that was run twice.
    again: Vec<(i64, i64)>,
}

impl Resource {
    /// The effect of a step, once for each key, unless the epoch is too low.
    fn act(&mut self, subtask: i64, epoch: i64, key: &str) -> bool {
        let highest = self.epochs.entry(subtask).or_default();
        match epoch.cmp(highest) {
            Ordering::Less => {
                self.refused += 1;
                return false;
            }
            Ordering::Equal => self.again.push((subtask, epoch)),
            Ordering::Greater => *highest = epoch,
        }
        self.effects.insert(key.to_owned());
        true
    }
}

async fn serve(listener: TcpListener, resource: Arc<Mutex<Resource>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let resource = Arc::clone(&resource);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                let words: Vec<_> = line.split_whitespace().collect();
                let (subtask, epoch) = (words[0].parse().unwrap(), words[1].parse().unwrap());
                let done = resource.lock().unwrap().act(subtask, epoch, words[2]);
                // Whoever asked may be dead by now.
                drop(stream.write_all(if done { b"done\n" } else { b"fenced\n" }).await);
            }
        });
    }
}

struct Touch {
    resource: SocketAddr,
}

#[async_trait]
impl Action<String> for Touch {
    fn spec(&self) -> Spec {
        Spec::new("touch", "Touch", 300)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        let key = attempt.key();
        attempt.checkpoint("begun", "yes").await?;
        sleep(Duration::from_millis(rand::random_range(0..STEP_MS))).await;
        let failed = |error: std::io::Error| ActionError::new(error.to_string());
        let mut stream = BufReader::new(TcpStream::connect(self.resource).await.map_err(failed)?);
        let request = format!("{} {} {key}\n", key.subtask, attempt.epoch());
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await.map_err(failed)?;
        match answer.trim() {
            "done" => Ok(Output::changes(vec![key.subtask.to_string()])),
            other => Err(ActionError::new(format!("the resource says {other:?}"))),
        }
    }
}

/// One, two at a time, one.
fn submission(name: &str, number: usize) -> Submission<String> {
    let mut template = TemplateBuilder::new();
    let first = template.node("touch", None);
    let middle = [
        template.then(&[first], "touch", None),
        template.then(&[first], "touch", None),
    ];
    template.then(&middle, "touch", None);
    Submission {
        client_token: Some(format!("{name}-{number}")),
        locks: vec![Lock::exclusive(name, i64::try_from(number).unwrap())],
        ..Submission::new("Touch", "admin", template.build().unwrap())
    }
}

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
        let registry = Registry::new([Arc::new(Touch { resource }) as Arc<dyn Action<String>>]).unwrap();
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
    let (database, store) = place.open().await;
    let resource = Arc::new(Mutex::new(Resource::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, Arc::clone(&resource)));
    let url = place.url().unwrap();
    let start = |name| Server::start(url, name, address, share);
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
    serving.abort();

    let (steps, orphans) = verify(&store, tasks).await;
    let locks = sql::query("SELECT COUNT(*) AS number FROM resource_lock").fetch_one(database.readers());
    assert_eq!(locks.await.unwrap().get::<i64>("number").unwrap(), 0, "locks are left");
    let noted: BTreeSet<_> = notes(&database).await.into_iter().collect();
    assert_eq!(noted.len(), steps, "each step's result counts once");
    let location = place.location();
    let checked = check(&location, |finding| panic!("{finding:?}")).await.unwrap();
    assert!(checked.tasks >= tasks as u64);
    let resource = resource.lock().unwrap();
    assert_eq!(resource.effects.len(), steps, "each step has its effect");
    assert_eq!(resource.again, [], "a claim is one attempt's");
    println!(
        "{kind:?}: {tasks} tasks, {steps} steps, {kills} kills, {stops} stops, {orphans} steps taken up again, {} late attempts refused \
         by the resource, {} s",
        resource.refused,
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

/// Checks every task by its rows and events. → steps of all, and how often one was taken from a dead process
async fn verify(store: &TaskStore<String>, tasks: usize) -> (usize, usize) {
    let filter = TaskFilter {
        size: u32::MAX,
        ..TaskFilter::default()
    };
    let states: Vec<TaskState> = store.list(&filter).await.unwrap().items;
    assert!(states.len() >= tasks);
    let mut orphans = 0;
    for state in &states {
        let id = state.task.id;
        let events = store.events(id, 0, u32::MAX).await.unwrap();
        assert_eq!(state.task.status, TaskStatus::Successful, "task {id}: {state:#?}");
        assert_eq!(check_invariants(state), Ok(()), "task {id}");
        assert_eq!(fsck(state, &events), Ok(()), "task {id}");
        orphans += events
            .iter()
            .filter(|event| matches!(event.change, Change::SubOrphaned { .. }))
            .count();
        let succeeded = events.iter().filter_map(|event| match event.change {
            Change::SubSucceeded { subtask, .. } => Some(subtask),
            _ => None,
        });
        let succeeded: Vec<_> = succeeded.collect();
        let distinct: BTreeSet<_> = succeeded.iter().collect();
        assert_eq!(
            (succeeded.len(), distinct.len()),
            (state.subtasks.len(), state.subtasks.len()),
            "task {id}"
        );
    }
    (states.iter().map(|state| state.subtasks.len()).sum(), orphans)
}
