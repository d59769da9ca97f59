//! What SQLite and MySQL do not share. Everything here is about one of the two; nothing anywhere else is.

use std::io;

/// Which of the two a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A file of one server's own.
    Sqlite,
    /// MySQL, MariaDB or OceanBase, for any number of servers.
    MySql,
}

/// MySQL's errors 1213, of a deadlock, and 1205, of a lock that was not given in time; OceanBase's 6002, of a transaction
/// that it has rolled back, 6224, of one that has to be, and 6211, of one that was killed.
const LOCKED_OUT: [u16; 5] = [1213, 1205, 6002, 6224, 6211];

/// MySQL's errors 1050, 1060, 1061 and 1062: the table, column, index or row is there already.
const THERE_ALREADY: [u16; 4] = [1050, 1060, 1061, 1062];

/// MySQL's error 1146: there is no such table.
const NO_TABLE: u16 = 1146;

/// MySQL's error 1205, of a lock that was not given in time, and OceanBase's 4012, of a statement that took too long.
const WAITED_IN_VAIN: [u16; 2] = [1205, 4012];

impl Dialect {
    /// Begins a transaction that writes. SQLite takes the write lock at once rather than on the first write, where waiting
    /// for it is not possible any more.
    pub(super) fn begin_writing(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::MySql => "BEGIN",
        }
    }

    /// Microseconds since the epoch by the database's clock.
    pub fn now_us(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            // The session's time zone is UTC, so that no hour occurs twice.
            Self::MySql => "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)",
        }
    }

    /// What makes a read wait for whoever is about to write the row. In SQLite there is one writer at a time anyway.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::MySql => " FOR UPDATE",
        }
    }

    /// What follows the columns of a new table: texts differ where their bytes do, on both.
    pub(crate) fn table_options(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::MySql => " DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        }
    }
}

/// Whether a transaction failed only because others were in its way: nothing of it stays, and it may be repeated.
pub(crate) fn was_in_the_way(error: &sqlx::Error) -> bool {
    mysql_error(error).is_some_and(|number| LOCKED_OUT.contains(&number) || WAITED_IN_VAIN.contains(&number))
}

/// What a COMMIT failed with. One that took too long may have happened, so this must not look like a statement that did not.
pub(super) fn of_commit(error: sqlx::Error) -> sqlx::Error {
    match mysql_error(&error) {
        Some(number) if WAITED_IN_VAIN.contains(&number) => sqlx::Error::Io(io::Error::other(error)),
        _ => error,
    }
}

/// Whether a statement of a migration has been run before.
pub(crate) fn is_there_already(error: &sqlx::Error) -> bool {
    match mysql_error(error) {
        Some(number) => THERE_ALREADY.contains(&number),
        // SQLite has a number for rows alone.
        None => error.as_database_error().is_some_and(|error| {
            error.is_unique_violation()
                || error.message().ends_with("already exists")
                || error.message().starts_with("duplicate column name")
        }),
    }
}

/// Whether a statement named a table that is not there.
pub(crate) fn is_no_table(error: &sqlx::Error) -> bool {
    match mysql_error(error) {
        Some(number) => number == NO_TABLE,
        None => error
            .as_database_error()
            .is_some_and(|error| error.message().starts_with("no such table")),
    }
}

/// Why nobody gets into a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nobody answers there.
    Away,
    /// The server does not let the user in.
    NoEntry,
    /// The server has no such database.
    NoDatabase,
    /// Anything else.
    Other,
}

/// Why a connection failed.
pub(crate) fn trouble(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Io(_) => Trouble::Away,
        error => match mysql_error(error) {
            Some(1045 | 1044 | 1698) => Trouble::NoEntry,
            Some(1049) => Trouble::NoDatabase,
            _ => Trouble::Other,
        },
    }
}

/// Whether a statement came to an end because it waited too long for a lock.
pub(crate) fn waited_in_vain(error: &sqlx::Error) -> bool {
    mysql_error(error).is_some_and(|number| WAITED_IN_VAIN.contains(&number))
}

fn mysql_error(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    let error = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some(error.number())
}
