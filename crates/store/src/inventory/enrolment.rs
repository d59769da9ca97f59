//! Taking up a host by a token, once: a new one, or the one the token is for.

use obfleet_fleet::inventory::{Host, HostPlace};

use super::news::{self, News};
use super::rows::word;
use super::{host, site, take_id};
use crate::sql::{self, Transaction};

/// The id of the host, new or known by its uid; `None` when the token is used up or unknown. `facts` are the host's as JSON.
pub(super) async fn enrol(
    tx: &mut Transaction,
    token_id: &str,
    host: &Host,
    facts: &str,
) -> Result<Option<i64>, sqlx::Error> {
    let used = sql::query("UPDATE enrol_token SET used = TRUE WHERE id = ? AND used = FALSE").bind(token_id);
    if used.execute(&mut *tx).await? == 0 {
        return Ok(None);
    }
    let token = sql::query("SELECT host_id, idc_id, type_id FROM enrol_token WHERE id = ?").bind(token_id);
    let token = token.fetch_one(&mut *tx).await?;
    let place = HostPlace {
        idc_id: token.get("idc_id")?,
        type_id: token.get("type_id")?,
    };
    let known = sql::query("SELECT id FROM host WHERE host_uid = ?").bind(&host.facts.host_uid);
    let known: Option<i64> = known
        .fetch_optional(&mut *tx)
        .await?
        .map(|row| row.get("id"))
        .transpose()?;
    let id = match (token.get("host_id")?, known) {
        (Some(meant), known) => {
            // Neither one that is gone by now, nor with the agent of another one.
            if host::is_deleted(&mut *tx, meant).await? || known.is_some_and(|known| known != meant) {
                return Ok(None);
            }
            update(&mut *tx, meant, host, facts).await?;
            meant
        }
        (None, Some(id)) => {
            update(&mut *tx, id, host, facts).await?;
            id
        }
        (None, None) => {
            let place = site::still_there(&mut *tx, place).await?;
            let id = take_id(&mut *tx).await?;
            insert(&mut *tx, id, host, facts, place).await?;
            id
        }
    };
    news::tell(tx, News::Host(id));
    Ok(Some(id))
}

async fn update(tx: &mut Transaction, id: i64, host: &Host, facts: &str) -> Result<(), sqlx::Error> {
    let query = sql::query(
        "UPDATE host SET host_uid = ?, facts = ?, address = ?, agent_port = ?, agent_version = ?, online = ?, updated_at = ?, \
         deleted = FALSE WHERE id = ?",
    );
    let query = query
        .bind(&host.facts.host_uid)
        .bind(facts)
        .bind(&host.address)
        .bind(host.agent_port)
        .bind(&host.agent_version);
    let query = query.bind(host.online).bind(host.updated.millis()).bind(id);
    query.execute(tx).await.map(drop)
}

async fn insert(tx: &mut Transaction, id: i64, host: &Host, facts: &str, place: HostPlace) -> Result<(), sqlx::Error> {
    let query = sql::query(
        "INSERT INTO host (id, host_uid, facts, address, agent_port, agent_version, online, reserved, idc_id, type_id, \
         kind, ssh_port, stage, deleted, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, FALSE, ?, ?)",
    );
    let query = query
        .bind(id)
        .bind(&host.facts.host_uid)
        .bind(facts)
        .bind(&host.address);
    let query = query.bind(host.agent_port).bind(&host.agent_version).bind(host.online);
    let query = query.bind(host.reserved).bind(place.idc_id).bind(place.type_id);
    let query = query
        .bind(word(&host.profile.kind))
        .bind(host.profile.ssh_port)
        .bind(word(&host.stage));
    let query = query.bind(host.created.millis()).bind(host.updated.millis());
    query.execute(tx).await.map(drop)
}
