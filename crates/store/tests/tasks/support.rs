//! A domain with one kind of change: a note.

use std::path::Path;

use async_trait::async_trait;
use obfleet_engine::TaskId;
use obfleet_store::{ApplyError, ChangeApplier, Database, TaskStore};
use sqlx::{Row as _, SqliteConnection};

/// Writes notes into a table of its own, once each: a second note of the same task and text is refused.
pub struct Notes;

#[async_trait]
impl ChangeApplier<String> for Notes {
    async fn apply(&self, tx: &mut SqliteConnection, task: TaskId, note: &String) -> Result<(), ApplyError> {
        let insert = sqlx::query("INSERT INTO notes (task_id, note) VALUES (?, ?)")
            .bind(task.0)
            .bind(note);
        match insert.execute(tx).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(ApplyError::Refused(format!("{note:?} is noted already")))
            }
            other => Ok(other.map(drop)?),
        }
    }
}

pub async fn open(directory: &Path) -> (Database, TaskStore<String>) {
    let database = Database::open(&directory.join("state.db")).await.unwrap();
    sqlx::query("CREATE TABLE IF NOT EXISTS notes (task_id BIGINT, note VARCHAR(128), PRIMARY KEY (task_id, note))")
        .execute(database.writer())
        .await
        .unwrap();
    let store = database.task_store(Notes);
    (database, store)
}

pub async fn notes(database: &Database) -> Vec<String> {
    let rows = sqlx::query("SELECT note FROM notes ORDER BY note")
        .fetch_all(database.readers())
        .await
        .unwrap();
    rows.iter().map(|row| row.get("note")).collect()
}
