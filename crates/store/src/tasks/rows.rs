//! Many rows in one statement.
//!
//! Every statement is a round trip: to another thread for SQLite, over the network for other databases. A task has
//! dozens of steps, edges and events, and whoever submitted it waits for all of them.

use obfleet_engine::StoreError;
use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::codec::unavailable;

/// Rows of one statement: few enough that the prepared statements, one for each number of rows, stay small.
const ROWS_PER_STATEMENT: usize = 32;

/// `<into> VALUES (…), (…)`. `values` binds one row's columns in the order that `into` lists them.
pub(super) async fn insert_rows<T>(
    tx: &mut SqliteConnection,
    into: &'static str,
    rows: &[T],
    values: impl Fn(&mut Separated<'_, Sqlite, &'static str>, &T) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(into);
        let mut bound = Ok(());
        query.push_values(rows, |mut row, item| {
            if bound.is_ok() {
                bound = values(&mut row, item);
            }
        });
        bound?;
        query.build().execute(&mut *tx).await.map_err(unavailable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Row as _};

    use super::*;

    #[tokio::test]
    async fn every_row_is_inserted_once_whatever_their_number() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql("CREATE TABLE pair (id BIGINT NOT NULL PRIMARY KEY, twice BIGINT NOT NULL)")
            .execute(&mut connection)
            .await
            .unwrap();
        let pairs = async |connection: &mut SqliteConnection| {
            let rows = sqlx::query("SELECT id, twice FROM pair ORDER BY id").fetch_all(connection);
            let rows = rows.await.unwrap();
            rows.iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect::<Vec<(i64, i64)>>()
        };
        let into = "INSERT INTO pair (id, twice) ";
        let most = i64::try_from(ROWS_PER_STATEMENT).unwrap();
        let mut all = Vec::new();
        for count in [0, 1, most, 2 * most + 1] {
            let from = i64::try_from(all.len()).unwrap();
            let ids: Vec<i64> = (from..from + count).collect();
            all.extend(ids.iter().map(|id| (*id, 2 * id)));
            let inserted = insert_rows(&mut connection, into, &ids, |values, id| {
                values.push_bind(*id).push_bind(2 * id);
                Ok(())
            });
            inserted.await.unwrap();
            assert_eq!(pairs(&mut connection).await, all);
        }

        let refused = insert_rows(&mut connection, into, &[-1_i64, -2], |_, _| {
            Err(StoreError::Corrupt("no such row".to_owned()))
        });
        assert!(matches!(refused.await, Err(StoreError::Corrupt(_))));
        assert_eq!(pairs(&mut connection).await, all);
    }
}
