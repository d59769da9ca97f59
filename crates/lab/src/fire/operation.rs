//! What is done to proxies and hosts, each in a world of its own.

use std::{fs, net::TcpListener};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::stage::{Stage, World};
use crate::{
    api, machine,
    packages::{NEW, OLD},
    testbed::SYS_PASSWORD,
};

/// Something an operator orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A cluster with a proxy.
    Create,
    /// The same with a proxy that asks the server for what it serves.
    CreateConfigUrl,
    /// One more proxy.
    Add,
    /// Two proxies, by the path that names them.
    Delete,
    /// Two proxies, by the path with a body.
    Remove,
    /// A cluster with its two proxies.
    DeleteCluster,
    /// Two proxies.
    Stop,
    /// Two that are stopped.
    Start,
    /// Two by hot restart.
    RestartHot,
    /// Two, ended and started.
    RestartForced,
    /// Two to a higher release.
    Upgrade,
    /// Load balancers keep away from two.
    Offline,
    /// They come back.
    Online,
    /// Other values for all.
    Parameters,
    /// Those of the cluster, for a proxy that was stopped when they were changed.
    RefreshParameters,
    /// Of root@proxysys.
    SysPassword,
    /// Of proxyro.
    ProxyroPassword,
    /// One more OceanBase cluster for proxies that ask the server.
    AddLink,
    /// One less.
    RemoveLink,
    /// Other root servers of the OceanBase cluster that they serve.
    UpdateObCluster,
    /// A proxy that somebody else started, with its watchdog.
    TakeOver,
    /// It is given back.
    MoveOut,
    /// A machine becomes a host, over SSH.
    AddHost,
    /// It is none any more.
    DeleteHost,
}

/// What there has to be afterwards, beside what the undisturbed run left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Status of each proxy.
    pub statuses: &'static [&'static str],
    /// Whether processes are still the same.
    pub same_processes: bool,
}

const RUNNING: Effect = Effect {
    statuses: &["RUNNING", "RUNNING"],
    same_processes: false,
};
const UNTOUCHED: Effect = Effect {
    same_processes: true,
    ..RUNNING
};
const GONE: Effect = Effect {
    statuses: &[],
    same_processes: false,
};

const OTHER_PASSWORD: &str = "Lab-Proxysys-2";
/// Passwords that root@proxysys may have.
pub const SYS_PASSWORDS: [&str; 3] = [SYS_PASSWORD, OTHER_PASSWORD, FOREIGN_PASSWORD];
/// Of root@proxysys of a proxy that somebody else started.
pub const FOREIGN_PASSWORD: &str = "Foreign-s3cret1";

/// What is being wrong for as long as this lives.
#[derive(Debug)]
pub enum Wrong {
    /// Proxies have a bad day, those that run as well as those to come.
    BadDay {
        /// They were started anew to have it, and are to be cured of it.
        began_anew: bool,
    },
    /// Something else lies where an agent has a directory of its own: its name.
    InTheWay(&'static str),
    /// Somebody listens on a proxy's port.
    Taken(TcpListener),
    /// The server has an executable for machines that does not run there.
    BadExecutable,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Create,
        Self::CreateConfigUrl,
        Self::Add,
        Self::Delete,
        Self::Remove,
        Self::DeleteCluster,
        Self::Stop,
        Self::Start,
        Self::RestartHot,
        Self::RestartForced,
        Self::Upgrade,
        Self::Offline,
        Self::Online,
        Self::Parameters,
        Self::RefreshParameters,
        Self::SysPassword,
        Self::ProxyroPassword,
        Self::AddLink,
        Self::RemoveLink,
        Self::UpdateObCluster,
        Self::TakeOver,
        Self::MoveOut,
        Self::AddHost,
        Self::DeleteHost,
    ];

    /// Its name in points.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateConfigUrl => "create-config-url",
            Self::Add => "add",
            Self::Delete => "delete",
            Self::Remove => "remove",
            Self::DeleteCluster => "delete-cluster",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::RestartHot => "restart-hot",
            Self::RestartForced => "restart-forced",
            Self::Upgrade => "upgrade",
            Self::Offline => "offline",
            Self::Online => "online",
            Self::Parameters => "parameters",
            Self::RefreshParameters => "refresh-parameters",
            Self::SysPassword => "sys-password",
            Self::ProxyroPassword => "proxyro-password",
            Self::AddLink => "add-link",
            Self::RemoveLink => "remove-link",
            Self::UpdateObCluster => "update-ob-cluster",
            Self::TakeOver => "take-over",
            Self::MoveOut => "move-out",
            Self::AddHost => "add-host",
            Self::DeleteHost => "delete-host",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether it is about a machine that is reached over SSH, where nobody else's agent has a part.
    pub fn is_over_ssh(self) -> bool {
        matches!(self, Self::AddHost | Self::DeleteHost)
    }

    /// Whether its task goes back by itself when a step fails.
    pub fn undoes_itself(self) -> bool {
        matches!(self, Self::Parameters | Self::SysPassword)
    }

    /// Whether what it is about was changed elsewhere before, so that a rollback only ends it and takes nothing back.
    pub fn is_kept(self) -> bool {
        self == Self::ProxyroPassword
    }

    /// What there has to be afterwards.
    pub fn effect(self) -> Effect {
        match self {
            Self::Delete | Self::Remove | Self::DeleteCluster | Self::MoveOut | Self::AddHost | Self::DeleteHost => {
                GONE
            }
            Self::Stop => Effect {
                statuses: &["STOPPED", "STOPPED"],
                ..GONE
            },
            Self::Create | Self::CreateConfigUrl => Effect {
                statuses: &["RUNNING"],
                ..RUNNING
            },
            Self::Add | Self::Start | Self::RestartHot | Self::RestartForced | Self::Upgrade => RUNNING,
            Self::Offline
            | Self::Online
            | Self::Parameters
            | Self::RefreshParameters
            | Self::SysPassword
            | Self::ProxyroPassword
            | Self::AddLink
            | Self::RemoveLink
            | Self::UpdateObCluster => UNTOUCHED,
            Self::TakeOver => Effect {
                statuses: &["RUNNING"],
                same_processes: true,
            },
        }
    }

    /// What can be wrong so that a step of it fails, by name.
    pub fn causes(self) -> &'static [&'static str] {
        match self {
            Self::Create | Self::Add => &["slots", "port"],
            Self::Delete | Self::Remove | Self::DeleteCluster => &["removed"],
            Self::Start | Self::RestartForced => &["exit"],
            Self::RestartHot | Self::Upgrade => &["exit", "hang", "no-login"],
            Self::Parameters
            | Self::SysPassword
            | Self::ProxyroPassword
            | Self::AddLink
            | Self::RemoveLink
            | Self::MoveOut => &["refused"],
            Self::TakeOver => &["slots"],
            Self::AddHost => &["executable"],
            _ => &[],
        }
    }

    /// An item of proxies' configuration that it sets.
    fn item(self) -> &'static str {
        match self {
            Self::SysPassword | Self::MoveOut => "obproxy_sys_password",
            Self::ProxyroPassword => "observer_sys_password",
            Self::AddLink | Self::RemoveLink => "refresh_json_config",
            _ => "work_thread_num",
        }
    }

    /// Makes the world in which it begins.
    pub async fn prepare(self, stage: &mut Stage) -> anyhow::Result<()> {
        match self {
            Self::Create | Self::CreateConfigUrl => Ok(()),
            Self::Add => stage.create(World::RsList, 1).await,
            Self::AddLink | Self::UpdateObCluster => stage.create(World::ConfigUrl, 2).await,
            Self::RefreshParameters => {
                stage.create(World::RsList, 2).await?;
                let home = stage.last_home().await?;
                let faults = home.join("standin-faults.json");
                fs::write(&faults, json!({"exit": 1}).to_string())?;
                stage.is_down(&home).await?;
                let task = Self::Parameters.start(stage).await?;
                stage.succeed(task).await?;
                fs::remove_file(faults)?;
                stage.is_back(&home).await
            }
            Self::RemoveLink => {
                stage.create(World::ConfigUrl, 2).await?;
                let task = Self::AddLink.start(stage).await?;
                stage.succeed(task).await
            }
            Self::TakeOver => {
                stage.create(World::RsList, 0).await?;
                stage.begin_foreign().await
            }
            Self::MoveOut => {
                Box::pin(Self::TakeOver.prepare(stage)).await?;
                let task = Self::TakeOver.start(stage).await?;
                stage.succeed(task).await
            }
            Self::AddHost => stage.begin_machine().await,
            Self::DeleteHost => {
                stage.begin_machine().await?;
                let task = Self::AddHost.start(stage).await?;
                stage.succeed(task).await
            }
            _ => {
                stage.create(World::RsList, 2).await?;
                let first = match self {
                    Self::Start => Self::Stop,
                    Self::Online => Self::Offline,
                    _ => return Ok(()),
                };
                let task = Box::pin(first.start(stage)).await?;
                stage.succeed(task).await
            }
        }
    }

    /// Orders it. → the task's id
    pub async fn start(self, stage: &Stage) -> anyhow::Result<i64> {
        let api = stage.fleet.api()?;
        let clusters = "/api/v2/obproxy/clusters";
        let (cluster, ids) = stage.proxies().await?;
        let path = |rest: &str| format!("{clusters}/{cluster}{rest}");
        let listed = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let named = |rest: &str| path(&format!("/obproxies/{listed}{rest}"));
        let servers = json!({"obproxyServerIds": ids});
        let answer = match self {
            Self::Create => api.post(clusters, &stage.cluster(World::RsList, true)).await?,
            Self::CreateConfigUrl => api.post(clusters, &stage.cluster(World::ConfigUrl, true)).await?,
            Self::Add => {
                let tasks = api.post(&path("/obproxies/batchAdd"), &stage.addition(1)).await?;
                api::contents(&tasks).first().cloned().unwrap_or_default()
            }
            Self::Delete => api.delete(&named("")).await?,
            Self::Remove => api.post(&path("/servers/delete"), &servers).await?,
            Self::DeleteCluster => api.delete(&path("")).await?,
            Self::Stop => api.post(&path("/servers/stop"), &servers).await?,
            Self::Start => api.post(&path("/servers/start"), &servers).await?,
            Self::RestartHot | Self::RestartForced => {
                let body = json!({"obproxyServerIds": ids, "hotRestart": self == Self::RestartHot});
                api.post(&path("/servers/restart"), &body).await?
            }
            Self::Upgrade => {
                let body = json!({"shortRpmName": NEW.short_rpm_name()});
                api.post(&named("/upgrade"), &body).await?
            }
            Self::Offline => api.post_nothing(&named("/offline")).await?,
            Self::Online => api.post_nothing(&named("/online")).await?,
            Self::Parameters => {
                let values = [("syslog_level", "WARN"), ("work_thread_num", "32")];
                let values = values.map(|(name, value)| json!({"name": name, "value": value}));
                api.put(&path("/parameters"), &json!({"parameters": values})).await?
            }
            Self::RefreshParameters => api.post_nothing(&named("/refreshParameters")).await?,
            Self::UpdateObCluster => {
                let known = api.get("/api/v2/ob/clusters?size=1000").await?;
                let id = api::id(api::contents(&known).first().context("no OceanBase cluster")?)?;
                let body = json!({"rootServers": stage.both_root_servers()});
                api.patch(&format!("/api/v2/ob/clusters/{id}"), &body).await?;
                Value::Null
            }
            Self::SysPassword => {
                api.post(&path("/sysPassword"), &json!({"password": OTHER_PASSWORD}))
                    .await?
            }
            Self::ProxyroPassword => {
                let body = json!({"username": "proxyro", "password": "Lab-Proxyro-2"});
                api.post("/api/v2/obproxy/password", &body).await?
            }
            Self::AddLink => {
                let body = json!({"clusterName": "other", "rootServers": [stage.other_root_server()]});
                api.post(&path("/obLinks/batchAdd"), &body).await?
            }
            Self::RemoveLink => api.delete(&path("/obLinks/other")).await?,
            Self::TakeOver => {
                let tasks = api.post(&path("/takeOver"), &stage.take_over()?).await?;
                api::contents(&tasks).first().cloned().unwrap_or_default()
            }
            Self::MoveOut => {
                let body = json!({"proxysysPasswd": FOREIGN_PASSWORD});
                api.post(&named("/moveOut"), &body).await?
            }
            Self::AddHost => {
                let tasks = api
                    .post("/api/v2/compute/hosts/batchCreate", &stage.machine_to_add()?)
                    .await?;
                api::contents(&tasks).first().cloned().unwrap_or_default()
            }
            Self::DeleteHost => {
                let host = stage.machine_host().await?.context("the machine is no host")?;
                api.delete(&format!("/api/v2/compute/hosts/{host}")).await?
            }
        };
        match answer {
            // Some of OCP's routes do not tell which task does it.
            Value::Null => {
                let newest = api.get("/api/v2/tasks/instances?size=1").await?;
                api::id(api::contents(&newest).first().context("there is no task")?)
            }
            task => api::id(&task),
        }
    }

    /// Makes it fail, by the cause with this number.
    pub async fn spoil(self, stage: &Stage, cause: usize) -> anyhow::Result<Wrong> {
        let name = self.causes().get(cause).copied().unwrap_or_default();
        let (fault, began_anew) = match name {
            "port" => {
                let address = stage.address(usize::from(self == Self::Add));
                return Ok(Wrong::Taken(TcpListener::bind(address)?));
            }
            "executable" => {
                let exe = machine::executable(&stage.fleet.server()?.state_dir);
                fs::rename(&exe, exe.with_extension("aside"))?;
                fs::write(&exe, "#!/bin/sh\necho wrong libc\nexit 3\n")?;
                return Ok(Wrong::BadExecutable);
            }
            "slots" | "removed" => {
                for host in &stage.fleet.hosts {
                    let dir = host.root().join(name);
                    fs::rename(&dir, dir.with_extension("aside"))?;
                    fs::write(&dir, "in the way")?;
                }
                return Ok(Wrong::InTheWay(name));
            }
            "exit" => (json!({"exit": 1}), false),
            "hang" => (json!({"hang": true}), false),
            "no-login" => (json!({"no_login": true}), false),
            "refused" => (json!({"refuse_parameter": self.item()}), true),
            _ => bail!("{} has no cause {cause}", self.name()),
        };
        // The last one, so that something has been done by then.
        let home = stage.last_home().await?;
        fs::write(home.join("standin-faults.json"), fault.to_string())?;
        if began_anew {
            stage.begin_anew(&home).await?;
        }
        Ok(Wrong::BadDay { began_anew })
    }
}

impl Wrong {
    /// Puts it right.
    pub async fn mend(self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Self::Taken(listener) => drop(listener),
            Self::BadExecutable => {
                let exe = machine::executable(&stage.fleet.server()?.state_dir);
                fs::rename(exe.with_extension("aside"), exe)?;
            }
            Self::InTheWay(name) => {
                for host in &stage.fleet.hosts {
                    let dir = host.root().join(name);
                    fs::remove_file(&dir)?;
                    fs::rename(dir.with_extension("aside"), &dir)?;
                }
            }
            Self::BadDay { began_anew } => {
                let home = stage.last_home().await?;
                fs::remove_file(home.join("standin-faults.json"))?;
                // The task holds it, so its agent has to begin it.
                if began_anew {
                    stage.is_replaced(&home).await?;
                }
            }
        }
        Ok(())
    }
}

/// What proxies run before and after: for those who look.
pub const RELEASES: [crate::packages::Release; 2] = [OLD, NEW];
