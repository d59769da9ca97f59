//! The schema of a state database for people who look after it: how far it is, bringing it up to date, repairing it.

use std::collections::BTreeMap;
use std::fmt;

use crate::database::{DatabaseError, Part, parts};
use crate::location::Location;
use crate::migrations::{Found, Migration, migrate, statements};
use crate::sql::{Pool, is_no_table, query};

/// One migration, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Part of the schema.
    pub part: String,
    /// Ascending from 1 in each part.
    pub version: i64,
    /// How far it has come.
    pub progress: Progress,
}

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not begun.
    Missing,
    /// Begun, and broken off or under way.
    Partial {
        /// Statements that are done.
        done: i64,
        /// Statements it has.
        of: usize,
    },
    /// Done.
    Complete,
    /// Made by a later release.
    Unknown,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Partial { done, of } => write!(f, "{done} of {of} statements done"),
            Self::Complete => f.write_str("complete"),
            Self::Unknown => f.write_str("of a later release"),
        }
    }
}

/// All migrations, by part and version. Makes nothing, and may be asked while servers run.
pub async fn status(location: &Location) -> Result<Vec<Step>, DatabaseError> {
    let mut steps = Vec::new();
    for part in parts(location, false).await? {
        let noted = noted(&part.pool).await.map_err(|source| DatabaseError::Open {
            place: part.place.clone(),
            source,
        })?;
        for migrations in &part.migrations {
            steps.extend(compared(migrations, &noted));
        }
        part.pool.close().await;
    }
    Ok(steps)
}

/// Does what is missing, as a server does when it starts; makes a file that is not there.
pub async fn up(location: &Location) -> Result<(), DatabaseError> {
    run(location, Found::IsAnError).await
}

/// The same where a database holds more than it has noted, as after it was put together from backups: a table or row that is
/// there already is taken for made.
pub async fn repair(location: &Location) -> Result<(), DatabaseError> {
    run(location, Found::WillDo).await
}

async fn run(location: &Location, found: Found) -> Result<(), DatabaseError> {
    for Part {
        place,
        pool,
        migrations,
    } in parts(location, true).await?
    {
        let done = migrate(&pool, &migrations, found).await;
        pool.close().await;
        done.map_err(|source| DatabaseError::Migrate { place, source })?;
    }
    Ok(())
}

/// Statements that are done of each migration, or none left to do.
type Noted = BTreeMap<(String, i64), Option<i64>>;

async fn noted(pool: &Pool) -> Result<Noted, sqlx::Error> {
    let all = query("SELECT part, version, statements, complete FROM schema_migration");
    let rows = match all.fetch_all(pool).await {
        Err(error) if is_no_table(&error) => return Ok(Noted::new()),
        rows => rows?,
    };
    let noted = rows.iter().map(|row| {
        let left = if row.get("complete")? {
            None
        } else {
            Some(row.get("statements")?)
        };
        Ok(((row.get("part")?, row.get("version")?), left))
    });
    noted.collect()
}

/// The migrations of one part, and what is noted beyond them.
fn compared(known: &[Migration], noted: &Noted) -> Vec<Step> {
    let step = |part: &str, version, progress| Step {
        part: part.to_owned(),
        version,
        progress,
    };
    let mut steps: Vec<_> = known
        .iter()
        .map(|migration| {
            let progress = match noted.get(&(migration.part.to_owned(), migration.version)) {
                None => Progress::Missing,
                Some(None) => Progress::Complete,
                Some(Some(done)) => Progress::Partial {
                    done: *done,
                    of: statements(migration.sql).len(),
                },
            };
            step(migration.part, migration.version, progress)
        })
        .collect();
    if let Some(last) = known.last() {
        let later = noted
            .keys()
            .filter(|(part, version)| part == last.part && *version > last.version);
        steps.extend(later.map(|(part, version)| step(part, *version, Progress::Unknown)));
    }
    steps
}
