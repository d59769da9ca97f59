//! Packages and the place for a proxy.

use std::{fs, io, net::TcpListener};

use obfleet_obproxy::{launch::sql_address, process};
use obfleet_wire::{
    agent::{Outcome, ProxySpec},
    version::ProxyVersion,
};

use super::{Node, OperationError};
use crate::{reach, runner::Job, slots};

/// With this the proxy lets root@proxysys in from anywhere.
const SKIP_SOURCE_CHECK: &str = "skip_proxy_sys_private_check";

impl Node {
    /// Fails when anything is in the way of the proxy; what is only doubtful is said.
    pub(super) fn check_absent(&self, spec: ProxySpec, job: &Job) -> Result<Outcome, OperationError> {
        let spec = &reach::on_this_host(spec, self.bind);
        let proxy_id = spec.proxy_id;
        let in_the_way = |what: String| Err(OperationError::InTheWay(what));
        if self.registry.find(proxy_id).is_some() {
            return in_the_way(format!("proxy {proxy_id} is on this host already: remove it first"));
        }
        let home = self.layout.home(spec);
        match fs::read_dir(&home) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let home = home.display();
                    return in_the_way(format!("{home} is not empty: move away what is in it"));
                }
                let running =
                    process::of_home(&home).map_err(|source| OperationError::Processes { proxy_id, source })?;
                if let Some(process) = running.first() {
                    let (pid, home) = (process.id.pid, home.display());
                    return in_the_way(format!("process {pid} runs in {home}: stop it first"));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return in_the_way(format!("{} cannot be read ({e}): check its rights", home.display())),
        }
        // The metrics port is opened on all addresses, whatever the proxy is bound to.
        let anywhere = std::net::Ipv4Addr::UNSPECIFIED.into();
        let bound = reach::bound_ip(spec);
        let ports = [
            Some((bound, spec.sql_port)),
            Some((anywhere, spec.exporter_port)),
            spec.rpc_port.map(|port| (bound, port)),
        ];
        for (ip, port) in ports.into_iter().flatten() {
            if let Err(e) = TcpListener::bind((ip, port)) {
                return in_the_way(format!(
                    "port {port} cannot be opened on {ip} ({e}): free it or choose another"
                ));
            }
        }
        check_source(spec)?;
        if !reach::has_outside_address() {
            job.say("this host has no address but loopback: OBProxy does not start on such a host");
        }
        Ok(Outcome::Done)
    }

    pub(super) async fn install_package(
        &self,
        sha256: String,
        version: ProxyVersion,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let (layout, packages) = (self.layout.clone(), self.packages.clone());
        // Unpacking is a second or two of computing.
        let installed = tokio::task::spawn_blocking(move || slots::install(&layout, &packages, &sha256, &version));
        let (slot, created) = installed.await.map_err(|_| OperationError::ShuttingDown)??;
        let how = if created { "made" } else { "there already" };
        job.say(format!("slot {} is {how}", slot.path.display()));
        Ok(Outcome::Slot {
            version: slot.version,
            binary_sha256: slot.binary_sha256,
            created,
        })
    }

    /// Removes the slot unless a proxy uses it: that another one does is no failure of whoever needs it no more.
    pub(super) async fn remove_slot(&self, version: ProxyVersion, job: &Job) -> Result<Outcome, OperationError> {
        let users = self.registry.users_of(&version);
        if !users.is_empty() {
            job.say(format!("slot {version} stays: proxies {users:?} use it"));
            return Ok(Outcome::Done);
        }
        let (layout, slot) = (self.layout.clone(), version.clone());
        let removed = tokio::task::spawn_blocking(move || slots::remove(&layout, &slot));
        removed.await.map_err(|_| OperationError::ShuttingDown)??;
        job.say(format!("slot {version} is removed"));
        Ok(Outcome::Done)
    }
}

/// root@proxysys is let in from few sources, and the kernel picks the source.
fn check_source(spec: &ProxySpec) -> Result<(), OperationError> {
    let skipped = spec
        .parameters
        .iter()
        .any(|(name, value)| name == SKIP_SOURCE_CHECK && value.eq_ignore_ascii_case("true"));
    let bound = reach::bound_ip(spec);
    match reach::source_to(sql_address(spec)) {
        Ok(source) if skipped || reach::is_let_in(source) => Ok(()),
        Ok(source) => Err(OperationError::InTheWay(format!(
            "a proxy bound to {bound} would see the agent come from {source} and turn root@proxysys away: bind proxies \
             to 0.0.0.0, or give the parameter {SKIP_SOURCE_CHECK}=true"
        ))),
        Err(e) => Err(OperationError::InTheWay(format!(
            "proxies cannot be reached on {bound} ({e}): give the agent an address of this host to bind them to"
        ))),
    }
}
