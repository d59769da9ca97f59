//! Machines that are reached by SSH, in memory: what is put on them and taken away, as the crate `bootstrap` does it, with
//! connections that break. A call that is on its way when its connection is gone never arrives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use obfleet_fleet::{
    bootstrap::{Access, Bootstrap, BootstrapError, Inspection, Mark},
    host_agent::LogLine,
    inventory::{EnrolToken, Host, HostPlace, Inventory},
};
use obfleet_wire::{agent::HostFacts, time::Timestamp};

use crate::{
    trouble::{ATTEMPT, Consequence, Moment, REASON, Troubles},
    world::Effects,
};

/// All machines, by address.
#[derive(Default)]
pub struct Machines {
    machines: Mutex<BTreeMap<String, Machine>>,
    effects: Mutex<Effects>,
}

#[derive(Clone, Default)]
struct Machine {
    /// The host its directory is marked with.
    mark: Option<i64>,
    /// Uid of the agent that runs.
    agent: Option<String>,
    /// Agents there have been.
    agents: u32,
}

impl Machines {
    /// The same machines once more.
    pub fn duplicate(&self) -> Self {
        Self {
            machines: Mutex::new(self.machines.lock().unwrap().clone()),
            effects: Mutex::default(),
        }
    }

    /// An agent is left on a machine from a host that is gone.
    pub fn leave_agent(&self, address: &str, host_id: i64) {
        self.at(address, |machine| {
            machine.mark = Some(host_id);
            machine.agent = Some("left".into());
        });
    }

    /// Whether the host's agent runs there.
    pub fn answers(&self, host: &Host) -> bool {
        self.at(&host.address, |machine| {
            machine.agent.as_ref() == Some(&host.facts.host_uid)
        })
    }

    /// What there is, one line a machine; ids are left out.
    pub fn lines(&self) -> Vec<String> {
        let machines = self.machines.lock().unwrap();
        let some = machines
            .iter()
            .filter(|(_, machine)| machine.mark.is_some() || machine.agent.is_some());
        some.map(|(address, machine)| format!("machine {address}: agent {}", machine.agent.is_some()))
            .collect()
    }

    /// What was changed, and how often.
    pub fn effects(&self) -> Effects {
        self.effects.lock().unwrap().clone()
    }

    fn at<T>(&self, address: &str, work: impl FnOnce(&mut Machine) -> T) -> T {
        work(self.machines.lock().unwrap().entry(address.to_owned()).or_default())
    }

    fn changed(&self, access: &Access, what: &str) {
        let what = format!("{}: {what}", access.address);
        *self.effects.lock().unwrap().entry(what).or_default() += 1;
    }
}

/// The way to them.
pub struct Ways {
    pub machines: Arc<Machines>,
    pub troubles: Arc<Troubles>,
    pub inventory: Arc<dyn Inventory>,
}

impl Ways {
    /// Makes a call in trouble where the case says so; `call` is told whether it gets to its end.
    async fn call<T>(
        &self,
        access: &Access,
        what: &'static str,
        call: impl AsyncFnOnce(bool) -> Result<T, BootstrapError>,
    ) -> Result<T, BootstrapError> {
        let under = ATTEMPT.with(Clone::clone);
        let number = under.calls(&self.troubles, what);
        let strikes = |moment| self.troubles.strike(&under.place, moment);
        let lost = || BootstrapError::Unreachable {
            at: access.address.clone(),
            reason: REASON.into(),
        };
        if let Some(consequence) = strikes(Moment::Late(number)) {
            if consequence == Consequence::Crash {
                self.troubles.die().await;
            }
            return Err(lost());
        }
        let whole = strikes(Moment::Halfway(number)).is_none();
        let answer = call(whole).await?;
        match (whole, strikes(Moment::After(number))) {
            (true, None) => Ok(answer),
            _ => Err(lost()),
        }
    }
}

fn cut_off() -> BootstrapError {
    BootstrapError::Failed(REASON.into())
}

#[async_trait]
impl Bootstrap for Ways {
    async fn inspect(&self, access: &Access) -> Result<Inspection, BootstrapError> {
        let mark = self.machines.at(&access.address, |machine| machine.mark);
        let seen = Inspection {
            facts: HostFacts {
                host_uid: String::new(),
                name: "machine".into(),
                architecture: "x86_64".into(),
                kernel: "6.1".into(),
                release: "el8".into(),
            },
            host_key: "SHA256:x".into(),
            user: "root".into(),
            root: "/opt/obfleet".into(),
            systemd: true,
            ahead_ms: 0,
            exact_to_ms: 1,
            missing: Vec::new(),
            free_bytes: u64::MAX,
            writable: true,
            occupied: false,
            mark: mark.map(|host_id| Mark {
                installation: access.installation.clone(),
                host_id,
            }),
            port_taken: false,
            server_url: "http://10.0.0.1:8080".into(),
            executable: Some(1),
        };
        self.call(access, "status", async |_| Ok(seen)).await
    }

    async fn install(&self, access: &Access, _: LogLine<'_>) -> Result<(), BootstrapError> {
        self.call(access, "install", async |whole| {
            let fresh = self.machines.at(&access.address, |machine| {
                machine.mark.replace(access.host_id).is_none()
            });
            if fresh {
                self.machines.changed(access, "directory made");
            }
            if !whole {
                return Err(cut_off());
            }
            let uid = self.machines.at(&access.address, |machine| {
                machine.agents += 1;
                format!("uid-{}-{}", access.host_id, machine.agents)
            });
            enrol(&*self.inventory, access, &uid).await;
            self.machines.at(&access.address, |machine| machine.agent = Some(uid));
            self.machines.changed(access, "agent started");
            Ok(())
        })
        .await
    }

    async fn remove(&self, access: &Access, host_id: i64, _: LogLine<'_>) -> Result<(), BootstrapError> {
        self.call(access, "remove", async |whole| {
            if self.machines.at(&access.address, |machine| machine.mark) != Some(host_id) {
                return Ok(());
            }
            let ran = self
                .machines
                .at(&access.address, |machine| machine.agent.take().is_some());
            if ran {
                self.machines.changed(access, "agent ended");
            }
            if !whole {
                return Err(cut_off());
            }
            self.machines.at(&access.address, |machine| machine.mark = None);
            self.machines.changed(access, "directory removed");
            Ok(())
        })
        .await
    }

    async fn complaints(&self, _: &Access) -> Result<String, BootstrapError> {
        Ok(String::new())
    }
}

/// The agent enrols, with a token for its host.
async fn enrol(inventory: &dyn Inventory, access: &Access, uid: &str) {
    let token = EnrolToken {
        id: uid.into(),
        key: Vec::new(),
        expires: Timestamp::now(),
        place: HostPlace::default(),
        host_id: Some(access.host_id),
    };
    inventory.insert_token(&token).await.unwrap();
    let mut host = inventory.host(access.host_id).await.unwrap().unwrap();
    host.facts.host_uid = uid.into();
    host.online = true;
    let enrolled = inventory.enrol(uid, &host).await.unwrap();
    assert_eq!(enrolled, Some(access.host_id));
}
