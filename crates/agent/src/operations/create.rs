//! A new proxy: home, binary, first start.

use std::fs;

use obfleet_obproxy::{launch, process::ProcessId};
use obfleet_wire::{
    agent::{Outcome, ProxySpec},
    version::ProxyVersion,
};

use super::{Node, OperationError};
use crate::{
    durable::{self, FileError},
    proxies::{Owned, Phase},
    reach,
    runner::Job,
    slots,
};

impl Node {
    /// Makes the proxy, or finishes one that was begun. What a failure leaves is taken away by *discard*.
    pub(super) async fn create_proxy(
        &self,
        spec: ProxySpec,
        version: ProxyVersion,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let spec = reach::on_this_host(spec, self.bind);
        let proxy_id = spec.proxy_id;
        if let Some(owned) = self.registry.find(proxy_id) {
            let same = ProxySpec {
                sys_password: String::new(),
                ..spec.clone()
            } == owned.spec;
            match owned.phase {
                Phase::Removed { .. } => return Err(OperationError::Removed(proxy_id)),
                _ if !same => return Err(OperationError::OtherSpec(proxy_id)),
                Phase::Installed => {
                    job.say("the proxy is there already");
                    return Ok(Outcome::Proxy(self.ensure_running(&owned).await?));
                }
                Phase::Creating => job.say("an earlier try is taken up again"),
            }
        }
        let owned = Owned {
            home: self.layout.home(&spec),
            version: version.clone(),
            phase: Phase::Creating,
            wanted: true,
            supervised: false,
            restarts: 0,
            restart: None,
            cycle: None,
            offline: None,
            adopted: false,
            spec: spec.clone(),
        };
        self.registry.insert(owned.clone())?;
        self.prepare_home(&owned).await?;
        job.say(format!("{} holds the binary of {version}", owned.home.display()));
        let started = launch::first_start(&owned.home, &spec).await;
        let process = match started {
            Ok(process) => process.id,
            Err(e) => {
                self.end_processes(&owned).await?;
                return Err(OperationError::Launch(e));
            }
        };
        self.adopt(proxy_id, process, job).await
    }

    /// A home with nothing running in it and nothing stored.
    async fn prepare_home(&self, owned: &Owned) -> Result<(), OperationError> {
        let bin = owned.home.join("bin");
        durable::private_dir(&bin)?;
        // A try that was cut off may have left a process with the password's hash on its command line.
        self.end_processes(owned).await?;
        let stored = owned.home.join("etc");
        if stored.exists() {
            fs::remove_dir_all(&stored).map_err(FileError::io("remove", &stored))?;
        }
        slots::place_binary(&slots::find(&self.layout, &owned.version)?, &owned.home)?;
        Ok(())
    }

    async fn adopt(&self, proxy_id: i64, process: ProcessId, job: &Job) -> Result<Outcome, OperationError> {
        let owned = self.registry.update(proxy_id, |o| {
            o.phase = Phase::Installed;
            o.supervised = true;
        })?;
        let facts = self.facts(&owned).await?;
        job.say(format!("process {} answers as {}", process.pid, facts.version));
        Ok(Outcome::Proxy(facts))
    }
}
