//! Many rows in one statement: a task has dozens of steps, edges and events, and whoever submitted it waits for all of them.

use obfleet_engine::StoreError;

use crate::sql::{self, Query, Value};

/// Rows of one statement: few enough that the prepared statements, one for each number of rows, stay small.
const ROWS_PER_STATEMENT: usize = 32;

/// Statements that put `rows` `into` a table, as in `INSERT INTO pair`; `values` gives one row's values in the order of the
/// columns.
pub(super) fn inserts<'r, T, const N: usize>(
    into: &str,
    columns: [&str; N],
    rows: &'r [T],
    values: impl Fn(&'r T) -> Result<[Value<'r>; N], StoreError>,
) -> Result<Vec<Query<'r>>, StoreError> {
    let (columns, row_of_marks) = (columns.join(", "), format!("({})", sql::marks(N)));
    let insert = |rows: &'r [T]| {
        let marks = vec![&*row_of_marks; rows.len()].join(", ");
        let mut query = sql::composed(format!("{into} ({columns}) VALUES {marks}"));
        for row in rows {
            query = values(row)?.into_iter().fold(query, Query::bind);
        }
        Ok(query)
    };
    rows.chunks(ROWS_PER_STATEMENT).map(insert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;
    use crate::sql::Transaction;

    #[tokio::test]
    async fn every_row_is_inserted_once_whatever_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("state.db")).await.unwrap();
        let mut tx = database.writer().write().await.unwrap();
        let create = "CREATE TABLE pair (id BIGINT NOT NULL PRIMARY KEY, twice BIGINT NOT NULL)";
        sql::query(create).execute(&mut tx).await.unwrap();
        let pairs = async |tx: &mut Transaction| {
            let rows = sql::query("SELECT id, twice FROM pair ORDER BY id").fetch_all(tx);
            let rows = rows.await.unwrap();
            rows.iter()
                .map(|row| (row.get("id").unwrap(), row.get("twice").unwrap()))
                .collect::<Vec<(i64, i64)>>()
        };
        let columns = ["id", "twice"];
        let most = i64::try_from(ROWS_PER_STATEMENT).unwrap();
        let mut all = Vec::new();
        for count in [0, 1, most, 2 * most + 1] {
            let from = i64::try_from(all.len()).unwrap();
            let ids: Vec<i64> = (from..from + count).collect();
            all.extend(ids.iter().map(|id| (*id, 2 * id)));
            let inserts = inserts("INSERT INTO pair", columns, &ids, |id| {
                Ok([Value::Integer(*id), Value::Integer(2 * id)])
            });
            tx.execute_all(inserts.unwrap()).await.unwrap();
            assert_eq!(pairs(&mut tx).await, all);
        }

        let refused = inserts("INSERT INTO pair", columns, &[-1_i64, -2], |_| {
            Err(StoreError::Corrupt("no such row".to_owned()))
        });
        assert!(matches!(refused, Err(StoreError::Corrupt(_))));
    }
}
