//! Parameters of a running proxy, by SQL.

use obfleet_obproxy::admin::{AdminConn, AdminError};
use obfleet_wire::agent::Outcome;

use super::{Node, OperationError, lifecycle};
use crate::runner::Job;

/// Set by the agent at the first start, which logs in with it ever after.
const SYS_PASSWORD: &str = "obproxy_sys_password";

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
        let mut admin = self.login(&owned).await?;
        // Asked for by its own name, syslog_level is answered in another layout.
        let items = admin.show_config("%").await;
        let items = items.map_err(lifecycle::admin(proxy_id, "show proxyconfig"))?;
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
        admin.close().await;
        Ok(Outcome::Done)
    }
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
