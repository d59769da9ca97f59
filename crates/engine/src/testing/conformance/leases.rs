//! Leases, what is refused without one, and what servers see of each other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Suite, commit_by, create, draft, env, next, reload, root};
use crate::context::ContextDelta;
use crate::core::Command;
use crate::state::{Cause, Failure, MAX_WAIT_MS, Owner, TaskState};
use crate::store::{HeldSubtask, LeaseRequest, NewTask, Store, StoreError, TaskFilter, nonce};

/// Longer than the suite.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// Over soon.
const SHORT: Duration = Duration::from_millis(50);

/// When a short lease must be over.
const PATIENCE: Duration = Duration::from_secs(20);

fn owner(server: &str, incarnation: &str) -> Owner {
    Owner {
        server: server.to_owned(),
        incarnation: incarnation.to_owned(),
    }
}

pub(super) async fn grant<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    owner: &Owner,
    ttl: Duration,
    replaces: bool,
) -> Suite {
    let request = LeaseRequest {
        owner,
        ttl,
        replaces,
        version: "0.1.0",
        url: Some("http://127.0.0.1:8080"),
    };
    store.grant_lease(&request).await
}

pub(super) async fn leases_are_granted_renewed_and_ended<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let [first, second, third] = ["1", "2", "3"].map(|incarnation| owner("a", incarnation));
    grant(store, &first, LONG, false).await?;
    let refused = grant(store, &second, LONG, false).await;
    assert!(
        matches!(&refused, Err(StoreError::LeaseHeld { server }) if server == "a"),
        "{refused:?}"
    );
    store.renew_lease(&first, LONG, false).await?;

    grant(store, &second, LONG, true).await?;
    assert_lost(store.renew_lease(&first, LONG, false).await);
    store.end_lease(&first).await?;
    store.renew_lease(&second, LONG, true).await?;

    store.end_lease(&second).await?;
    assert_lost(store.renew_lease(&second, LONG, false).await);
    grant(store, &third, LONG, false).await?;
    store.renew_lease(&third, LONG, false).await
}

pub(super) async fn leases_run_out<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let (first, second) = (owner("b", "1"), owner("b", "2"));
    grant(store, &first, SHORT, false).await?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = grant(store, &second, LONG, false).await {
        assert!(matches!(error, StoreError::LeaseHeld { .. }), "{error}");
        assert!(Instant::now() < deadline, "the lease does not end");
        sleep(SHORT).await;
    }
    assert_lost(store.renew_lease(&first, LONG, false).await);
    Ok(())
}

fn assert_lost<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::LeaseLost)), "{result:?}");
}

pub(super) async fn only_the_holder_of_a_lease_writes<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let state = create(store, draft("leased")).await?;
    let before = store.list(&TaskFilter::default()).await?.total;
    let claimed = next(
        &state,
        Command::Claim {
            subtask: root(&state).0,
        },
    );
    let (stranger, paused, successor) = (owner("nobody", "1"), owner("c", "1"), owner("c", "2"));
    grant(store, &paused, LONG, false).await?;
    grant(store, &successor, LONG, true).await?;
    for author in [&stranger, &paused] {
        assert_lost(commit_by(store, author, &state, &claimed).await);
        let env = crate::core::Env {
            owner: author.clone(),
            ..env(1000)
        };
        let created = store.create(NewTask {
            draft: draft("late"),
            env: &env,
            changes: &[],
            nonce: nonce(),
        });
        assert_lost(created.await);
    }
    assert_eq!(store.list(&TaskFilter::default()).await?.total, before);
    assert_eq!(reload(store, state.task.id).await?, state, "nothing has changed");
    commit_by(store, &successor, &state, &claimed).await?;
    let stale = commit_by(store, &successor, &state, &claimed).await;
    assert!(matches!(stale, Err(StoreError::Stale)), "{stale:?}");
    Ok(())
}

/// Also while nobody has come in its place: then its row is still there.
pub(super) async fn a_lease_that_ran_out_writes_nothing<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let mut state = create(store, draft("run out")).await?;
    let late = owner("d", "1");
    grant(store, &late, SHORT, false).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let actor = "ann".to_owned();
        let command = match state.task.halt {
            None => Command::Pause { actor },
            Some(_) => Command::Unpause { actor },
        };
        let decision = next(&state, command);
        match commit_by(store, &late, &state, &decision).await {
            Ok(()) => state = decision.state,
            refused => {
                assert_lost(refused);
                break;
            }
        }
        assert!(Instant::now() < deadline, "it writes for ever");
        sleep(SHORT).await;
    }
    assert_eq!(reload(store, state.task.id).await?, state);
    Ok(())
}

pub(super) async fn servers_see_what_is_due_and_what_is_held<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let state = create(store, draft("seen")).await?;
    assert!(is_due(store, &state, 2000).await?);
    assert!(store.look(2000, 0).await?.due.is_empty(), "no more than asked for");
    assert_eq!(held(store, &state).await?, []);

    let (subtask, _) = root(&state);
    let mut owner = env(0).owner;
    let claimed = next(&state, Command::Claim { subtask });
    commit_by(store, &owner, &state, &claimed).await?;
    let (_, epoch) = root(&claimed.state);
    let mut seen = HeldSubtask {
        task: state.task.id,
        subtask,
        epoch,
        canceling: false,
        owner: owner.clone(),
        alive: true,
    };
    assert_eq!(held(store, &claimed.state).await?, [seen.clone()]);
    assert!(!is_due(store, &claimed.state, 2000).await?);

    grant(
        store,
        &Owner {
            incarnation: "2".into(),
            ..owner.clone()
        },
        LONG,
        true,
    )
    .await?;
    seen.alive = false;
    assert_eq!(
        held(store, &claimed.state).await?,
        [seen.clone()],
        "its owner was replaced"
    );
    owner.incarnation = "3".into();
    grant(store, &owner, LONG, true).await?;

    let canceling = next(
        &claimed.state,
        Command::Cancel {
            subtask,
            actor: "ann".to_owned(),
        },
    );
    commit_by(store, &owner, &claimed.state, &canceling).await?;
    seen.canceling = true;
    assert_eq!(held(store, &canceling.state).await?, [seen]);

    // The next attempt waits for its time.
    let owner = env(0).owner;
    grant(store, &owner, LONG, true).await?;
    let state = create(store, draft("backing off")).await?;
    let (subtask, _) = root(&state);
    let claimed = next(&state, Command::Claim { subtask });
    commit_by(store, &owner, &state, &claimed).await?;
    let failed = next(
        &claimed.state,
        Command::Fail {
            subtask,
            epoch: root(&claimed.state).1,
            failure: Failure {
                cause: Cause::Error,
                message: "no".into(),
            },
            delta: ContextDelta::new(),
        },
    );
    commit_by(store, &owner, &claimed.state, &failed).await?;
    let at = failed.state.subtasks[0].not_before.expect("it backs off");
    assert!(!is_due(store, &failed.state, at - 1).await?);
    assert!(is_due(store, &failed.state, at).await?);
    let longest = at - MAX_WAIT_MS;
    assert!(!is_due(store, &failed.state, longest).await?);
    assert!(
        is_due(store, &failed.state, longest - 1).await?,
        "no retry waits for that long"
    );
    Ok(())
}

async fn is_due<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    state: &TaskState,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let due = store.look(now_ms, u32::from(u16::MAX)).await?.due;
    let found: Vec<_> = due.iter().filter(|due| due.task == state.task.id).collect();
    assert!(found.len() <= 1, "a task is named once");
    assert!(found.iter().all(|due| due.rev == state.task.rev), "as it stands");
    Ok(found.len() == 1)
}

async fn held<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    state: &TaskState,
) -> Result<Vec<HeldSubtask>, StoreError> {
    let mut held = store.look(0, 0).await?.held;
    held.retain(|row| row.task == state.task.id);
    Ok(held)
}
