//! The disk is full for a while under a server on SQLite: its process may write no further than a few bytes behind the end of
//! the write-ahead log, so that some commits are cut in the middle. Requests are told, no task is lost or half-written,
//! and everything goes on once there is room.

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource as Limit, getrlimit, setrlimit};
use obfleet_engine::{Engine, EngineError, Options, Store as _, StoreError, TaskFilter, TaskId, TaskStatus};
use obfleet_store::{Database, Location};
use tokio::time::{Instant, sleep};

use crate::support::{Kind, Notes, Place};
use crate::touch::{Resource, registry, submission};

/// Environment of the child: file of the database, and the resource.
const FILE: &str = "OBFLEET_DISK_FILE";
const RESOURCE: &str = "OBFLEET_DISK_RESOURCE";

/// Bytes behind the end of the log that can still be written: nothing, part of the first page, part of a later one.
const ROOM: [u64; 3] = [0, 1000, 9000];

/// How long the disk stays full after the first request that was told so.
const FULL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn everything_goes_on_once_there_is_room() {
    let place = Place::new(Kind::Sqlite).await;
    let Location::File(file) = place.location() else {
        panic!("SQLite's state is in a file")
    };
    drop(place.open().await);
    let resource = Resource::serve().await;
    let mut child = Command::new("sh");
    child
        // A write that goes too far is to fail, and not to end the process by a signal.
        .args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk::child", "--ignored", "--nocapture"])
        .env(FILE, file)
        .env(RESOURCE, resource.address().to_string())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tally = resource.verify(&place).await;
    println!("{tally:?}");
}

#[test]
#[ignore = "the child of everything_goes_on_once_there_is_room"]
fn child() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let file = PathBuf::from(variable(FILE));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(Database::open(&file).await.unwrap().task_store(Notes));
        let registry = registry(variable(RESOURCE).parse().unwrap());
        let engine = Engine::start(store.clone(), registry, Options::new("server"))
            .await
            .unwrap();
        let (_, unlimited) = getrlimit(Limit::RLIMIT_FSIZE).unwrap();
        let mut number = 0;
        for room in ROOM {
            for _ in 0..4 {
                submit(&engine, number).await.unwrap();
                number += 1;
                sleep(PAUSE).await;
            }
            let log = fs::metadata(file.with_extension("db-wal")).unwrap().len();
            setrlimit(Limit::RLIMIT_FSIZE, log + room, unlimited).unwrap();
            let told = until_refused(&engine, &mut number).await;
            sleep(FULL).await;
            setrlimit(Limit::RLIMIT_FSIZE, unlimited, unlimited).unwrap();
            println!("room for {room} bytes: {told}");
            // Its token makes one task of it, whatever became of the one that was refused.
            submit(&engine, number).await.unwrap();
            number += 1;
        }
        let deadline = Instant::now() + PATIENCE;
        let running = TaskFilter {
            status: vec![TaskStatus::Running],
            ..TaskFilter::default()
        };
        while store.list(&running).await.unwrap().total > 0 {
            assert!(Instant::now() < deadline, "{:#?}", store.list(&running).await);
            sleep(PAUSE).await;
        }
        engine.shutdown().await;
    });
}

async fn submit(engine: &Engine<String>, number: usize) -> Result<TaskId, EngineError> {
    Ok(engine.submit(submission("disk", number)).await?.id)
}

/// Submits one task after the other until one is refused. → why; its number is the next
async fn until_refused(engine: &Engine<String>, number: &mut usize) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match submit(engine, *number).await {
            Ok(_) => *number += 1,
            Err(EngineError::Store(error @ StoreError::Unavailable(_))) => return error.source().unwrap().to_string(),
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "the disk does not get full");
    }
}
