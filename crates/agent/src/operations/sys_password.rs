//! The password of root@proxysys: the proxy takes the new one first, then the agent's own record does. What comes in
//! between is found by the next login, which tries both.

use obfleet_wire::agent::Outcome;

use super::{Node, OperationError, lifecycle::admin, parameters::SYS_PASSWORD};
use crate::runner::Job;

impl Node {
    /// Gives the proxy another password, and proves that it lets the agent in with it.
    pub(super) async fn set_sys_password(
        &self,
        proxy_id: i64,
        password: &str,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        if self.processes(&owned)?.is_empty() {
            return Err(OperationError::NotRunning(proxy_id));
        }
        let mut conn = self.login(&owned).await?;
        if self.registry.password(proxy_id)? == password {
            conn.close().await;
            job.say("it has that password already");
            return Ok(Outcome::Done);
        }
        self.registry.announce_password(proxy_id, password)?;
        let set = conn.set_config(SYS_PASSWORD, password).await;
        conn.close().await;
        set.map_err(admin(proxy_id, "the change of its password"))?;
        self.registry.set_password(proxy_id, password)?;
        self.login(&owned).await?.close().await;
        job.say("it lets the agent in with the new password");
        Ok(Outcome::Done)
    }
}
