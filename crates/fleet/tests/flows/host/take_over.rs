//! Proxies that somebody else started, and what the agent does to take them over.

use obfleet_wire::{
    agent::{
        ConfigFacts, Examination, ExamineRequest, FoundProcess, FoundProxy, FoundWatchdog, Obstacle, Outcome,
        PackageLayout, ParameterReading, ProxyParameters, ProxySpec, StartMethod,
    },
    version::ProxyVersion,
};

use super::{Job, Machine, Owned, Phase, Process};

type Result<T> = std::result::Result<T, String>;

pub const FOREIGN_PASSWORD: &str = "Foreign-s3cret1";

/// One that obd started.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub version: ProxyVersion,
    pub password: String,
    pub syslog_level: String,
    /// Whether its watchdog runs.
    pub watched: bool,
    pub pid: i32,
}

impl Machine {
    pub fn start_foreign(&mut self, port: u16) {
        self.last_pid += 1;
        let foreign = Foreign {
            version: "4.2.1.0-11".parse().unwrap(),
            password: FOREIGN_PASSWORD.into(),
            syslog_level: "WDIAG".into(),
            watched: true,
            pid: self.last_pid,
        };
        self.foreign.insert(port, foreign);
    }

    /// In part: a slot is made.
    pub(super) fn adopt_proxy(&mut self, spec: ProxySpec, passwords: &[String], job: &Job<'_>) -> Result<Outcome> {
        let (id, port) = (spec.proxy_id, spec.sql_port);
        if let Some(owned) = self.proxies.get(&id) {
            return match owned.phase {
                Phase::Removed => Err(format!("proxy {id} was removed: restore or discard it first")),
                _ => Ok(Outcome::Proxy(self.facts(id)?)),
            };
        }
        let foreign = self.foreign.get(&port).cloned();
        let foreign = foreign.filter(|foreign| passwords.contains(&foreign.password));
        let foreign = foreign.ok_or_else(|| format!("proxy {id} cannot be taken over on port {port}"))?;
        if self.slots.insert(foreign.version.clone()) {
            self.taken.insert(foreign.version.clone());
            self.changed(job, format!("slot {} taken", foreign.version));
        }
        job.may_go_on()?;
        self.foreign.remove(&port);
        let mut parameters: std::collections::BTreeMap<_, _> = self.defaults().into_iter().collect();
        for item in foreign.parameters().items {
            parameters.insert(item.name, item.value);
        }
        let owned = Owned {
            spec: ProxySpec {
                sys_password: foreign.password.clone(),
                ..spec
            },
            version: foreign.version.clone(),
            phase: Phase::Installed,
            home: true,
            wanted: true,
            supervised: false,
            process: Some(Process {
                pid: foreign.pid,
                version: foreign.version.clone(),
            }),
            restart: None,
            cycle: None,
            offline: None,
            parameters,
            adopted: Some((foreign.clone(), foreign.password)),
            config: ConfigFacts::default(),
        };
        self.proxies.insert(id, owned);
        self.changed(job, format!("proxy {id} adopted"));
        Ok(Outcome::Proxy(self.facts(id)?))
    }

    pub(super) fn release_proxy(&mut self, id: i64, for_good: bool, job: &Job<'_>) -> Result<Outcome> {
        let Some(owned) = self.proxies.get(&id).cloned() else {
            self.drop_slots_taken(job);
            return Ok(Outcome::Done);
        };
        if owned.phase != Phase::Removed {
            self.at_rest(id)?;
        }
        job.may_go_on()?;
        if !for_good {
            let owned = self.get_mut(id)?;
            let was = std::mem::replace(&mut owned.phase, Phase::Removed);
            (owned.wanted, owned.supervised) = (false, false);
            if was != Phase::Removed {
                self.changed(job, format!("proxy {id} released"));
            }
            return Ok(Outcome::Done);
        }
        self.proxies.remove(&id);
        if let (Some((mut foreign, _)), Some(process)) = (owned.adopted, owned.process) {
            foreign.pid = process.pid;
            foreign.password = owned.spec.sys_password;
            foreign.syslog_level = owned.parameters["syslog_level"].clone();
            self.foreign.insert(owned.spec.sql_port, foreign);
        }
        self.changed(job, format!("proxy {id} forgotten"));
        self.drop_slots_taken(job);
        Ok(Outcome::Done)
    }

    fn drop_slots_taken(&mut self, job: &Job<'_>) {
        for version in self.taken.clone() {
            let mut owned = self.proxies.values();
            if !owned.any(|owned| owned.version == version) && self.taken.remove(&version) {
                self.slots.remove(&version);
                self.changed(job, format!("slot {version} dropped"));
            }
        }
    }

    /// In part: ended, and not supervised in its place.
    pub(super) fn retire_watchdogs(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        if let Some((foreign, _)) = &mut self.get_mut(id)?.adopted
            && std::mem::take(&mut foreign.watched)
        {
            self.changed(job, format!("watchdog of proxy {id} ended"));
        }
        job.may_go_on()?;
        self.get_mut(id)?.supervised = true;
        Ok(Outcome::Done)
    }

    /// In part: supervised no more, and the watchdog is not there yet.
    pub(super) fn revive_watchdogs(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        if !self.proxies.contains_key(&id) {
            return Ok(Outcome::Done);
        }
        if self.get(id)?.phase != Phase::Removed {
            self.at_rest(id)?;
            self.get_mut(id)?.supervised = false;
        }
        job.may_go_on()?;
        if let Some((foreign, _)) = &mut self.get_mut(id)?.adopted
            && !std::mem::replace(&mut foreign.watched, true)
        {
            self.changed(job, format!("watchdog of proxy {id} begun"));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn restore_sys_password(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        match self.get(id)?.adopted.clone() {
            Some((_, came_with)) => self.set_sys_password(id, came_with, job),
            None => Ok(Outcome::Done),
        }
    }

    pub fn examine(&self, request: &ExamineRequest) -> Examination {
        let port = request.sql_port;
        let Some(foreign) = self.foreign.get(&port) else {
            return Examination {
                proxy: None,
                parameters: None,
                obstacles: vec![Obstacle::NotRunning { port }],
            };
        };
        let let_in = request.passwords.contains(&foreign.password);
        Examination {
            proxy: Some(foreign.told(port)),
            parameters: let_in.then(|| foreign.parameters()),
            obstacles: (!let_in).then_some(Obstacle::WrongPassword).into_iter().collect(),
        }
    }
}

impl Foreign {
    fn told(&self, port: u16) -> FoundProxy {
        let watchdog = || FoundWatchdog::Obd {
            pid: 1,
            script: "/h/obproxyd.sh".into(),
        };
        FoundProxy {
            cron_entries: Vec::new(),
            exporter_port: Some(port + 1),
            home: Some("/h".into()),
            managed: false,
            ob_cluster: Some("ob1".into()),
            obproxy_server_id: None,
            package_layout: PackageLayout::Plain,
            processes: vec![FoundProcess {
                argv0: "/h/bin/obproxy".into(),
                container: false,
                executable: Some("/h/bin/obproxy".into()),
                executable_replaced: false,
                listening: Vec::new(),
                parent_pid: 1,
                pid: self.pid,
                root: None,
            }],
            restarting: false,
            rpc_port: None,
            sql_port: Some(port),
            start_method: StartMethod::Obd,
            user: "admin".into(),
            version: Some(self.version.clone()),
            watchdogs: self.watched.then(watchdog).into_iter().collect(),
        }
    }

    fn parameters(&self) -> ProxyParameters {
        let item = |(name, value, need_restart): (&str, &str, bool)| ParameterReading {
            name: name.into(),
            value: value.into(),
            in_force: None,
            info: String::new(),
            need_restart,
            range: String::new(),
            visible: "USER".into(),
        };
        let items = [
            ("rootservice_cluster_name", "ob1", true),
            ("rootservice_list", "10.0.0.1:2881", true),
            ("syslog_level", self.syslog_level.as_str(), false),
        ];
        ProxyParameters {
            digest: String::new(),
            version: self.version.clone(),
            items: items.map(item).into(),
        }
    }
}
