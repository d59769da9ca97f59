//! What every [`Store`] must do, whatever is under it.

mod history;
mod leases;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;

use crate::action::{OnCrash, RetryMode};
use crate::context::{CONTEXT_LIMIT, Context, ContextDelta};
use crate::core::{Classes, Command, Decision, Draft, Env, decide, fsck};
use crate::state::{Graph, Owner, SubtaskId, SubtaskSpec, TaskId, TaskState, TaskStatus, TaskType};
use crate::store::{Commit, Created, NewTask, Store, StoreError, TaskFilter, nonce};
use crate::submission::Lock;
use history::{lists, logs, prunes_only_what_is_over};
use leases::{
    LONG, a_lease_that_ran_out_writes_nothing, grant, leases_are_granted_renewed_and_ended, leases_run_out,
    only_the_holder_of_a_lease_writes, servers_see_what_is_due_and_what_is_held,
};
use rows::every_member_of_a_row_is_kept;

/// How many do the same thing at once.
const CONTENDERS: usize = 6;

type Suite = Result<(), StoreError>;

/// Runs the whole suite on an empty store. `change` is a domain change the store accepts. Panics where the store fails.
pub async fn conformance<C: Send + Sync + 'static>(store: &dyn Store<C>, change: C) -> Suite {
    grant(store, &env(0).owner, LONG, true).await?;
    creates_and_loads(store, change).await?;
    commits_by_compare_and_set(store).await?;
    tells_whether_a_commit_landed(store).await?;
    one_of_many_commits_wins(store).await?;
    one_of_many_holders_wins(store).await?;
    large_texts_are_kept(store).await?;
    ids_never_repeat(store).await?;
    locks_conflict(store).await?;
    client_tokens_name_one_task(store).await?;
    halts_are_kept(store).await?;
    every_member_of_a_row_is_kept(store).await?;
    lists(store).await?;
    logs(store).await?;
    prunes_only_what_is_over(store).await?;
    leases_are_granted_renewed_and_ended(store).await?;
    leases_run_out(store).await?;
    only_the_holder_of_a_lease_writes(store).await?;
    a_lease_that_ran_out_writes_nothing(store).await?;
    servers_see_what_is_due_and_what_is_held(store).await?;
    Ok(())
}

fn env(now_ms: i64) -> Env {
    let owner = Owner {
        server: "conformance".into(),
        incarnation: "1".into(),
    };
    Env {
        wall_ms: now_ms,
        steady_ms: now_ms,
        owner,
        executor: "127.0.0.1".into(),
        slots: 2,
        classes: Classes::All,
        cancel_grace_ms: 10_000,
    }
}

fn node(class_name: &str) -> SubtaskSpec {
    SubtaskSpec {
        name: format!("Name of {class_name}"),
        class_name: class_name.to_owned(),
        timeout_s: 30,
        prohibit_rollback: class_name == "final",
        retries: 1,
        undo_retries: 2,
        backoff_ms: 7,
        retry_mode: RetryMode::UndoThenRun,
        on_crash: OnCrash::Fail,
        barrier: false,
        parallel_idx: (class_name == "split").then_some(1),
        items: BTreeMap::new(),
    }
}

/// root → split, final
fn draft(name: &str) -> Draft {
    Draft {
        name: name.to_owned(),
        task_type: TaskType::Manual,
        creator: "admin".into(),
        cluster_id: None,
        host_id: None,
        client_token: None,
        request_digest: None,
        undo_on_failure: false,
        context: Context::new()
            .with("service_name", "测试 ✓")
            .with_list("host_ids", ["7", "8"]),
        locks: Vec::new(),
        nodes: vec![node("root"), node("split"), node("final")],
        graph: Arc::new(Graph::new(3, &[(0, 1), (0, 2)]).expect("edges go forward")),
    }
}

async fn create<C: Send + Sync + 'static>(store: &dyn Store<C>, draft: Draft) -> Result<TaskState, StoreError> {
    match store
        .create(NewTask {
            draft,
            env: &env(1000),
            changes: &[],
            nonce: nonce(),
        })
        .await?
    {
        Created::New(state, _) => Ok(*state),
        Created::Existing(task) => panic!("no token was given, yet task {task} was found"),
    }
}

async fn reload<C: Send + Sync + 'static>(store: &dyn Store<C>, task: TaskId) -> Result<TaskState, StoreError> {
    let state = store.load(task).await?.expect("the task is there");
    let events = store.events(task, 0, u32::MAX).await?;
    assert!(
        events.iter().map(|event| event.seq).eq(1..=state.task.rev),
        "events are dense up to the rev"
    );
    assert_eq!(fsck(&state, &events), Ok(()));
    Ok(state)
}

fn next(state: &TaskState, command: Command) -> Decision {
    decide(state, command, &env(2000)).expect("the command is admitted")
}

async fn commit<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    before: &TaskState,
    decision: &Decision,
    changes: &[C],
) -> Suite {
    store.commit(Commit::of(&env(0).owner, before, decision, changes)).await
}

async fn commit_by<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    author: &Owner,
    before: &TaskState,
    decision: &Decision,
) -> Suite {
    store.commit(Commit::of(author, before, decision, &[])).await
}

fn root(state: &TaskState) -> (SubtaskId, i64) {
    (state.subtasks[0].id, state.subtasks[0].epoch)
}

async fn creates_and_loads<C: Send + Sync + 'static>(store: &dyn Store<C>, change: C) -> Suite {
    let created = store
        .create(NewTask {
            draft: draft("created"),
            env: &env(1000),
            changes: &[change],
            nonce: nonce(),
        })
        .await?;
    let Created::New(state, events) = created else {
        panic!("no token was given")
    };
    assert_eq!(reload(store, state.task.id).await?, *state);
    assert_eq!(store.events(state.task.id, 0, 100).await?, events);
    assert_eq!(state.subtasks[1].spec.items["host_ids"], "8");
    assert!(store.load_running().await?.tasks.contains(&*state));
    assert!(store.load(TaskId(i64::MAX)).await?.is_none());
    Ok(())
}

async fn commits_by_compare_and_set<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let new = create(store, draft("committed")).await?;
    let (subtask, _) = root(&new);
    let claimed = next(&new, Command::Claim { subtask });
    commit(store, &new, &claimed, &[]).await?;
    assert_eq!(reload(store, new.task.id).await?, claimed.state);

    let again = commit(store, &new, &claimed, &[]).await;
    assert!(
        matches!(again, Err(StoreError::Stale)),
        "a second commit on the same rev must be stale: {again:?}"
    );
    assert_eq!(reload(store, new.task.id).await?, claimed.state);

    let (_, epoch) = root(&claimed.state);
    let checkpoint = Command::Checkpoint {
        subtask,
        epoch,
        key: "token".into(),
        value: "17 \"quoted\"".into(),
    };
    let noted = next(&claimed.state, checkpoint);
    commit(store, &claimed.state, &noted, &[]).await?;
    let delta = ContextDelta::new().with("port", "2883").with_items("added", ["a", "b"]);
    let finished = next(&noted.state, Command::Finish { subtask, epoch, delta });
    commit(store, &noted.state, &finished, &[]).await?;
    let reloaded = reload(store, new.task.id).await?;
    assert_eq!(reloaded, finished.state);
    assert_eq!(reloaded.subtasks[0].delta.set["port"], "2883");
    let later = store.events(new.task.id, noted.state.task.rev, 1).await?;
    assert_eq!(later, finished.events[..1], "events page by seq");
    Ok(())
}

async fn tells_whether_a_commit_landed<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let new = create(store, draft("landed")).await?;
    let (subtask, _) = root(&new);
    let claimed = next(&new, Command::Claim { subtask });
    let owner = env(0).owner;
    let (landed, lost) = (
        Commit::of(&owner, &new, &claimed, &[]),
        Commit::of(&owner, &new, &claimed, &[]),
    );
    let (seq, landed_nonce, lost_nonce) = (new.task.rev + 1, landed.nonce, lost.nonce);
    assert!(!store.landed(new.task.id, seq, landed_nonce).await?);
    store.commit(landed).await?;
    assert!(matches!(store.commit(lost).await, Err(StoreError::Stale)));
    assert!(store.landed(new.task.id, seq, landed_nonce).await?);
    assert!(
        !store.landed(new.task.id, seq, lost_nonce).await?,
        "the same events of another commit are not this one's"
    );
    Ok(())
}

/// The same step by many at once: exactly one does it.
async fn one_of_many_commits_wins<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let new = create(store, draft("contended")).await?;
    let (subtask, _) = root(&new);
    let claimed = next(&new, Command::Claim { subtask });
    let all = (0..CONTENDERS).map(|_| commit(store, &new, &claimed, &[]));
    let results = join_all(all).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    let stale = results
        .iter()
        .filter(|result| matches!(result, Err(StoreError::Stale)))
        .count();
    assert_eq!((won, stale), (1, CONTENDERS - 1), "{results:?}");
    assert_eq!(reload(store, new.task.id).await?, claimed.state);
    Ok(())
}

/// Many submissions at once for the same thing: exactly one gets it.
async fn one_of_many_holders_wins<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let wanting = || Draft {
        locks: vec![Lock::exclusive("contended", 1)],
        ..draft("contender")
    };
    let results = join_all((0..CONTENDERS).map(|_| create(store, wanting()))).await;
    let held = results.iter().filter(|result| result.is_ok()).count();
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(StoreError::Locked { .. })))
        .count();
    assert_eq!((held, refused), (1, CONTENDERS - 1), "{results:?}");
    Ok(())
}

async fn large_texts_are_kept<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let large = "语".repeat(CONTEXT_LIMIT / 3 - 100);
    let context = Context::new().with("large", &large);
    let state = create(
        store,
        Draft {
            context,
            ..draft("large")
        },
    )
    .await?;
    assert_eq!(reload(store, state.task.id).await?, state);
    Ok(())
}

async fn ids_never_repeat<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let first = create(store, draft("first")).await?;
    let second = create(store, draft("second")).await?;
    assert!(second.task.id > first.task.id);
    assert!(second.subtasks[0].id > first.subtasks[2].id);
    assert!(first.subtasks.windows(2).all(|pair| pair[0].id < pair[1].id));
    Ok(())
}

async fn locks_conflict<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let with = |name: &str, locks: Vec<Lock>| Draft { locks, ..draft(name) };
    let holder = create(
        store,
        with(
            "holder",
            vec![Lock::exclusive("obproxy", 1), Lock::shared("cluster", 1)],
        ),
    )
    .await?;
    assert_eq!(reload(store, holder.task.id).await?.task.locks.len(), 2);

    let before = store.list(&TaskFilter::default()).await?.total;
    for clash in [
        Lock::exclusive("obproxy", 1),
        Lock::shared("obproxy", 1),
        Lock::exclusive("cluster", 1),
    ] {
        match create(store, with("late", vec![Lock::exclusive("obproxy", 2), clash.clone()])).await {
            Err(StoreError::Locked { lock, task, task_name }) => {
                assert_eq!((lock, task, task_name.as_str()), (clash, holder.task.id, "holder"));
            }
            other => panic!("{clash:?} must be refused: {other:?}"),
        }
    }
    assert_eq!(
        store.list(&TaskFilter::default()).await?.total,
        before,
        "a refused task leaves nothing behind"
    );
    let beside = create(
        store,
        with(
            "beside",
            vec![Lock::exclusive("obproxy", 2), Lock::shared("cluster", 1)],
        ),
    )
    .await?;

    let done = run_to_the_end(store, holder).await?;
    assert_eq!(done.task.status, TaskStatus::Successful);
    assert!(reload(store, done.task.id).await?.task.locks.is_empty());
    let others = reload(store, beside.task.id).await?.task.locks;
    assert_eq!(others, beside.task.locks, "it has freed only its own");
    create(store, with("after", vec![Lock::exclusive("obproxy", 1)])).await?;
    Ok(())
}

async fn run_to_the_end<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    mut state: TaskState,
) -> Result<TaskState, StoreError> {
    for index in 0..state.subtasks.len() {
        let subtask = state.subtasks[index].id;
        if state.subtasks[index].owner.is_none() {
            let claimed = next(&state, Command::Claim { subtask });
            commit(store, &state, &claimed, &[]).await?;
            state = claimed.state;
        }
        let epoch = state.subtasks[index].epoch;
        let finished = next(
            &state,
            Command::Finish {
                subtask,
                epoch,
                delta: ContextDelta::new(),
            },
        );
        commit(store, &state, &finished, &[]).await?;
        state = finished.state;
    }
    Ok(state)
}

async fn client_tokens_name_one_task<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let with_token = || Draft {
        client_token: Some("token-1".into()),
        request_digest: Some("d1".into()),
        ..draft("tokened")
    };
    let first = create(store, with_token()).await?;
    let again = store
        .create(NewTask {
            draft: with_token(),
            env: &env(3000),
            changes: &[],
            nonce: nonce(),
        })
        .await?;
    assert_eq!(again, Created::Existing(first.task.id));
    assert_eq!(store.find_by_token("token-1").await?, Some(first.task.id));
    assert_eq!(store.find_by_token("token-2").await?, None);
    let kept = reload(store, first.task.id).await?.task;
    assert_eq!(kept.request_digest.as_deref(), Some("d1"));
    Ok(())
}

async fn halts_are_kept<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let mut state = create(store, draft("halted")).await?;
    let actor = || "ann".to_owned();
    for command in [
        Command::Pause { actor: actor() },
        Command::CancelTask { actor: actor() },
        Command::Abandon {
            actor: actor(),
            reason: "测试".into(),
        },
    ] {
        let decision = next(&state, command);
        commit(store, &state, &decision, &[]).await?;
        state = decision.state;
        assert_eq!(reload(store, state.task.id).await?, state);
    }
    Ok(())
}
