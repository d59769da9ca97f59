//! Proxies that somebody else started: made the agent's own where they lie and as they run, and given back.

use std::path::PathBuf;

use obfleet_wire::{
    agent::{ExamineRequest, Outcome, ProxySpec},
    time::Timestamp,
};

use super::{Node, OperationError};
use crate::{
    origin::Origin,
    proxies::{Owned, Phase},
    reach,
    runner::Job,
    slots,
};

impl Node {
    /// Makes the proxy that serves on the order's port this agent's. Nothing of it is changed: what it runs is kept as a
    /// slot, and what it came with is written down.
    pub(super) async fn adopt_proxy(
        &self,
        spec: ProxySpec,
        passwords: Vec<String>,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let proxy_id = spec.proxy_id;
        if let Some(owned) = self.registry.find(proxy_id) {
            return match owned.phase {
                Phase::Removed { .. } => Err(OperationError::Removed(proxy_id)),
                _ if owned.adopted && owned.spec.sql_port == spec.sql_port => {
                    job.say("the proxy is adopted already");
                    Ok(Outcome::Proxy(self.facts(&owned).await?))
                }
                _ => Err(OperationError::OtherSpec(proxy_id)),
            };
        }
        let failed = |source| OperationError::Processes { proxy_id, source };
        let request = ExamineRequest {
            sql_port: spec.sql_port,
            passwords,
        };
        let examined = self.examine(&request).await.map_err(failed)?;
        let in_the_way = || OperationError::NotAdopted {
            proxy_id,
            port: request.sql_port,
            obstacles: crate::examination::names(&examined.told.obstacles),
        };
        let (Some(found), Some(address), Some(password), Some(parameters)) = (
            &examined.found,
            examined.address,
            &examined.password,
            &examined.told.parameters,
        ) else {
            return Err(in_the_way());
        };
        let (Some(home), Some(newest), true) = (found.home(), found.newest(), examined.told.obstacles.is_empty())
        else {
            return Err(in_the_way());
        };
        let version = parameters.version.clone();
        let origin = Origin {
            password: password.clone(),
            watchdogs: Vec::new(),
            units: Vec::new(),
        };
        self.registry.set_origin(proxy_id, &origin)?;
        let exe = PathBuf::from(format!("/proc/{}/exe", newest.id.pid));
        let _turn = self.things.lock(super::Thing::Slots).await;
        let slot = slots::take(&self.layout, exe, &version).await?;
        job.say(format!("what it runs is kept as {}", slot.path.display()));
        let owned = Owned {
            home: home.to_owned(),
            version,
            phase: Phase::Installed,
            wanted: true,
            supervised: false,
            restarts: 0,
            restart: None,
            cycle: None,
            offline: None,
            adopted: true,
            spec: ProxySpec {
                sys_password: password.clone(),
                ..reach::as_it_listens(spec, address, &newest.listening)
            },
        };
        self.registry.insert(owned.clone())?;
        let facts = self.facts(&owned).await?;
        job.say(format!("process {} in {} is adopted", facts.pid, owned.home.display()));
        Ok(Outcome::Proxy(facts))
    }

    /// The agent has the proxy no more, which goes on as it is. Its record is kept for a while, unless this is for good.
    pub(super) async fn release_proxy(
        &self,
        proxy_id: i64,
        for_good: bool,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let Some(owned) = self.registry.find(proxy_id) else {
            // An adoption that was cut off may have made a slot.
            self.registry.forget(proxy_id)?;
            self.drop_slots_taken().await?;
            return Ok(Outcome::Done);
        };
        if !matches!(owned.phase, Phase::Removed { .. }) {
            self.at_rest(proxy_id)?;
        }
        if for_good {
            self.registry.forget(proxy_id)?;
            self.drop_slots_taken().await?;
        } else {
            let (aside, at) = (owned.home.clone(), Timestamp::now().millis() / 1000);
            self.registry.update(proxy_id, |o| {
                o.phase = Phase::Removed { aside, at };
                o.wanted = false;
                o.supervised = false;
            })?;
        }
        job.say(format!(
            "the proxy in {} is nobody's here any more, and goes on",
            owned.home.display()
        ));
        Ok(Outcome::Done)
    }

    /// Slots that were made of running executables and that nobody runs, or goes back to.
    async fn drop_slots_taken(&self) -> Result<(), OperationError> {
        let _turn = self.things.lock(super::Thing::Slots).await;
        for slot in slots::taken(&self.layout)? {
            if self.registry.users_of(&slot.version).is_empty() {
                slots::drop_taken(&slot)?;
            }
        }
        Ok(())
    }

    /// Gives root@proxysys the password that an adopted proxy came with.
    pub(super) async fn restore_sys_password(&self, proxy_id: i64, job: &Job) -> Result<Outcome, OperationError> {
        match self.registry.origin(proxy_id)? {
            Some(Origin { password, .. }) => self.set_sys_password(proxy_id, &password, job).await,
            None => {
                job.say("nothing is known of another password");
                Ok(Outcome::Done)
            }
        }
    }
}
