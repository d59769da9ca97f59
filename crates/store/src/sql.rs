//! Statements, rows and transactions that are the same on SQLite and MySQL.
//!
//! A [`Query`] is text with `?` for its values, in the subset that both understand; it is bound to the one or the other
//! only when it is sent. What they do not share is in [`Dialect`].

mod batch;
mod dialect;
mod literal;
mod patience;
mod pool;
mod retry;
mod row;
mod transaction;
mod value;

use sqlx::{AssertSqlSafe, MySql, SqlSafeStr, SqlStr, Sqlite};

pub(crate) use batch::Batch;
pub use dialect::Dialect;
pub(crate) use dialect::{Trouble, is_no_table, is_there_already, trouble, waited_in_vain, was_in_the_way};
use patience::{Patience, given_up};
pub use pool::{Connection, Pool};
pub(crate) use retry::{Failure, retried};
pub use row::{Column, Row};
pub use transaction::Transaction;
pub use value::Value;

/// A statement and its values.
#[derive(Clone, Debug)]
pub struct Query<'q> {
    text: SqlStr,
    values: Vec<Value<'q>>,
    /// Whether the connection keeps it prepared.
    kept: bool,
    /// How long a server may take to answer it.
    patience: Patience,
}

/// A statement; its values are bound in the order of their marks.
pub fn query<'q>(text: impl SqlSafeStr) -> Query<'q> {
    Query {
        text: text.into_sql_str(),
        values: Vec::new(),
        kept: true,
        patience: Patience::Usual,
    }
}

/// A statement put together from parts of ours, never from what somebody sent: that is bound.
pub(crate) fn composed<'q>(text: String) -> Query<'q> {
    query(AssertSqlSafe(text))
}

/// `count` marks with commas between them.
pub(crate) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Where a statement goes: into a transaction, or to a pool to be one of its own.
#[derive(Debug)]
pub enum Target<'t> {
    /// Into a transaction.
    Transaction(&'t mut Transaction),
    /// To any connection of a pool.
    Pool(&'t Pool),
}

impl<'t> From<&'t mut Transaction> for Target<'t> {
    fn from(transaction: &'t mut Transaction) -> Self {
        Self::Transaction(transaction)
    }
}

impl<'t> From<&'t Pool> for Target<'t> {
    fn from(pool: &'t Pool) -> Self {
        Self::Pool(pool)
    }
}

/// Sends a query by the method of sqlx's that is named, on whatever the target is.
macro_rules! send {
    ($query:expr, $target:expr, $method:ident) => {
        match $target.into() {
            Target::Transaction(transaction) => match transaction.send($query).await? {
                (Connection::Sqlite(it), query) => query.sqlite().$method(&mut **it).await?.into(),
                (Connection::MySql(it), query) => asked!(query, it, $method),
            },
            Target::Pool(Pool::Sqlite(it)) => $query.sqlite().$method(it).await?.into(),
            Target::Pool(Pool::MySql(it)) => {
                let mut it = it.acquire().await?;
                asked!($query, &mut it, $method)
            }
        }
    };
}

/// The same on a connection to a server, which has to answer in time.
macro_rules! asked {
    ($query:expr, $connection:expr, $method:ident) => {{
        let (patience, connection) = ($query.patience, $connection);
        let answer = patience.answer($query.mysql().$method(&mut **connection)).await;
        answer.map_err(|error| given_up(connection, error))?.into()
    }};
}

impl<'q> Query<'q> {
    /// Gives the next mark its value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Not kept prepared: its text is hardly ever the same.
    #[must_use]
    pub(crate) fn once(mut self) -> Self {
        self.kept = false;
        self
    }

    /// Waited for as long as it takes: it may rewrite a whole table.
    #[must_use]
    pub(crate) fn however_long(mut self) -> Self {
        self.patience = Patience::Endless;
        self
    }

    /// Independent of what its values were taken from.
    pub(crate) fn into_owned(self) -> Query<'static> {
        Query {
            text: self.text,
            values: self.values.into_iter().map(Value::into_owned).collect(),
            kept: self.kept,
            patience: self.patience,
        }
    }

    /// Runs it; how many rows it changed, or matched where they were like that already.
    pub async fn execute(self, target: impl Into<Target<'_>>) -> Result<u64, sqlx::Error> {
        match target.into() {
            // SQLite counts what the whole message changed.
            Target::Transaction(transaction) if transaction.dialect() == Dialect::Sqlite => {
                let changed = transaction.execute_all(vec![self]).await?;
                Ok(changed.last().copied().unwrap_or_default())
            }
            Target::Transaction(transaction) => self.execute_once(transaction).await,
            Target::Pool(pool) => retried(|| self.clone().execute_once(pool)).await,
        }
    }

    async fn execute_once(self, target: impl Into<Target<'_>>) -> Result<u64, sqlx::Error> {
        let done: Done = send!(self, target, execute);
        Ok(done.rows)
    }

    /// All rows it gives.
    pub async fn fetch_all(self, target: impl Into<Target<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        let rows: Rows = send!(self, target, fetch_all);
        Ok(rows.0)
    }

    /// The first row it gives, if any.
    pub async fn fetch_optional(self, target: impl Into<Target<'_>>) -> Result<Option<Row>, sqlx::Error> {
        let row: First = send!(self, target, fetch_optional);
        Ok(row.0)
    }

    /// The first row it gives.
    pub async fn fetch_one(self, target: impl Into<Target<'_>>) -> Result<Row, sqlx::Error> {
        self.fetch_optional(target).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// Binds the values for one of the two.
macro_rules! bound {
    ($query:expr) => {
        $query.values.into_iter().fold(
            sqlx::query($query.text).persistent($query.kept),
            |bound, value| match value {
                Value::Null => bound.bind(None::<i64>),
                Value::Bool(value) => bound.bind(value),
                Value::Integer(value) => bound.bind(value),
                Value::Text(value) => bound.bind(value),
            },
        )
    };
}

type Bound<'q, DB> = sqlx::query::Query<'q, DB, <DB as sqlx::Database>::Arguments>;

impl<'q> Query<'q> {
    fn sqlite(self) -> Bound<'q, Sqlite> {
        bound!(self)
    }

    fn mysql(self) -> Bound<'q, MySql> {
        bound!(self)
    }
}

struct Done {
    rows: u64,
}

struct Rows(Vec<Row>);

struct First(Option<Row>);

/// What each of the two answers, as [`Done`], [`Rows`] and [`First`].
macro_rules! answers {
    ($result:ty, $row:ty, $variant:ident) => {
        impl From<$result> for Done {
            fn from(result: $result) -> Self {
                Self {
                    rows: result.rows_affected(),
                }
            }
        }

        impl From<Vec<$row>> for Rows {
            fn from(rows: Vec<$row>) -> Self {
                Self(rows.into_iter().map(Row::$variant).collect())
            }
        }

        impl From<Option<$row>> for First {
            fn from(row: Option<$row>) -> Self {
                Self(row.map(Row::$variant))
            }
        }
    };
}
answers!(sqlx::sqlite::SqliteQueryResult, sqlx::sqlite::SqliteRow, Sqlite);
answers!(sqlx::mysql::MySqlQueryResult, sqlx::mysql::MySqlRow, MySql);
