//! What several flows end with, on their way forward or back.

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Output};
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus};

use super::{
    crew::{Crew, proxy_id, proxy_ids},
    keys,
    step::{Step, StepResult},
};
use crate::inventory::InventoryChange;

/// *Update obproxy status*.
pub const UPDATE_STATUS: &str = "com.alipay.ocp.service.task.business.obproxy.UpdateObproxyStatusTask";

/// The steps.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(UPDATE_STATUS, "Update obproxy status", 300, |crew, attempt| {
            update_status(crew, attempt).boxed()
        })
        .undone_by(|crew, attempt| during_status(crew, attempt).boxed()),
    ]
}

/// The proxies of the branch, or all.
fn of_branch(attempt: &Attempt) -> Result<Vec<i64>, ActionError> {
    match attempt.parallel_idx() {
        Some(_) => Ok(vec![proxy_id(attempt)?]),
        None => proxy_ids(attempt),
    }
}

/// The proxies do what the task wants of them; where it has no step that frees them, they serve and are free again.
async fn update_status(_: &Crew, attempt: &Attempt) -> StepResult {
    let ids = of_branch(attempt)?;
    let changes = match attempt.find_string(keys::TO_STATUS) {
        Some(to) => held(ids, status(to)?),
        None => ids.into_iter().map(|id| free(id, ProxyStatus::Running)).collect(),
    };
    Ok(Output::changes(changes))
}

/// The proxies are under way again.
async fn during_status(_: &Crew, attempt: &Attempt) -> StepResult {
    match attempt.find_string(keys::DURING_STATUS) {
        Some(during) => Ok(Output::changes(held(of_branch(attempt)?, status(during)?))),
        None => Ok(Output::nothing()),
    }
}

/// The proxies the task holds are free again, and what they were, whatever it came to: also those whose branch never began,
/// and so undoes nothing by itself.
pub async fn release(crew: &Crew, attempt: &Attempt) -> StepResult {
    let before = match attempt.list(keys::FROM_STATUSES) {
        Ok(statuses) => statuses
            .iter()
            .map(|text| status(text))
            .collect::<Result<Vec<_>, _>>()?,
        // Such a task takes only what serves, or an earlier release began it.
        Err(_) => Vec::new(),
    };
    let fleet = crew.inventory.snapshot().await?;
    let is_held = |id| {
        let proxy = fleet.proxies.get(&id);
        proxy.is_some_and(|proxy| proxy.operate_status == OperateStatus::Operating)
    };
    let ids = proxy_ids(attempt)?.into_iter().enumerate();
    let freed = ids.filter(|(_, id)| is_held(*id)).map(|(index, id)| {
        let before = before.get(index).copied();
        free(id, before.unwrap_or(ProxyStatus::Running))
    });
    Ok(Output::changes(freed.collect()))
}

/// A status of the context.
pub fn status(text: &str) -> Result<ProxyStatus, ActionError> {
    serde_json::from_value(text.into())
        .map_err(|_| ActionError::new(format!("the context holds '{text}' where a status belongs")))
}

fn held(ids: Vec<i64>, status: ProxyStatus) -> Vec<InventoryChange> {
    let held = |proxy_id| InventoryChange::SetProxyStatus {
        proxy_id,
        status,
        operate_status: OperateStatus::Operating,
    };
    ids.into_iter().map(held).collect()
}

fn free(proxy_id: i64, status: ProxyStatus) -> InventoryChange {
    InventoryChange::SetProxyStatus {
        proxy_id,
        status,
        operate_status: OperateStatus::Normal,
    }
}
