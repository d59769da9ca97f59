//! What several flows end with, on their way forward or back.

use futures::FutureExt as _;
use obfleet_engine::{Attempt, Output};
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus};

use super::{
    crew::{Crew, proxy_id, proxy_ids},
    step::{Step, StepResult},
};
use crate::inventory::InventoryChange;

/// *Update obproxy status*.
pub const UPDATE_STATUS: &str = "com.alipay.ocp.service.task.business.obproxy.UpdateObproxyStatusTask";

/// The steps.
pub fn steps() -> Vec<Step> {
    vec![Step::new(
        UPDATE_STATUS,
        "Update obproxy status",
        300,
        |crew, attempt| update_status(crew, attempt).boxed(),
    )]
}

/// The proxies serve and are free again.
async fn update_status(_: &Crew, attempt: &Attempt) -> StepResult {
    let ids = match attempt.parallel_idx() {
        Some(_) => vec![proxy_id(attempt)?],
        None => proxy_ids(attempt)?,
    };
    Ok(Output::changes(ids.into_iter().map(free).collect()))
}

/// The proxies the task holds are free again, whatever it came to: also those whose branch never began, and so undoes
/// nothing by itself.
pub async fn release(crew: &Crew, attempt: &Attempt) -> StepResult {
    let ids = proxy_ids(attempt)?;
    let proxies = crew.inventory.proxies().await?.into_iter();
    let held = proxies.filter(|proxy| ids.contains(&proxy.id) && proxy.operate_status == OperateStatus::Operating);
    Ok(Output::changes(held.map(|proxy| free(proxy.id)).collect()))
}

fn free(proxy_id: i64) -> InventoryChange {
    InventoryChange::SetProxyStatus {
        proxy_id,
        status: ProxyStatus::Running,
        operate_status: OperateStatus::Normal,
    }
}
