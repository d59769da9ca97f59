//! Checks what a database holds of tasks, while servers go on writing to it.
//!
//! Each task is read in one transaction, which sees one moment; what looks wrong is read once more before anybody is told.
//! One task at a time is in memory.

use std::error::Error;

use obfleet_engine::core::{check_invariants, fsck};
use obfleet_engine::{StoreError, TaskId};

use crate::database::{DatabaseError, to_read};
use crate::location::Location;
use crate::schema::{self, Progress};
use crate::sql::{self, Pool, Row};
use crate::tasks::{TOTAL, with_events};

/// Ids read at a time.
const PAGE: i64 = 200;

/// What belongs to a task, by the table it is in.
const BELONGINGS: [(&str, &str); 4] = [
    ("resource_lock", "locks"),
    ("subtask_instance", "subtasks"),
    ("subtask_dependencies", "edges"),
    ("task_event", "events"),
];

/// Sequences of ids, and the tables they are for.
const SEQUENCES: [(&str, &str); 2] = [("task", "task_instance"), ("subtask", "subtask_instance")];

const REPAIR: &str = "stop all servers, keep a copy of the database, then put the rows back to what the events say, or \
                      restore a backup";

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub next_step: String,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Tasks.
    pub tasks: u64,
    /// Things that are wrong.
    pub findings: u64,
}

/// Why a database could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// It cannot be opened.
    #[error("there is nothing to check")]
    Database(#[from] DatabaseError),
    /// Its schema is another release's, or not complete.
    #[error(
        "the schema of {0} is not this release's; `obfleet migrate status` tells how far it is: check it by the release of \
         its servers, or after they have brought it up to date"
    )]
    Schema(Location),
    /// It failed.
    #[error("the database failed while it was checked; start again when it is back")]
    Store(#[source] StoreError),
}

impl From<sqlx::Error> for FsckError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError::Unavailable(error.into()))
    }
}

/// Looks at everything, and tells what is wrong as it finds it.
pub async fn check(location: &Location, mut tell: impl FnMut(Finding)) -> Result<Checked, FsckError> {
    let steps = schema::status(location).await?;
    if steps.iter().any(|step| step.progress != Progress::Complete) {
        return Err(FsckError::Schema(location.clone()));
    }
    let pool = to_read(location).await?;
    let mut checked = Checked::default();
    let mut tell = |finding| {
        checked.findings += 1;
        tell(finding);
    };
    checked.tasks = tasks(&pool, &mut tell).await?;
    for (table, belongings) in BELONGINGS {
        strays(&pool, table, belongings, &mut tell).await?;
    }
    for (sequence, table) in SEQUENCES {
        ids(&pool, sequence, table, &mut tell).await?;
    }
    total(&pool, &mut tell).await?;
    pool.close().await;
    Ok(checked)
}

/// Every task. → how many
async fn tasks(pool: &Pool, tell: &mut impl FnMut(Finding)) -> Result<u64, FsckError> {
    let (mut count, mut last) = (0, i64::MIN);
    loop {
        let page = sql::query("SELECT id FROM task_instance WHERE id > ? ORDER BY id LIMIT ?");
        let page = page.bind(last).bind(PAGE).fetch_all(pool).await?;
        for row in &page {
            last = row.get("id")?;
            count += 1;
            let first_look = task(pool, TaskId(last)).await?;
            if !first_look.is_empty() {
                task(pool, TaskId(last)).await?.into_iter().for_each(&mut *tell);
            }
        }
        if page.is_empty() {
            return Ok(count);
        }
    }
}

/// What is wrong with a task; nothing with one that has been deleted meanwhile.
async fn task(pool: &Pool, id: TaskId) -> Result<Vec<Finding>, FsckError> {
    let mut tx = pool.read().await?;
    let (state, events) = match with_events(&mut tx, id).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Vec::new()),
        Err(StoreError::Corrupt(reason)) => return Ok(vec![of_task(id, format!("it cannot be read: {reason}"))]),
        Err(error) => return Err(FsckError::Store(error)),
    };
    let of_events = fsck(&state, &events).err().map(|finding| with_sources(&finding));
    let by_itself = check_invariants(&state).err();
    let reasons = of_events.into_iter().chain(by_itself);
    Ok(reasons.map(|reason| of_task(id, reason)).collect())
}

fn of_task(id: TaskId, reason: String) -> Finding {
    Finding {
        object: format!("task {id}"),
        reason,
        next_step: REPAIR.to_owned(),
    }
}

fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What belongs to tasks that are not there.
async fn strays(pool: &Pool, table: &str, belongings: &str, tell: &mut impl FnMut(Finding)) -> Result<(), FsckError> {
    let select = |condition: &str| {
        sql::composed(format!(
            "SELECT DISTINCT x.task_id FROM {table} x LEFT JOIN task_instance t ON t.id = x.task_id \
             WHERE t.id IS NULL AND x.task_id {condition} ? ORDER BY x.task_id LIMIT ?"
        ))
    };
    let mut last = i64::MIN;
    loop {
        let page = select(">").bind(last).bind(PAGE).fetch_all(pool).await?;
        for row in &page {
            last = row.get("task_id")?;
            if select("=").bind(last).bind(PAGE).fetch_optional(pool).await?.is_some() {
                tell(Finding {
                    object: format!("the {belongings} of task {last}"),
                    reason: "there is no such task".to_owned(),
                    next_step: format!("keep a copy of the database, then DELETE FROM {table} WHERE task_id = {last}"),
                });
            }
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

/// Whether an id would be given twice.
async fn ids(pool: &Pool, sequence: &str, table: &str, tell: &mut impl FnMut(Finding)) -> Result<(), FsckError> {
    let mut tx = pool.read().await?;
    let highest = sql::composed(format!("SELECT COALESCE(MAX(id), 0) AS highest FROM {table}"));
    let highest: i64 = highest.fetch_one(&mut tx).await?.get("highest")?;
    let next = sql::query("SELECT next_id FROM id_sequence WHERE name = ?").bind(sequence);
    let next = next.fetch_optional(&mut tx).await?;
    let next: i64 = next.as_ref().map_or(Ok(0), |row: &Row| row.get("next_id"))?;
    if next <= highest {
        tell(Finding {
            object: format!("the ids of {sequence}s"),
            reason: format!("the next one would be {next}, but {highest} is given already"),
            next_step: format!(
                "stop all servers, then see to it that id_sequence has next_id {} for {sequence}",
                highest + 1
            ),
        });
    }
    Ok(())
}

/// Whether lists tell how many tasks there are.
async fn total(pool: &Pool, tell: &mut impl FnMut(Finding)) -> Result<(), FsckError> {
    let mut tx = pool.read().await?;
    let told = sql::query(TOTAL).fetch_optional(&mut tx).await?;
    let told: Option<i64> = told.as_ref().map(|row| row.get("total")).transpose()?;
    let counted = sql::query("SELECT COUNT(*) AS total FROM task_instance")
        .fetch_one(&mut tx)
        .await?;
    let counted: i64 = counted.get("total")?;
    if told != Some(counted) {
        let told = told.map_or_else(|| "nothing".to_owned(), |told| told.to_string());
        tell(Finding {
            object: "the number of tasks".to_owned(),
            reason: format!("lists tell {told}, and there are {counted}"),
            next_step: "stop all servers, then see to it that in id_sequence next_id of task less 1 less next_id of \
                        pruned_task is the number of rows of task_instance"
                .to_owned(),
        });
    }
    Ok(())
}
