//! Statements about the rows that have some ids.

use crate::sql::{self, Query};

/// Ids of one statement.
pub(super) const IDS: usize = 500;

/// The statement that ends with `IN` so many ids, which are bound last.
pub(super) fn among(statement: &str, count: usize) -> Query<'static> {
    let query = sql::composed(format!("{statement} IN ({})", sql::marks(count)));
    // One id comes again and again; every other number of them would be a statement of its own.
    if count == 1 { query } else { query.once() }
}

/// Gives the next marks these values.
pub(super) fn bind_all<'q>(query: Query<'q>, ids: &[i64]) -> Query<'q> {
    ids.iter().fold(query, |query, id| query.bind(*id))
}
