//! Pages of tasks.

use obfleet_engine::{Page, SortKey, StoreError, TaskFilter, TaskState};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::codec::{get, unavailable};
use super::load::whole;

pub(super) async fn list(tx: &mut SqliteConnection, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
    let mut count = QueryBuilder::new("SELECT COUNT(*) AS total FROM task_instance");
    push_conditions(&mut count, filter);
    let row = count.build().fetch_one(&mut *tx).await.map_err(unavailable)?;
    let total: i64 = get(&row, "total")?;

    let mut query = QueryBuilder::new("SELECT * FROM task_instance");
    push_conditions(&mut query, filter);
    push_order(&mut query, filter);
    let before = i64::from(filter.page.saturating_sub(1)).saturating_mul(i64::from(filter.size));
    query
        .push(" LIMIT ")
        .push_bind(i64::from(filter.size))
        .push(" OFFSET ")
        .push_bind(before);
    let rows = query.build().fetch_all(&mut *tx).await.map_err(unavailable)?;
    Ok(Page {
        items: whole(tx, &rows).await?,
        total: total.unsigned_abs(),
    })
}

fn push_conditions(query: &mut QueryBuilder<Sqlite>, filter: &TaskFilter) {
    let mut word = " WHERE ";
    let mut next = |query: &mut QueryBuilder<Sqlite>, condition: &str| {
        query.push(std::mem::replace(&mut word, " AND ")).push(condition);
    };
    if let Some(name) = &filter.name {
        next(query, "LOWER(name) LIKE ");
        query
            .push_bind(format!("%{}%", escaped(&name.to_lowercase())))
            .push(" ESCAPE '!'");
    }
    if !filter.status.is_empty() {
        next(query, "state IN (");
        let mut statuses = query.separated(", ");
        for status in &filter.status {
            statuses.push_bind(status.as_str());
        }
        query.push(")");
    }
    if let Some(task_type) = filter.task_type {
        next(query, "type = ");
        query.push_bind(task_type.as_str());
    }
    if let Some(cluster) = filter.cluster_id {
        next(query, "cluster_id = ");
        query.push_bind(cluster);
    }
    if let Some(host) = filter.host_id {
        next(query, "host_id = ");
        query.push_bind(host);
    }
}

/// LIKE's wildcards mean themselves. The mark is not a backslash, which MySQL reads differently.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

fn push_order(query: &mut QueryBuilder<Sqlite>, filter: &TaskFilter) {
    let column = match filter.sort {
        SortKey::Id => "id",
        SortKey::Name => "name",
        SortKey::Status => "state",
        SortKey::StartTime => "create_time",
        SortKey::FinishTime => "end_time",
    };
    let direction = if filter.ascending { " ASC" } else { " DESC" };
    query.push(" ORDER BY ").push(column).push(direction);
    if filter.sort != SortKey::Id {
        query.push(", id").push(direction);
    }
}
