//! Statements on the store's own tables, run as they are.

use obfleet_mysqlwire::Column;

use super::Answer;
use crate::log::Level;
use crate::proxy::Proxy;

pub(super) async fn answer(proxy: &Proxy, sql: &str) -> Answer {
    let mut store = proxy.store.lock().await;
    let Some(store) = store.as_mut() else {
        return Answer::internal_error();
    };
    match store.run(sql).await {
        Ok((columns, _)) if columns.is_empty() && !sql.to_ascii_lowercase().starts_with("select") => Answer::Ok,
        Ok((columns, rows)) => Answer::Rows(columns.iter().map(|name| Column::text(name)).collect(), rows),
        Err(error) => {
            proxy.log.write(
                Level::Wdiag,
                format_args!("fail to run statement on config store: {error}"),
            );
            Answer::internal_error()
        }
    }
}
