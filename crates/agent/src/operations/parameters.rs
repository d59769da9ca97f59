//! Parameters of a running proxy, by SQL.

use obfleet_obproxy::{
    admin::{AdminConn, AdminError, ConfigItem},
    process::ProcessId,
};
use obfleet_wire::agent::{Outcome, ProxyParameters};

use super::{Node, OperationError, lifecycle};
use crate::{proxies::Owned, runner::Job};

/// Set by the agent at the first start, which logs in with it ever after.
pub(super) const SYS_PASSWORD: &str = "obproxy_sys_password";

impl Node {
    /// Sets all of the values or none. Values are not logged: some are secrets.
    pub(super) async fn set_parameters(
        &self,
        proxy_id: i64,
        values: &[(String, String)],
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        if let Some((name, _)) = values.iter().find(|(name, _)| name.eq_ignore_ascii_case(SYS_PASSWORD)) {
            return Err(OperationError::OwnPassword(name.clone()));
        }
        let owned = self.registry.get(proxy_id)?;
        let process = self.newest(&owned)?;
        let mut admin = self.login(&owned).await?;
        let items = shown(&mut admin, proxy_id).await?;
        // What the process started with is known only until it is changed.
        self.note(&owned, process, &mut admin, items.clone()).await?;
        let mut before: Vec<(String, String)> = Vec::new();
        for (name, value) in values {
            // Setting a name that is not among them tells what is wrong with it.
            let old = items
                .iter()
                .find(|item| item.name == *name)
                .map(|item| item.value.clone());
            if old.as_ref() == Some(value) {
                job.say(format!("{name} has that value already"));
                continue;
            }
            if let Err(failed) = admin.set_config(name, value).await {
                return Err(put_back(&mut admin, proxy_id, name, failed, before).await);
            }
            job.say(format!("{name} is set"));
            before.extend(old.map(|old| (name.clone(), old)));
        }
        // So that whoever asks how the host is learns of it at once. It is read again in any case.
        if let Ok(items) = shown(&mut admin, proxy_id).await {
            drop(self.note(&owned, process, &mut admin, items).await);
        }
        admin.close().await;
        Ok(Outcome::Done)
    }

    /// Reads the whole configuration of a proxy that is not in the hands of a guard.
    pub(crate) async fn read_parameters(&self, proxy_id: i64) -> Result<ProxyParameters, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let process = self.newest(&owned)?;
        let mut admin = self.login(&owned).await?;
        let items = shown(&mut admin, proxy_id).await?;
        let parameters = self.note(&owned, process, &mut admin, items).await;
        admin.close().await;
        parameters
    }

    fn newest(&self, owned: &Owned) -> Result<ProcessId, OperationError> {
        let newest = self.processes(owned)?.pop();
        newest
            .map(|process| process.id)
            .ok_or(OperationError::NotRunning(owned.spec.proxy_id))
    }

    /// Notes what the proxy shows, unless another process has taken its place meanwhile: then it is not told which of them
    /// answered.
    async fn note(
        &self,
        owned: &Owned,
        process: ProcessId,
        admin: &mut AdminConn,
        items: Vec<ConfigItem>,
    ) -> Result<ProxyParameters, OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let version = admin.binary_info().await;
        let version = version.map_err(lifecycle::admin(proxy_id, "show proxyinfo binary"))?;
        if self.newest(owned)? != process {
            return Err(OperationError::Replaced(proxy_id));
        }
        let noted = self.readings.note(&self.registry, proxy_id, process, version, items);
        Ok(noted?)
    }
}

async fn shown(admin: &mut AdminConn, proxy_id: i64) -> Result<Vec<ConfigItem>, OperationError> {
    // Asked for by its own name, syslog_level is answered in another layout.
    let items = admin.show_config("%").await;
    items.map_err(lifecycle::admin(proxy_id, "show proxyconfig"))
}

/// Undoes what was set, the last first.
async fn put_back(
    admin: &mut AdminConn,
    proxy_id: i64,
    name: &str,
    failed: AdminError,
    before: Vec<(String, String)>,
) -> OperationError {
    for (done, old) in before.into_iter().rev() {
        if admin.set_config(&done, &old).await.is_err() {
            return OperationError::ParameterStuck {
                proxy_id,
                name: name.to_owned(),
                reason: crate::describe(&failed),
                left: done,
            };
        }
    }
    OperationError::Parameter {
        proxy_id,
        name: name.to_owned(),
        source: failed,
    }
}
