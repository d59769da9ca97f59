//! What a subtask's row holds, after moves that between them change every member of it.

use super::{Suite, commit, create, draft, env, reload};
use crate::action::OnCrash;
use crate::context::ContextDelta;
use crate::core::{Command, decide};
use crate::state::{Cause, Failure, SubtaskOperation, TaskState};
use crate::store::{Store, StoreError};

/// Crashes, retries and a rollback with an undo that fails: counters and reasons are kept, too.
pub(super) async fn every_member_of_a_row_is_kept<C: Send + Sync + 'static>(store: &dyn Store<C>) -> Suite {
    let mut draft = draft("rows");
    draft.nodes[0].on_crash = OnCrash::Resume;
    let new = create(store, draft).await?;
    let subtask = new.subtasks[0].id;
    let dead = [env(0).owner.incarnation].into();

    let claimed = moved(store, &new, 2000, Command::Claim { subtask }).await?;
    let crashed = moved(store, &claimed, 3000, Command::Orphan { dead }).await?;
    assert_eq!(crashed.subtasks[0].crash_count, 1);
    let retried = moved(store, &crashed, 4000, failed(&crashed)).await?;
    let row = &retried.subtasks[0];
    assert_eq!((row.run_time, row.operation), (2, SubtaskOperation::Retry));
    assert!(row.not_before.is_some() && row.failure.is_some());

    let again = moved(store, &retried, 5000, Command::Claim { subtask }).await?;
    let given_up = moved(store, &again, 6000, failed(&again)).await?;
    let actor = "ann".to_owned();
    let undoing = moved(store, &given_up, 7000, Command::Rollback { actor }).await?;
    assert_eq!(undoing.subtasks[0].operation, SubtaskOperation::Rollback);
    let undone_badly = moved(store, &undoing, 8000, failed(&undoing)).await?;
    assert_eq!(undone_badly.subtasks[0].undo_tries, 1);
    Ok(())
}

fn failed(state: &TaskState) -> Command {
    Command::Fail {
        subtask: state.subtasks[0].id,
        epoch: state.subtasks[0].epoch,
        failure: Failure {
            cause: Cause::Error,
            message: "测试".into(),
        },
        delta: ContextDelta::new(),
    }
}

/// Makes a move, and reads it back.
async fn moved<C: Send + Sync + 'static>(
    store: &dyn Store<C>,
    before: &TaskState,
    now_ms: i64,
    command: Command,
) -> Result<TaskState, StoreError> {
    let decision = decide(before, command, &env(now_ms)).expect("the command is admitted");
    commit(store, before, &decision, &[]).await?;
    assert_eq!(reload(store, before.task.id).await?, decision.state);
    Ok(decision.state)
}
