//! Steps that several flows end with.

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
    let free = |proxy_id| InventoryChange::SetProxyStatus {
        proxy_id,
        status: ProxyStatus::Running,
        operate_status: OperateStatus::Normal,
    };
    Ok(Output::changes(ids.into_iter().map(free).collect()))
}
