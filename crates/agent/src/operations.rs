//! What the agent can be asked to do, one function an [`Operation`], by theme: [`install`] packages and homes,
//! proxies of others [`adopt`]ed, [`lifecycle`] of the process, [`cycle`] to another one, [`balance`] of clients, [`parameters`], what comes from the
//! [`config_server`], [`restart`] onto another binary.
//!
//! Each looks first and does what is left to do: any of them may be the second try of one that was cut off anywhere.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use obfleet_wire::agent::{Operation, Outcome};

use crate::{
    describe,
    layout::Layout,
    locks::Locks,
    packages::Packages,
    proxies::Registry,
    readings::Readings,
    runner::{Job, Perform},
};

mod adopt;
mod balance;
mod config_server;
mod create;
mod cycle;
mod error;
mod guarding;
mod install;
mod lifecycle;
mod parameters;
mod restart;
mod sys_password;
mod watchdogs;

use config_server::Wanted;
pub(crate) use error::OperationError;
use guarding::Target;
pub(crate) use lifecycle::remove_dir;
use restart::{Order, WayBack};

/// What operations that change something take turns on; those that only look do not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Thing {
    /// The slots and package files.
    Slots,
    /// A proxy.
    Proxy(i64),
    /// The start of a proxy's guard: two guards of one restart would fight.
    Guard(i64),
}

/// What operations, supervisor and janitor work on.
pub(crate) struct Node {
    pub(crate) layout: Layout,
    pub(crate) packages: Packages,
    pub(crate) registry: Arc<Registry>,
    /// The address proxies listen on unless their order names one.
    pub(crate) bind: IpAddr,
    pub(crate) things: Locks<Thing>,
    pub(crate) readings: Readings,
    /// Why proxies that ended by themselves do not start, by proxy.
    pub(crate) troubles: Mutex<BTreeMap<i64, String>>,
    /// The obfleet executable, whose `guard` command runs restarts.
    pub(crate) exe: PathBuf,
}

#[async_trait]
impl Perform for Node {
    async fn perform(&self, operation: Operation, job: &Job) -> Result<Outcome, String> {
        let turn = async {
            match thing_of(&operation) {
                Some(thing) => Some(self.things.lock(thing).await),
                None => None,
            }
        };
        let _turn = tokio::select! {
            turn = turn => turn,
            () = job.superseded() => return Err(describe(&OperationError::Superseded("waited for its turn"))),
        };
        let outcome = Box::pin(self.dispatch(operation, job)).await;
        outcome.map_err(|error| describe(&error))
    }
}

impl Node {
    /// Why the proxy does not start, if that is so.
    pub(crate) fn trouble(&self, proxy_id: i64) -> Option<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.get(&proxy_id).cloned()
    }

    /// Notes why the proxy does not start, or that it does.
    pub(crate) fn set_trouble(&self, proxy_id: i64, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => drop(troubles.insert(proxy_id, trouble)),
            None => drop(troubles.remove(&proxy_id)),
        }
    }

    async fn dispatch(&self, operation: Operation, job: &Job) -> Result<Outcome, OperationError> {
        match operation {
            Operation::CheckAbsent { spec } => self.check_absent(spec, job),
            Operation::InstallPackage { sha256, version } => self.install_package(sha256, version, job).await,
            Operation::RemoveSlot { version } => self.remove_slot(version, job).await,
            Operation::CreateProxy { spec, version } => self.create_proxy(spec, version, job).await,
            Operation::StartProxy { proxy_id, wait } => self.start_proxy(proxy_id, wait, job).await,
            Operation::StopProxy { proxy_id, drain } => self.stop_proxy(proxy_id, drain, job).await,
            Operation::CycleProxy { proxy_id, drain } => self.cycle_proxy(proxy_id, drain, job).await,
            Operation::AwaitServing { proxy_id, limit_ms } => {
                self.await_serving(proxy_id, Duration::from_millis(limit_ms), job).await
            }
            Operation::SetOnline {
                proxy_id,
                online,
                best_effort,
            } => self.set_online(proxy_id, online, best_effort, job).await,
            Operation::RemoveProxy { proxy_id, drain } => self.remove_proxy(proxy_id, drain, job).await,
            Operation::RestoreProxy { proxy_id, start } => self.restore_proxy(proxy_id, start, job).await,
            Operation::DiscardProxy { proxy_id } => self.discard_proxy(proxy_id, job).await,
            Operation::AdoptProxy { spec, passwords } => self.adopt_proxy(spec, passwords, job).await,
            Operation::ReleaseProxy { proxy_id, for_good } => self.release_proxy(proxy_id, for_good, job).await,
            Operation::RetireWatchdogs { proxy_id } => self.retire_watchdogs(proxy_id, job).await,
            Operation::ReviveWatchdogs { proxy_id } => self.revive_watchdogs(proxy_id, job).await,
            Operation::RestoreSysPassword { proxy_id } => self.restore_sys_password(proxy_id, job).await,
            Operation::Supervise { proxy_id, on } => self.supervise(proxy_id, on),
            Operation::SetParameters { proxy_id, values } => self.set_parameters(proxy_id, &values, job).await,
            Operation::SetSysPassword { proxy_id, password } => self.set_sys_password(proxy_id, &password, job).await,
            Operation::Inspect { proxy_id } => self.inspect(proxy_id).await,
            Operation::InspectConfig { proxy_id } => self.inspect_config(proxy_id).await,
            Operation::RefreshConfig {
                proxy_id,
                version,
                clusters,
                root_servers,
            } => {
                let wanted = Wanted {
                    version,
                    clusters,
                    root_servers,
                };
                self.refresh_config(proxy_id, &wanted, job).await
            }
            Operation::Preflight {
                proxy_id,
                version,
                method,
            } => self.preflight(proxy_id, &version, method, job).await,
            Operation::BackupConfig { proxy_id, version } => self.backup_config(proxy_id, &version, job).await,
            Operation::Restart {
                proxy_id,
                restart_id,
                version,
                method,
                drain,
                probe,
            } => {
                let target = Target {
                    version,
                    method,
                    drain,
                    probe,
                };
                let order = Order {
                    proxy_id,
                    restart_id,
                    target,
                };
                self.restart(order, job).await
            }
            Operation::AwaitRestart { proxy_id, restart_id } => self.await_restart(proxy_id, &restart_id, job).await,
            Operation::RevertRestart {
                proxy_id,
                restart_id,
                drain,
                probe,
            } => {
                let back = WayBack { drain, probe };
                self.revert_restart(proxy_id, &restart_id, back, job).await
            }
        }
    }
}

/// What the operation changes. A restart is awaited beside whatever else is asked: reverting it must get through.
fn thing_of(operation: &Operation) -> Option<Thing> {
    match operation {
        Operation::InstallPackage { .. } | Operation::RemoveSlot { .. } => Some(Thing::Slots),
        Operation::CreateProxy { spec, .. } | Operation::AdoptProxy { spec, .. } => Some(Thing::Proxy(spec.proxy_id)),
        Operation::StartProxy { proxy_id, .. }
        | Operation::StopProxy { proxy_id, .. }
        | Operation::CycleProxy { proxy_id, .. }
        | Operation::SetOnline { proxy_id, .. }
        | Operation::RemoveProxy { proxy_id, .. }
        | Operation::RestoreProxy { proxy_id, .. }
        | Operation::DiscardProxy { proxy_id }
        | Operation::ReleaseProxy { proxy_id, .. }
        | Operation::RetireWatchdogs { proxy_id }
        | Operation::ReviveWatchdogs { proxy_id }
        | Operation::RestoreSysPassword { proxy_id }
        | Operation::Supervise { proxy_id, .. }
        | Operation::SetParameters { proxy_id, .. }
        | Operation::SetSysPassword { proxy_id, .. }
        | Operation::RefreshConfig { proxy_id, .. }
        | Operation::BackupConfig { proxy_id, .. }
        | Operation::Restart { proxy_id, .. }
        | Operation::RevertRestart { proxy_id, .. } => Some(Thing::Proxy(*proxy_id)),
        Operation::CheckAbsent { .. }
        | Operation::AwaitServing { .. }
        | Operation::Inspect { .. }
        | Operation::InspectConfig { .. }
        | Operation::Preflight { .. }
        | Operation::AwaitRestart { .. } => None,
    }
}
