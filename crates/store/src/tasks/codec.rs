//! Between columns and the engine's types.

use std::str::FromStr;
use std::sync::Arc;

use obfleet_engine::core::Event;
use obfleet_engine::state::{Subtask, Task};
use obfleet_engine::store::LogChunk;
use obfleet_engine::{Owner, StoreError, SubtaskId, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sql::{Column, Failure, Row};

pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Corrupt(error.to_string())
        }
        other => StoreError::Unavailable(Box::new(other)),
    }
}

/// As [`unavailable`] makes it.
impl Failure for StoreError {
    fn of_database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Unavailable(source) => source.downcast_ref(),
            _ => None,
        }
    }
}

fn corrupt(column: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("column {column}: {error}"))
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A column of any type that needs no more.
pub(super) fn get<'r, T: Column<'r>>(row: &'r Row, column: &str) -> Result<T, StoreError> {
    row.get(column).map_err(unavailable)
}

/// A column with one of an enum's spellings.
fn spelled<T: FromStr<Err: std::fmt::Display>>(row: &Row, column: &str) -> Result<T, StoreError> {
    let text: &str = get(row, column)?;
    text.parse().map_err(|error: T::Err| corrupt(column, &error))
}

fn spelled_or_null<T: FromStr<Err: std::fmt::Display>>(row: &Row, column: &str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = get(row, column)?;
    text.map(|text| text.parse().map_err(|error: T::Err| corrupt(column, &error)))
        .transpose()
}

fn from_json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    let text: &str = get(row, column)?;
    serde_json::from_str(text).map_err(|error| corrupt(column, &error))
}

fn from_json_or_null<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = get(row, column)?;
    text.map(|text| serde_json::from_str(text).map_err(|error| corrupt(column, &error)))
        .transpose()
}

fn count(row: &Row, column: &str) -> Result<u32, StoreError> {
    let number: i64 = get(row, column)?;
    u32::try_from(number).map_err(|error| corrupt(column, &error))
}

/// The task row; its locks are a table of their own.
pub(super) fn task(row: &Row) -> Result<Task, StoreError> {
    Ok(Task {
        id: TaskId(get(row, "id")?),
        rev: get(row, "rev")?,
        name: get(row, "name")?,
        task_type: spelled(row, "type")?,
        creator: get(row, "creator")?,
        executor: get(row, "executor")?,
        cluster_id: get(row, "cluster_id")?,
        host_id: get(row, "host_id")?,
        client_token: get(row, "client_token")?,
        request_digest: get(row, "request_digest")?,
        context: from_json(row, "context")?,
        status: spelled(row, "state")?,
        operation: spelled(row, "operation")?,
        outcome: spelled_or_null(row, "outcome")?,
        halt: spelled_or_null(row, "halt")?,
        locks: Vec::new(),
        undo_on_failure: get(row, "undo_on_failure")?,
        create_time: get(row, "create_time")?,
        end_time: get(row, "end_time")?,
    })
}

/// A subtask row and the task it belongs to.
pub(super) fn subtask(row: &Row) -> Result<(TaskId, Arc<Subtask>), StoreError> {
    let server: Option<String> = get(row, "owner_server")?;
    let incarnation: Option<String> = get(row, "owner_incarnation")?;
    let subtask = Subtask {
        id: SubtaskId(get(row, "id")?),
        series_id: count(row, "series_id")?,
        spec: from_json(row, "spec")?,
        status: spelled(row, "state")?,
        operation: spelled(row, "operation")?,
        run_time: count(row, "run_time")?,
        epoch: get(row, "epoch")?,
        crash_count: count(row, "crash_count")?,
        undo_tries: count(row, "undo_tries")?,
        owner: server
            .zip(incarnation)
            .map(|(server, incarnation)| Owner { server, incarnation }),
        executor: get(row, "executor")?,
        deadline_at: get(row, "deadline_at")?,
        not_before: get(row, "not_before")?,
        ready_from: spelled_or_null(row, "ready_from")?,
        start_time: get(row, "start_time")?,
        end_time: get(row, "end_time")?,
        delta: from_json(row, "ctx_delta")?,
        checkpoint: from_json(row, "checkpoint")?,
        failure: from_json_or_null(row, "failure")?,
    };
    Ok((TaskId(get(row, "task_id")?), Arc::new(subtask)))
}

pub(super) fn log_chunk(row: &Row) -> Result<LogChunk, StoreError> {
    Ok(LogChunk {
        task: TaskId(get(row, "task_id")?),
        subtask: SubtaskId(get(row, "subtask_id")?),
        epoch: get(row, "epoch")?,
        operation: spelled(row, "operation")?,
        run_time: count(row, "run_time")?,
        seq: get(row, "seq")?,
        at: get(row, "at")?,
        text: get(row, "content")?,
    })
}

pub(super) fn event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        seq: get(row, "seq")?,
        at: get(row, "at")?,
        by: Owner {
            server: get(row, "server")?,
            incarnation: get(row, "incarnation")?,
        },
        change: from_json(row, "payload")?,
    })
}
