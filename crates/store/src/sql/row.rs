//! What a statement gives.

use sqlx::mysql::MySqlRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, MySql, Row as _, Sqlite, Type};

/// A row of either database.
pub enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of MySQL.
    MySql(MySqlRow),
}

/// Types that both databases hand out alike: `i64`, `bool`, texts, and each of them or nothing.
pub trait Column<'r>: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, MySql> + Type<MySql> {}

impl<'r, T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, MySql> + Type<MySql>> Column<'r> for T {}

impl Row {
    /// The value of a column.
    pub fn get<'r, T: Column<'r>>(&'r self, column: &str) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::MySql(row) => row.try_get(column),
        }
    }
}
