//! Tasks in lists, their logs, and the end of both.

use super::{Suite, commit, create, draft, next, reload, root};
use crate::core::{Command, Draft};
use crate::state::{SubtaskOperation, TaskState, TaskStatus, TaskType};
use crate::store::{LogChunk, Page, SortKey, Store, StoreError, TaskFilter};
use crate::submission::Lock;

pub(super) async fn lists<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let mut ids = Vec::new();
    for number in 0..5_i64 {
        let named = Draft {
            host_id: Some(number % 2),
            cluster_id: Some(77),
            ..draft(&format!("Listed 100%_{number}"))
        };
        ids.push(create(store, named).await?.task.id);
    }
    let of_cluster = TaskFilter {
        cluster_id: Some(77),
        size: 2,
        ..TaskFilter::default()
    };
    let newest = store.list(&of_cluster).await?;
    assert_eq!(newest.total, 5);
    let shown = |page: &Page<TaskState>| page.items.iter().map(|state| state.task.id).collect::<Vec<_>>();
    assert_eq!(shown(&newest), [ids[4], ids[3]]);
    assert_eq!(newest.items[0], reload(store, ids[4]).await?, "lists carry whole tasks");
    let last = store
        .list(&TaskFilter {
            page: 3,
            ..of_cluster.clone()
        })
        .await?;
    assert_eq!(shown(&last), [ids[0]]);
    let beyond = store
        .list(&TaskFilter {
            page: u32::MAX,
            ..of_cluster.clone()
        })
        .await?;
    assert_eq!((shown(&beyond).len(), beyond.total), (0, 5));
    let by_name = TaskFilter {
        sort: SortKey::Name,
        ascending: true,
        size: 1,
        ..of_cluster.clone()
    };
    assert_eq!(shown(&store.list(&by_name).await?), [ids[0]]);

    let total = |filter: TaskFilter| async move { Ok::<_, StoreError>(store.list(&filter).await?.total) };
    let fuzzy = |name: &str| TaskFilter {
        name: Some(name.into()),
        ..of_cluster.clone()
    };
    assert_eq!(total(fuzzy("listed 100%_")).await?, 5, "names are found in any case");
    assert_eq!(total(fuzzy("100__")).await?, 0, "wildcards mean themselves");
    assert_eq!(
        total(TaskFilter {
            host_id: Some(1),
            ..of_cluster.clone()
        })
        .await?,
        2
    );
    let with_status = |status: Vec<TaskStatus>| TaskFilter {
        status,
        ..of_cluster.clone()
    };
    assert_eq!(
        total(with_status(vec![TaskStatus::Failed, TaskStatus::Running])).await?,
        5
    );
    assert_eq!(total(with_status(vec![TaskStatus::Failed])).await?, 0);
    assert_eq!(
        total(TaskFilter {
            task_type: Some(TaskType::Scheduled),
            ..of_cluster.clone()
        })
        .await?,
        0
    );
    Ok(())
}

pub(super) async fn logs<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let state = create(store, draft("logged")).await?;
    let (subtask, _) = root(&state);
    let chunk = |epoch: i64, seq: i64, text: &str| LogChunk {
        task: state.task.id,
        subtask,
        epoch,
        operation: SubtaskOperation::Execute,
        run_time: 1,
        seq,
        at: 5,
        text: text.to_owned(),
    };
    assert_eq!(store.read_log(subtask).await?, "");
    store
        .append_logs(&[chunk(2, 0, "second attempt"), chunk(1, 0, "first\n多行")])
        .await?;
    store.append_logs(&[chunk(1, 1, "then")]).await?;
    assert_eq!(store.read_log(subtask).await?, "first\n多行\nthen\nsecond attempt");

    let mut paged = Vec::new();
    while let Some(next) = store
        .log_chunks(subtask, paged.last().map(|last: &LogChunk| (last.epoch, last.seq)), 1)
        .await?
        .pop()
    {
        paged.push(next);
    }
    assert_eq!(
        paged,
        [
            chunk(1, 0, "first\n多行"),
            chunk(1, 1, "then"),
            chunk(2, 0, "second attempt")
        ]
    );
    Ok(())
}

/// All its tasks end at 2000.
pub(super) async fn prunes_only_what_is_over<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    while store.prune(i64::MAX, 100).await? > 0 {}
    let running = create(store, draft("running")).await?;
    let cancelled = || Command::CancelTask { actor: "ann".into() };
    let mut failed = create(
        store,
        Draft {
            locks: vec![Lock::exclusive("pruned", 1)],
            ..draft("failed")
        },
    )
    .await?;
    let decision = next(&failed, cancelled());
    commit(store, &failed, &decision, &[]).await?;
    failed = decision.state;
    let mut over = Vec::new();
    for number in 0..3 {
        let undo_on_failure = number > 0;
        let ends = Draft {
            undo_on_failure,
            ..draft(&format!("over {number}"))
        };
        let state = create(store, ends).await?;
        let cancelled = next(&state, cancelled());
        commit(store, &state, &cancelled, &[]).await?;
        let undone = next(
            &cancelled.state,
            Command::Rollback {
                actor: "ann".to_owned(),
            },
        );
        commit(store, &cancelled.state, &undone, &[]).await?;
        assert_eq!(undone.state.task.status == TaskStatus::Failed, undo_on_failure);
        over.push(undone.state);
    }
    let (subtask, epoch) = root(&over[0]);
    let text = LogChunk {
        task: over[0].task.id,
        subtask,
        epoch,
        operation: SubtaskOperation::Execute,
        run_time: 1,
        seq: 0,
        at: 5,
        text: "gone soon".to_owned(),
    };
    store.append_logs(&[text]).await?;

    let total = async || Ok::<_, StoreError>(store.list(&TaskFilter::default()).await?.total);
    let before = total().await?;
    assert_eq!(store.prune(2000, 100).await?, 0, "what ended then or later stays");
    assert_eq!(store.prune(2001, 2).await?, 2, "no more than asked for");
    assert_eq!(total().await?, before - 2);
    assert_eq!(store.load(over[0].task.id).await?, None, "the oldest first");
    assert_eq!(store.load(over[2].task.id).await?.as_ref(), Some(&over[2]));
    assert_eq!(store.events(over[0].task.id, 0, 100).await?, []);
    assert_eq!(store.read_log(subtask).await?, "");
    assert_eq!((store.prune(2001, 2).await?, store.prune(2001, 2).await?), (1, 0));
    for kept in [running, failed] {
        assert_eq!(reload(store, kept.task.id).await?, kept);
    }
    Ok(())
}
