//! Hosts as their agents keep them, in memory: slots, homes, processes, and the journal. Each operation does what the
//! agent's own does, in the same order and with the same looks beforehand, and counts what it changed under the key
//! that asked for it.

mod journal;
mod operate;
mod operations;
mod parameters;
mod restart;
mod take_over;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use obfleet_fleet::{host_agent::HostAgentError, inventory::Host};
use obfleet_wire::{
    agent::{AttemptKey, ConfigFacts, Fence, OperationRequest, Outcome, ProxyFacts, ProxyReport, ProxySpec},
    version::ProxyVersion,
};

use journal::Journal;
use operate::LastCycle;
use restart::LastRestart;
pub use take_over::FOREIGN_PASSWORD;
use take_over::Foreign;

/// How much of an operation is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The first part; then it fails.
    Part,
    Whole,
    /// Nothing now.
    Later,
}

/// All hosts, by name.
#[derive(Default)]
pub struct Hosts {
    machines: Mutex<BTreeMap<String, Machine>>,
    /// What is in a package file: version by digest.
    contents: BTreeMap<String, ProxyVersion>,
    /// Calls that have not arrived yet.
    late: Mutex<Vec<(Host, OperationRequest)>>,
}

impl Hosts {
    pub fn new(contents: BTreeMap<String, ProxyVersion>) -> Self {
        Self {
            contents,
            ..Self::default()
        }
    }

    /// The same hosts once more.
    pub fn duplicate(&self) -> Self {
        Self {
            machines: Mutex::new(self.machines.lock().unwrap().clone()),
            ..Self::new(self.contents.clone())
        }
    }

    fn of_proxy(&self, id: i64, work: impl FnOnce(&mut Owned)) {
        let mut machines = self.machines.lock().unwrap();
        let mut owned = machines.values_mut().filter_map(|machine| machine.proxies.get_mut(&id));
        work(owned.next().unwrap());
    }

    /// The process of the proxy ends by itself, and its supervisor has not noticed yet.
    pub fn crash(&self, proxy_id: i64) {
        self.of_proxy(proxy_id, |owned| owned.process = None);
    }

    /// Load balancers are told to keep away from the proxy.
    pub fn take_offline(&self, proxy_id: i64) {
        self.of_proxy(proxy_id, |owned| {
            owned.offline = owned.process.as_ref().map(|process| process.pid);
        });
    }

    /// The call is on its way.
    pub fn keep_for_later(&self, host: &Host, request: &OperationRequest) {
        self.late.lock().unwrap().push((host.clone(), request.clone()));
    }

    /// What was on its way arrives; nobody waits for the answer.
    pub fn late_calls_arrive(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (host, request) in late {
            drop(self.at(&host, |machine| machine.perform(&request, Extent::Whole)));
        }
    }

    pub fn at<T>(&self, host: &Host, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machines = self.machines.lock().unwrap();
        let machine = machines.entry(host.facts.name.clone()).or_insert_with(|| Machine {
            name: host.facts.name.clone(),
            contents: self.contents.clone(),
            ..Machine::default()
        });
        work(machine)
    }

    /// What there is, one line a thing.
    pub fn lines(&self) -> Vec<String> {
        let mut machines = self.machines.lock().unwrap().clone();
        machines.values_mut().for_each(Machine::start_what_ought_to_run);
        machines.values().flat_map(Machine::lines).collect()
    }

    /// What was changed, and how often.
    pub fn effects(&self) -> BTreeMap<String, u32> {
        let mut sums = BTreeMap::new();
        for machine in self.machines.lock().unwrap().values() {
            for ((_, what), times) in &machine.effects {
                *sums.entry(format!("{}: {what}", machine.name)).or_default() += times;
            }
        }
        sums
    }

    /// What callers may not do: what was changed more than once under one key, or without the fence it takes, and keys
    /// that stood for two operations.
    pub fn violations(&self) -> Vec<String> {
        let machines = self.machines.lock().unwrap();
        let effects = machines.values().flat_map(|machine| &machine.effects);
        let repeated = effects.filter(|(_, times)| **times > 1);
        let repeated = repeated.map(|((key, what), times)| format!("{key}: {what} {times} times"));
        let others = machines.values().flat_map(|machine| machine.violations.iter().cloned());
        repeated.chain(others).collect()
    }
}

#[derive(Clone, Default)]
pub struct Machine {
    name: String,
    contents: BTreeMap<String, ProxyVersion>,
    packages: BTreeSet<String>,
    slots: BTreeSet<ProxyVersion>,
    proxies: BTreeMap<i64, Owned>,
    /// Slots that were made of what ran.
    taken: BTreeSet<ProxyVersion>,
    /// What somebody else started, by SQL port.
    foreign: BTreeMap<u16, Foreign>,
    journal: Journal,
    effects: BTreeMap<(String, String), u32>,
    /// The epoch each subtask has raised a fence with.
    fenced: BTreeMap<(i64, i64), i64>,
    violations: Vec<String>,
    last_pid: i32,
}

/// A proxy, as the agent's registry knows it, and its process.
#[derive(Clone)]
struct Owned {
    spec: ProxySpec,
    /// The slot its binary was taken from.
    version: ProxyVersion,
    phase: Phase,
    home: bool,
    wanted: bool,
    supervised: bool,
    process: Option<Process>,
    restart: Option<LastRestart>,
    cycle: Option<LastCycle>,
    /// The process that load balancers were told to keep away from.
    offline: Option<i32>,
    parameters: BTreeMap<String, String>,
    /// What somebody else started, as it is by now, and the password it had then.
    adopted: Option<(Foreign, String)>,
    /// What it has from its config server.
    config: ConfigFacts,
}

impl Owned {
    /// A proxy shows the root servers it was started with as a parameter.
    fn with_root_servers(mut self) -> Self {
        if !self.spec.root_servers.is_empty() {
            let list = self.spec.root_servers.join(";");
            self.parameters.insert("rootservice_list".to_owned(), list);
        }
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Creating,
    Installed,
    Removed,
}

#[derive(Clone)]
struct Process {
    pid: i32,
    version: ProxyVersion,
}

/// Who asks, for the count of effects; and how far the operation gets.
struct Job<'a> {
    key: &'a AttemptKey,
    extent: Extent,
}

impl Job<'_> {
    /// Where an operation that is done in part ends.
    fn may_go_on(&self) -> Result<(), String> {
        match self.extent {
            Extent::Whole => Ok(()),
            Extent::Part | Extent::Later => Err(format!("{}: the disk is full", self.key.operation)),
        }
    }
}

impl Machine {
    pub fn put_package(&mut self, sha256: &str) {
        self.packages.insert(sha256.to_owned());
    }

    /// Admits the call, answers from the journal, or does it.
    pub fn perform(&mut self, request: &OperationRequest, extent: Extent) -> Result<Outcome, HostAgentError> {
        let OperationRequest { key, epoch, operation } = request;
        self.admit((key.task, key.subtask), *epoch)?;
        if !self.journal.is_name_of(key, operation.name()) {
            self.violations
                .push(format!("{key} also names another operation than {}", operation.name()));
        }
        let begun_before = !key.operation.starts_with("EXECUTE");
        let fenced = self.fenced.get(&(key.task, key.subtask)) == Some(epoch);
        if begun_before && !fenced && operations::changes_host(operation) {
            self.violations
                .push(format!("{key} {} without a fence", operation.name()));
        }
        if let Some(end) = self.journal.answer_to(key, *epoch) {
            return end.map_err(HostAgentError::Failed);
        }
        let end = self.carry_out(operation.clone(), &Job { key, extent });
        self.journal.end(key, *epoch, end.clone());
        end.map_err(HostAgentError::Failed)
    }

    /// Operations are done at once here, so there is never one to wait for.
    pub fn fence(&mut self, fence: &Fence) -> Result<(), HostAgentError> {
        let subtask = (fence.task, fence.subtask);
        self.admit(subtask, fence.epoch)?;
        self.fenced.insert(subtask, fence.epoch);
        Ok(())
    }

    fn admit(&mut self, subtask: (i64, i64), epoch: i64) -> Result<(), HostAgentError> {
        self.journal
            .admit(subtask, epoch)
            .map_err(|highest| HostAgentError::Fenced {
                host: self.name.clone(),
                reason: format!("epoch {epoch} is below {highest}"),
            })
    }

    fn changed(&mut self, job: &Job<'_>, what: String) {
        *self.effects.entry((job.key.to_string(), what)).or_default() += 1;
    }

    fn get(&self, id: i64) -> Result<&Owned, String> {
        let owned = self.proxies.get(&id);
        owned.ok_or_else(|| format!("proxy {id} is not owned by this host: create it first"))
    }

    fn get_mut(&mut self, id: i64) -> Result<&mut Owned, String> {
        let owned = self.proxies.get_mut(&id);
        owned.ok_or_else(|| format!("proxy {id} is not owned by this host: create it first"))
    }

    /// What answers on the SQL port.
    fn facts(&self, id: i64) -> Result<ProxyFacts, String> {
        let process = self.get(id)?.process.as_ref();
        let process = process.ok_or_else(|| format!("proxy {id} does not run"))?;
        Ok(ProxyFacts {
            pid: process.pid,
            version: process.version.clone(),
            binary_sha256: binary(&process.version),
        })
    }

    /// A new process of the version, in place of one that runs.
    fn launch(&mut self, id: i64, version: &ProxyVersion) -> Result<(), String> {
        self.last_pid += 1;
        let pid = self.last_pid;
        let version = version.clone();
        self.get_mut(id)?.process = Some(Process { pid, version });
        Ok(())
    }

    /// As the supervisor does, before anybody looks.
    fn start_what_ought_to_run(&mut self) {
        let due = |owned: &Owned| {
            let guarded = owned.restart.as_ref().is_some_and(LastRestart::is_guarded);
            owned.phase == Phase::Installed && owned.wanted && owned.supervised && owned.process.is_none() && !guarded
        };
        let due: Vec<_> = self.proxies.iter().filter(|(_, owned)| due(owned)).collect();
        let due: Vec<_> = due
            .into_iter()
            .map(|(id, owned)| (*id, owned.version.clone()))
            .collect();
        for (id, version) in due {
            self.launch(id, &version).unwrap();
        }
    }

    /// What the agent tells of its proxies.
    pub fn reports(&mut self) -> Vec<ProxyReport> {
        self.start_what_ought_to_run();
        let installed = self.proxies.values().filter(|owned| owned.phase == Phase::Installed);
        let report = |owned: &Owned| {
            let pid = owned.process.as_ref().map(|process| process.pid);
            ProxyReport {
                proxy_id: owned.spec.proxy_id,
                serving: Some(pid.is_some()),
                stopped: !owned.wanted,
                offline: pid.is_some() && owned.offline == pid,
                pid,
                version: owned.process.as_ref().map(|process| process.version.clone()),
                restarts: 0,
                parameters: None,
                trouble: None,
            }
        };
        installed.map(report).collect()
    }

    fn lines(&self) -> Vec<String> {
        let Self { name, .. } = self;
        let packages = self.packages.iter().map(|sha256| format!("{name} package {sha256}"));
        let slots = self.slots.iter().map(|version| format!("{name} slot {version}"));
        let proxies = self.proxies.values().map(|owned| {
            let runs = owned.process.as_ref();
            format!(
                "{name} proxy {}:{} {:?}, home {}, slot {}, runs {}, wanted {}, supervised {}, offline {}, {:?}, {:?}, {:?}",
                owned.spec.cluster_name,
                owned.spec.sql_port,
                owned.phase,
                owned.home,
                owned.version,
                runs.map_or("nothing".to_owned(), |process| process.version.to_string()),
                owned.wanted,
                owned.supervised,
                runs.is_some_and(|process| owned.offline == Some(process.pid)),
                self.values(owned.spec.proxy_id).ok(),
                owned.config,
                owned.adopted
            )
        });
        let foreign = self.foreign.iter();
        let foreign = foreign.map(|(port, foreign)| format!("{name} {foreign:?} on port {port}"));
        packages.chain(slots).chain(proxies).chain(foreign).collect()
    }
}

/// The digest of the executable of a version.
fn binary(version: &ProxyVersion) -> String {
    format!("binary of {version}")
}
