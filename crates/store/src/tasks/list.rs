//! Pages of tasks.

use obfleet_engine::{Page, SortKey, StoreError, TaskFilter, TaskState};

use super::codec::{get, unavailable};
use super::load::readable;
use crate::sql::{self, Query, Transaction, Value};

/// How many tasks there are: ids are given without gaps, and what is deleted is counted.
pub(crate) const TOTAL: &str = "SELECT t.next_id - 1 - p.next_id AS total FROM id_sequence t, id_sequence p \
     WHERE t.name = 'task' AND p.name = 'pruned_task'";

pub(super) async fn list(tx: &mut Transaction, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
    let (conditions, values) = conditions(filter);
    let count = match conditions.as_str() {
        // A server would look at every task to count them.
        "" => sql::query(TOTAL),
        conditions => sql::composed(format!("SELECT COUNT(*) AS total FROM task_instance{conditions}")),
    };
    let count = values.iter().cloned().fold(count, Query::bind);
    let total: i64 = get(&count.fetch_one(&mut *tx).await.map_err(unavailable)?, "total")?;

    let order = order(filter);
    let page = sql::composed(format!(
        "SELECT * FROM task_instance{conditions} ORDER BY {order} LIMIT ? OFFSET ?"
    ));
    let before = i64::from(filter.page.saturating_sub(1)).saturating_mul(i64::from(filter.size));
    let page = values
        .into_iter()
        .fold(page, Query::bind)
        .bind(filter.size)
        .bind(before);
    let rows = page.fetch_all(&mut *tx).await.map_err(unavailable)?;
    let found = readable(tx, &rows).await?;
    for (task, reason) in found.unreadable {
        tracing::error!(%task, reason, "a page lacks a task that cannot be read");
    }
    Ok(Page {
        items: found.tasks,
        total: total.unsigned_abs(),
    })
}

/// A WHERE clause, or nothing, and its values.
fn conditions(filter: &TaskFilter) -> (String, Vec<Value<'static>>) {
    let mut conditions = Vec::new();
    let mut values: Vec<Value<'static>> = Vec::new();
    if let Some(name) = &filter.name {
        conditions.push("LOWER(name) LIKE ? ESCAPE '!'".to_owned());
        values.push(format!("%{}%", escaped(&name.to_lowercase())).into());
    }
    if !filter.status.is_empty() {
        conditions.push(format!("state IN ({})", sql::marks(filter.status.len())));
        values.extend(filter.status.iter().map(|status| Value::from(status.as_str())));
    }
    let equal = [
        ("type = ?", filter.task_type.map(|task_type| task_type.as_str().into())),
        ("cluster_id = ?", filter.cluster_id.map(Value::Integer)),
        ("host_id = ?", filter.host_id.map(Value::Integer)),
    ];
    for (condition, value) in equal {
        if let Some(value) = value {
            conditions.push(condition.to_owned());
            values.push(value);
        }
    }
    match filter.clusters.as_deref() {
        None => {}
        Some([]) => conditions.push("1 = 0".to_owned()),
        Some(clusters) => {
            conditions.push(format!("cluster_id IN ({})", sql::marks(clusters.len())));
            values.extend(clusters.iter().map(|cluster| Value::from(*cluster)));
        }
    }
    let clause = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    (clause, values)
}

/// LIKE's wildcards mean themselves. The mark is not a backslash, which MySQL reads differently.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

/// Columns to sort by; the id tells equals apart.
fn order(filter: &TaskFilter) -> String {
    let column = match filter.sort {
        SortKey::Id => "id",
        SortKey::Name => "name",
        SortKey::Status => "state",
        SortKey::StartTime => "create_time",
        SortKey::FinishTime => "end_time",
    };
    let direction = if filter.ascending { "ASC" } else { "DESC" };
    format!("{column} {direction}, id {direction}")
}
