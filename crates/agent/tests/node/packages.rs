use std::fs;

use obfleet_agent::client::CallError;
use obfleet_standin::Faults;
use obfleet_wire::agent::{AgentError, Fence, Operation, Outcome};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    authority::Authority,
    host::{Caller, Host, LONG, OLD, rpm},
};

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
