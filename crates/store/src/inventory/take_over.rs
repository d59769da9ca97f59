//! Passwords of proxies that are being taken over.

use obfleet_fleet::secrets::Sealed;

use crate::sql::{self, Pool, Transaction};

/// The password that is kept for a proxy.
pub(super) async fn password(pool: &Pool, proxy_id: i64) -> Result<Option<Sealed>, sqlx::Error> {
    let query = sql::query("SELECT password FROM take_over_password WHERE proxy_id = ?").bind(proxy_id);
    let row = query.fetch_optional(pool).await?;
    row.map(|row| Ok(Sealed::from_text(row.get("password")?))).transpose()
}

/// Keeps another one in its place, or none.
pub(super) async fn set_password(
    tx: &mut Transaction,
    proxy_id: i64,
    password: Option<&Sealed>,
) -> Result<(), sqlx::Error> {
    let delete = sql::query("DELETE FROM take_over_password WHERE proxy_id = ?").bind(proxy_id);
    delete.execute(&mut *tx).await?;
    if let Some(password) = password {
        let insert = sql::query("INSERT INTO take_over_password (proxy_id, password) VALUES (?, ?)");
        insert.bind(proxy_id).bind(password.text()).execute(tx).await?;
    }
    Ok(())
}
