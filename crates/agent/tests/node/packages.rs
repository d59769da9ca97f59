use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use obfleet_agent::client::CallError;
use obfleet_standin::Faults;
use obfleet_wire::agent::{AgentError, Fence, Operation, Outcome};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    authority::Authority,
    host::{Caller, Host, LONG, OLD, Rpm, rpm},
};

/// A way to an agent that counts what is sent to it, and breaks off once.
struct Relay {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    cut_at: Arc<AtomicU64>,
}

impl Relay {
    async fn to(agent: SocketAddr, cut_at: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            passed: Arc::default(),
            cut_at: Arc::new(AtomicU64::new(cut_at)),
        };
        let (passed, cut_at) = (Arc::clone(&relay.passed), Arc::clone(&relay.cut_at));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, agent, Arc::clone(&passed), Arc::clone(&cut_at)));
            }
        });
        relay
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    async fn until_cut(&self) {
        let cut = async {
            while self.cut_at.load(Ordering::SeqCst) != u64::MAX {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, cut).await.unwrap();
    }
}

async fn pass(client: TcpStream, agent: SocketAddr, passed: Arc<AtomicU64>, cut_at: Arc<AtomicU64>) {
    // An agent that is away refuses.
    let Ok(agent) = TcpStream::connect(agent).await else {
        return;
    };
    let ((mut from_client, mut to_client), (mut from_agent, mut to_agent)) = (client.into_split(), agent.into_split());
    let there = async {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut piece).await {
            let total = passed.fetch_add(read as u64, Ordering::SeqCst) + read as u64;
            if total >= cut_at.load(Ordering::SeqCst) {
                return cut_at.store(u64::MAX, Ordering::SeqCst);
            }
            if to_agent.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ = copy(&mut from_agent, &mut to_client) => {}
    }
}

fn size(package: &Rpm) -> u64 {
    fs::metadata(&package.path).unwrap().len()
}

fn files(host: &Host) -> Vec<String> {
    let files = fs::read_dir(host.root().join("packages")).unwrap().flatten();
    files.map(|file| file.file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_broke_off_goes_on() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let package = rpm(OLD, Faults::default());
    let whole = size(&package);
    // Most of it, then the rest; and once more with an agent that is killed as well. What is in buffers then is lost.
    for agent_dies in [false, true] {
        let relay = Relay::to(host.address(), whole * 9 / 10).await;
        let endpoint = authority.client().endpoint(&host.uid(), relay.address);
        let (sha256, path) = (package.sha256.clone(), package.path.clone());
        let put = tokio::spawn(async move { endpoint.put_package(&sha256, &path, LONG).await });
        if agent_dies {
            relay.until_cut().await;
            host.kill_agent();
            host.start().unwrap();
        }
        put.await.unwrap().unwrap();
        let passed = relay.passed();
        assert!(passed >= whole && passed < whole * 8 / 5, "{passed} bytes for {whole}");
        assert_eq!(files(&host), [format!("{}.rpm", package.sha256)]);
        fs::remove_file(host.root().join(format!("packages/{}.rpm", package.sha256))).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_sent_once_whoever_wants_it() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let package = rpm(OLD, Faults::default());
    let whole = size(&package);
    let relay = Relay::to(host.address(), u64::MAX).await;
    let client = authority.client();
    let put = async || {
        let endpoint = client.endpoint(&host.uid(), relay.address);
        endpoint
            .put_package(&package.sha256, &package.path, LONG)
            .await
            .unwrap()
    };
    let sent = tokio::join!(put(), put(), put());
    let mut sent = [sent.0, sent.1, sent.2];
    sent.sort_unstable();
    assert_eq!(sent, [0, 0, whole]);
    assert!(relay.passed() < whole * 5 / 4, "{} bytes for {whole}", relay.passed());
    fs::remove_file(host.root().join(format!("packages/{}.rpm", package.sha256))).unwrap();

    // Of several servers some have begun to send before they can know of each other: the agent takes it from one.
    let servers = [authority.client(), authority.client(), authority.client()];
    let endpoints = servers
        .each_ref()
        .map(|server| server.endpoint(&host.uid(), host.address()));
    let put = |number: usize| endpoints[number].put_package(&package.sha256, &package.path, LONG);
    let sent = tokio::join!(put(0), put(1), put(2));
    for sent in [sent.0, sent.1, sent.2] {
        sent.unwrap();
    }
    assert_eq!(files(&host), [format!("{}.rpm", package.sha256)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_is_sent_again_by_itself() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let package = rpm(OLD, Faults::default());
    let part = host.root().join(format!("packages/{}.part", package.sha256));
    fs::write(part, vec![0; 100_000]).unwrap();
    let endpoint = host.endpoint(&authority.client());
    let sent = endpoint
        .put_package(&package.sha256, &package.path, LONG)
        .await
        .unwrap();
    assert_eq!(sent, 2 * size(&package) - 100_000);
    assert_eq!(files(&host), [format!("{}.rpm", package.sha256)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_without_room_is_told_so_and_leaves_nothing() {
    let authority = Authority::start().await;
    let mut host = Host::new(&authority);
    host.limit_files(1024);
    host.start().unwrap();
    let package = rpm(OLD, Faults::default());
    let endpoint = host.endpoint(&authority.client());
    let refused = endpoint.put_package(&package.sha256, &package.path, LONG).await;
    let Err(CallError::Refused {
        error: AgentError::Invalid { reason },
        ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("is full") && reason.contains("then retry"), "{reason}");
    assert_eq!(files(&host), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_become_slots() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let package = rpm(OLD, Faults::default());
    let version = || OLD.parse().unwrap();
    let sha256 = package.sha256.clone();
    let install = || Operation::InstallPackage {
        sha256: sha256.clone(),
        version: version(),
    };

    let wrong = caller.endpoint.put_package(&"0".repeat(64), &package.path, LONG).await;
    assert!(
        matches!(
            wrong,
            Err(CallError::Refused {
                error: AgentError::Invalid { .. },
                ..
            })
        ),
        "{wrong:?}"
    );
    assert_eq!(fs::read_dir(host.root().join("packages")).unwrap().count(), 0);
    let absent = caller.call(install()).await;
    assert!(
        matches!(&absent, Err(CallError::Failed { message }) if message.contains("put it first")),
        "{absent:?}"
    );

    assert!(matches!(
        caller.install(&package, OLD).await,
        Outcome::Slot { created: true, .. }
    ));
    assert!(matches!(
        caller.install(&package, OLD).await,
        Outcome::Slot { created: false, .. }
    ));
    let other = Operation::InstallPackage {
        sha256: sha256.clone(),
        version: "4.9.9.9-1".parse().unwrap(),
    };
    let other = caller.call(other).await;
    assert!(
        matches!(&other, Err(CallError::Failed { message }) if message.contains("4.9.9.9-1")),
        "{other:?}"
    );

    for _ in 0..2 {
        let removed = caller.call(Operation::RemoveSlot { version: version() }).await;
        assert_eq!(removed.unwrap(), Outcome::Done);
    }
    assert_eq!(fs::read_dir(host.root().join("packages")).unwrap().count(), 0);
    let slots = fs::read_dir(host.root().join("slots")).unwrap().flatten();
    assert_eq!(
        slots
            .filter(|slot| !slot.file_name().to_string_lossy().starts_with('.'))
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_outlives_the_agent() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let remove = Operation::RemoveSlot {
        version: OLD.parse().unwrap(),
    };
    let done = caller.request(remove.clone());
    caller.perform(&done).await.unwrap();
    let late = caller.request(remove);
    let fence = Fence {
        installation: late.key.installation.clone(),
        era: late.key.era,
        task: late.key.task,
        subtask: late.key.subtask,
        attempt: "RETRY".into(),
        run: 2,
        epoch: 2,
    };
    caller.endpoint.fence(&fence, LONG).await.unwrap();
    host.kill_agent();
    host.start().unwrap();
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let refused = caller.perform(&late).await;
    assert!(
        matches!(refused, Err(CallError::Fenced { epoch: 1, highest: 2 })),
        "{refused:?}"
    );
    assert_eq!(
        caller.perform(&done).await.unwrap(),
        Outcome::Done,
        "another subtask's result is still known"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_waits_for_an_agent_that_starts_again() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let (endpoint, address) = (host.endpoint(&authority.client()), host.address());
    let package = rpm(OLD, Faults::default());
    host.kill_agent();
    let (sha256, path) = (package.sha256.clone(), package.path.clone());
    let put = tokio::spawn(async move { endpoint.put_package(&sha256, &path, LONG).await });
    // It asks, and the agent is killed before it answers.
    let listener = TcpListener::bind(address).await.unwrap();
    drop(timeout(LONG, listener.accept()).await.unwrap().unwrap());
    drop(listener);
    host.start().unwrap();
    put.await.unwrap().unwrap();
    assert_eq!(fs::read_dir(host.root().join("packages")).unwrap().count(), 1);
}
