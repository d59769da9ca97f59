//! The flows under test: the world each begins in, and the request that starts it.

use anyhow::{Context as _, Result, ensure};
use obfleet_engine::{TaskFilter, TaskId, TaskStatus};
use obfleet_fleet::{
    inventory::{HostSighting, ProxySighting},
    plan::{Selection, operate::Restart, upgrade::Wanted},
};
use obfleet_wire::{
    host::{CreateHosts, HostBasicData, HostKind},
    ob::{ClusterType, RegisterObCluster, UpdateObCluster},
    obproxy::{
        AddObproxy, CreateObproxyCluster, DeleteServers, MoveOutObproxy, ObLinkParam, ObproxyInstallParam, Parameter,
        Probe, ProxyStatus, TakeOverHost, TakeOverObproxy, WorkMode,
    },
    parameter::{DriftSelection, UpdateParameters},
    time::Timestamp,
};

use crate::{
    host::FOREIGN_PASSWORD,
    world::{HOSTS, World, admin, package_name},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// A cluster with two proxies.
    CreateCluster,
    /// A cluster without proxies.
    CreateEmptyCluster,
    /// A proxy on a host that has none.
    Add,
    /// A proxy on a host that has one of the same version.
    AddBeside,
    /// Two proxies by hot restart.
    UpgradeHot,
    /// One proxy that is too old for a hot restart.
    UpgradeCold,
    /// Two proxies of three.
    Delete,
    /// The same of which one is stopped and one has failed.
    DeleteMixed,
    /// One proxy that serves, from which load balancers keep away, one that is stopped, one that has failed.
    RemoveMixed,
    /// Two proxies, one of them on a host that is gone.
    RemoveWithoutHost,
    /// The one that serves and the one that has failed, of such three.
    Stop,
    /// The other one and the one that has failed.
    Start,
    /// Two proxies by hot restart.
    RestartHot,
    /// One proxy that is too old for a hot restart.
    RestartOld,
    /// Three proxies of each kind, by force.
    RestartForced,
    /// The one that serves of such three.
    GoOffline,
    /// The same, from which load balancers keep away.
    GoOnline,
    /// Two proxies.
    ChangeSysPassword,
    /// A cluster with two proxies.
    DeleteCluster,
    /// Other values for all of a cluster with two proxies, one of which has a value of its own.
    EditParameters,
    /// Two proxies, one of which was down when parameters were changed.
    RefreshParameters,
    /// Two proxies, both of which were changed by SQL.
    RepairDrift,
    /// The same.
    AcceptDrift,
    /// A CONFIG_URL cluster with two proxies over two OceanBase clusters, of which it brings one.
    CreateConfigUrl,
    /// Two proxies of a CONFIG_URL cluster by hot restart.
    UpgradeConfigUrl,
    /// Links to two OceanBase clusters, of which one comes with it, while two proxies run.
    AddLinks,
    /// A link, while there are no proxies.
    AddLinkWithoutProxies,
    /// One link of two, while two proxies run.
    DeleteLink,
    /// Other root servers of an OceanBase cluster that a CONFIG_URL and an RS_LIST cluster serve.
    UpdateObCluster,
    /// A proxy that somebody else started on a host, into a cluster with one proxy.
    TakeOver,
    /// A proxy that was taken over and one that was installed.
    MoveOut,
    /// A machine that is reached by SSH.
    AddHost,
    /// A host that was added over SSH.
    DeleteHost,
}

impl Flow {
    pub const ALL: [Self; 33] = [
        Self::CreateCluster,
        Self::CreateEmptyCluster,
        Self::Add,
        Self::AddBeside,
        Self::UpgradeHot,
        Self::UpgradeCold,
        Self::Delete,
        Self::DeleteMixed,
        Self::RemoveMixed,
        Self::RemoveWithoutHost,
        Self::Stop,
        Self::Start,
        Self::RestartHot,
        Self::RestartOld,
        Self::RestartForced,
        Self::GoOffline,
        Self::GoOnline,
        Self::ChangeSysPassword,
        Self::DeleteCluster,
        Self::EditParameters,
        Self::RefreshParameters,
        Self::RepairDrift,
        Self::AcceptDrift,
        Self::CreateConfigUrl,
        Self::UpgradeConfigUrl,
        Self::AddLinks,
        Self::AddLinkWithoutProxies,
        Self::DeleteLink,
        Self::UpdateObCluster,
        Self::TakeOver,
        Self::MoveOut,
        Self::AddHost,
        Self::DeleteHost,
    ];

    /// Whether its task goes back by itself when a step fails.
    pub fn undoes_itself(self) -> bool {
        matches!(self, Self::EditParameters | Self::ChangeSysPassword)
    }

    /// Makes the world the flow begins in, with flows.
    pub async fn prepare(self, world: &mut World) -> Result<()> {
        let clusters = match self {
            Self::DeleteHost => {
                let task = add_host(world).await?;
                return succeed(world, task.id).await;
            }
            Self::CreateCluster | Self::CreateEmptyCluster | Self::AddHost => return Ok(()),
            Self::Add | Self::AddBeside | Self::TakeOver | Self::MoveOut => {
                vec![cluster(world, &HOSTS[..1], "4.2.1.0-11").await?]
            }
            Self::UpgradeHot
            | Self::DeleteCluster
            | Self::RemoveWithoutHost
            | Self::RestartHot
            | Self::GoOffline
            | Self::ChangeSysPassword
            | Self::EditParameters
            | Self::RefreshParameters
            | Self::RepairDrift
            | Self::AcceptDrift => vec![cluster(world, &HOSTS[..2], "4.2.1.0-11").await?],
            Self::UpgradeCold | Self::RestartOld => vec![cluster(world, &HOSTS[..1], "3.1.0-1").await?],
            Self::Delete
            | Self::DeleteMixed
            | Self::RemoveMixed
            | Self::Stop
            | Self::Start
            | Self::RestartForced
            | Self::GoOnline => {
                vec![cluster(world, &HOSTS, "4.2.1.0-11").await?]
            }
            Self::CreateConfigUrl => {
                register(world, "ob2", "10.0.1.1:2881", Some("Abcdef56")).await?;
                return Ok(());
            }
            Self::UpgradeConfigUrl => vec![config_url(world, &HOSTS[..2], &["ob1"]).await?],
            Self::AddLinks | Self::AddLinkWithoutProxies => {
                register(world, "ob2", "10.0.1.1:2881", Some("Abcdef56")).await?;
                let hosts = if self == Self::AddLinks { &HOSTS[..2] } else { &[] };
                vec![config_url(world, hosts, &["ob1"]).await?]
            }
            Self::DeleteLink => {
                register(world, "ob2", "10.0.1.1:2881", Some("Abcdef56")).await?;
                vec![config_url(world, &HOSTS[..2], &["ob1", "ob2"]).await?]
            }
            Self::UpdateObCluster => {
                let beside = CreateObproxyCluster {
                    name: "c2".into(),
                    ..cluster(world, &HOSTS[2..], "4.2.1.0-11").await?
                };
                vec![config_url(world, &HOSTS[..1], &["ob1"]).await?, beside]
            }
        };
        for cluster in clusters {
            let started = world.fleet.create_cluster(&admin(), cluster, None).await?;
            succeed(world, started.task.id).await?;
        }
        match self {
            Self::DeleteMixed | Self::RemoveMixed | Self::Stop | Self::Start | Self::RestartForced | Self::GoOnline => {
                mix(world).await
            }
            Self::EditParameters => edit_one(world).await,
            Self::TakeOver => world.foreign(HOSTS[1], 3883).await,
            Self::MoveOut => {
                world.foreign(HOSTS[1], 3883).await?;
                let task = take_over(world, HOSTS[1], 3883).await?;
                succeed(world, task.id).await
            }
            Self::RefreshParameters => lag_behind(world).await,
            Self::RepairDrift | Self::AcceptDrift => drift(world).await,
            _ => Ok(()),
        }
    }

    /// Starts the flow.
    pub async fn start(self, world: &World) -> Result<TaskId> {
        let fleet = &world.fleet;
        let who = admin();
        let task = match self {
            Self::CreateCluster => {
                let body = cluster(world, &HOSTS[..2], "4.2.1.0-11").await?;
                fleet.create_cluster(&who, body, None).await?.task
            }
            Self::CreateEmptyCluster => {
                let body = cluster(world, &[], "4.2.1.0-11").await?;
                fleet.create_cluster(&who, body, None).await?.task
            }
            Self::DeleteHost => {
                fleet
                    .delete_hosts(&who, &host_ids(world, &["machine"]).await?, "hostId")
                    .await?;
                let newest = fleet
                    .engine()
                    .list(&TaskFilter {
                        size: 1,
                        ..TaskFilter::default()
                    })
                    .await?;
                newest.items.into_iter().next().context("no task")?
            }
            Self::AddHost => add_host(world).await?,
            Self::Add => add(world, HOSTS[1], 2883).await?,
            Self::MoveOut => {
                let (cluster, proxies) = proxies(world).await?;
                let body = MoveOutObproxy {
                    proxysys_passwd: Some("Abcdef78".into()),
                };
                fleet.move_out(&who, cluster, &proxies, &body, None).await?
            }
            Self::TakeOver => take_over(world, HOSTS[1], 3883).await?,
            Self::AddBeside => add(world, HOSTS[0], 3883).await?,
            Self::CreateConfigUrl => {
                let body = config_url(world, &HOSTS[..2], &["ob1", "ob2"]).await?;
                fleet.create_cluster(&who, body, None).await?.task
            }
            Self::AddLinks => {
                let links = [link("ob2", &[]), link("ob9", &["10.0.9.1:2881"])];
                fleet.add_ob_links(&who, proxies(world).await?.0, &links, None).await?
            }
            Self::AddLinkWithoutProxies => {
                let links = [link("ob2", &[])];
                fleet.add_ob_links(&who, proxies(world).await?.0, &links, None).await?
            }
            Self::DeleteLink => fleet.delete_ob_link(&who, proxies(world).await?.0, "ob2", None).await?,
            Self::UpdateObCluster => {
                let known = fleet.ob_clusters().await?;
                let known = known.iter().find(|known| known.name == "ob1").context("no ob1")?;
                let change = UpdateObCluster {
                    ob_cluster_id: Some(7),
                    root_servers: Some(vec!["10.0.0.2:3882:2881".parse()?, "10.0.0.3:2881".parse()?]),
                    ..UpdateObCluster::default()
                };
                let updated = fleet.update_ob_cluster(&who, known.id, &change, None).await?;
                return Ok(TaskId(updated.task_id.context("no task")?));
            }
            Self::UpgradeHot | Self::UpgradeCold | Self::UpgradeConfigUrl => {
                let to = Wanted {
                    short_rpm_name: Some("obproxy-ce-4.3.1.0-1"),
                    operating_system: None,
                };
                let (cluster, proxies) = proxies(world).await?;
                let chosen = Selection::in_path(&proxies);
                fleet.upgrade_obproxies(&who, cluster, chosen, to, None).await?
            }
            Self::Delete => {
                let (cluster, proxies) = proxies(world).await?;
                fleet.delete_obproxies(&who, cluster, &proxies[..2], None).await?
            }
            Self::DeleteMixed => {
                let (cluster, proxies) = proxies(world).await?;
                fleet.delete_obproxies(&who, cluster, &proxies, None).await?
            }
            Self::RemoveMixed | Self::RemoveWithoutHost => {
                let (cluster, proxies) = proxies(world).await?;
                let gone = self == Self::RemoveWithoutHost;
                let body = DeleteServers {
                    skip_host_operation_server_ids: proxies.iter().copied().take(usize::from(gone)).collect(),
                    obproxy_server_ids: proxies,
                };
                fleet.delete_servers(&who, cluster, body, None).await?
            }
            Self::Stop => {
                let (cluster, proxies) = proxies(world).await?;
                let chosen = [proxies[0], proxies[2]];
                let chosen = Selection::in_body(&chosen);
                fleet.stop_obproxies(&who, cluster, chosen, None).await?
            }
            Self::Start => {
                let (cluster, proxies) = proxies(world).await?;
                let chosen = Selection::in_body(&proxies[1..]);
                fleet.start_obproxies(&who, cluster, chosen, None).await?
            }
            Self::RestartHot | Self::RestartOld | Self::RestartForced => {
                let how = match self {
                    Self::RestartHot => Restart::Hot,
                    Self::RestartOld => Restart::Recommended,
                    _ => Restart::Forced,
                };
                let (cluster, proxies) = proxies(world).await?;
                let chosen = Selection::in_body(&proxies);
                fleet.restart_obproxies(&who, cluster, chosen, how, None).await?
            }
            Self::GoOffline | Self::GoOnline => {
                let (cluster, proxies) = proxies(world).await?;
                let chosen = Selection::in_path(&proxies[..1]);
                let offline = self == Self::GoOffline;
                fleet.balance_obproxies(&who, cluster, chosen, offline, None).await?
            }
            Self::ChangeSysPassword => {
                let (cluster, _) = proxies(world).await?;
                fleet.change_sys_password(&who, cluster, "Other-Sys-1", None).await?
            }
            Self::DeleteCluster => fleet.delete_cluster(&who, proxies(world).await?.0, None).await?,
            Self::EditParameters => {
                let (cluster, _) = proxies(world).await?;
                let body = values(&[("syslog_level", "WARN"), ("work_thread_num", "32")], None);
                fleet.update_parameters(&who, cluster, body, None).await?
            }
            Self::RefreshParameters => {
                let (cluster, proxies) = proxies(world).await?;
                fleet.refresh_parameters(&who, cluster, &proxies, None).await?
            }
            Self::RepairDrift => {
                let (cluster, _) = proxies(world).await?;
                let all = DriftSelection::default();
                fleet.repair_drift(&who, cluster, all, None).await?
            }
            Self::AcceptDrift => {
                let (cluster, _) = proxies(world).await?;
                let all = DriftSelection::default();
                fleet.accept_drift(&who, cluster, all, None).await?
            }
        };
        Ok(task.id)
    }
}

const CLUSTER: &str = "c1";

/// Where the machine is that is reached by SSH.
pub const MACHINE: &str = "10.0.0.9";

async fn add_host(world: &World) -> Result<obfleet_engine::TaskView> {
    let credentials = world.fleet.credentials(&admin()).await?;
    let body = CreateHosts {
        alias: Some("nine".into()),
        bind_address: None,
        credential_id: credentials.first().context("no credential")?.id,
        description: None,
        host_basic_data_list: vec![HostBasicData {
            inner_ip_address: MACHINE.into(),
            serial_number: None,
            ssh_host_key: None,
        }],
        idc_id: None,
        install_path: None,
        kind: HostKind::default(),
        mgragent_port: None,
        monagent_cpu_quota: None,
        monagent_memory_quota: None,
        monagent_port: None,
        publish_ports: None,
        ssh_port: None,
        type_id: None,
    };
    let tasks = world.fleet.add_hosts(&admin(), body, None).await?;
    tasks.into_iter().next().context("one task a host")
}

fn values(values: &[(&str, &str)], proxies: Option<Vec<i64>>) -> UpdateParameters {
    UpdateParameters {
        obproxy_server_ids: proxies,
        parameters: values.iter().map(|(name, value)| parameter(name, value)).collect(),
    }
}

fn parameter(name: &str, value: &str) -> Parameter {
    Parameter {
        name: name.into(),
        value: value.into(),
    }
}

async fn edit(world: &mut World, body: UpdateParameters) -> Result<()> {
    let (cluster, _) = proxies(world).await?;
    let task = world.fleet.update_parameters(&admin(), cluster, body, None).await?;
    succeed(world, task.id).await
}

async fn edit_one(world: &mut World) -> Result<()> {
    let (_, proxies) = proxies(world).await?;
    edit(world, values(&[("syslog_level", "ERROR")], Some(proxies[1..].to_vec()))).await
}

async fn lag_behind(world: &mut World) -> Result<()> {
    let (_, proxies) = proxies(world).await?;
    world.is_seen(proxies[1], false).await?;
    edit(world, values(&[("syslog_level", "WARN")], None)).await?;
    world.is_seen(proxies[1], true).await
}

/// One value that both have, and one that one has.
async fn drift(world: &mut World) -> Result<()> {
    let (_, proxies) = proxies(world).await?;
    for proxy in &proxies {
        world.set_by_sql(*proxy, "syslog_level", "DEBUG").await?;
    }
    world.set_by_sql(proxies[0], "work_thread_num", "16").await
}

async fn succeed(world: &mut World, task: TaskId) -> Result<()> {
    let view = world.rest(task).await?;
    ensure!(view.status == TaskStatus::Successful, "no world to begin in: {view:?}");
    Ok(())
}

/// Of three proxies that serve, has load balancers keep away from the first, stops the second and lets the third fail.
async fn mix(world: &mut World) -> Result<()> {
    let (cluster, proxies) = proxies(world).await?;
    let stopped = [proxies[1]];
    let (who, chosen) = (admin(), Selection::in_body(&stopped));
    let stop = world.fleet.stop_obproxies(&who, cluster, chosen, None).await?;
    succeed(world, stop.id).await?;
    world.hosts.take_offline(proxies[0]);
    world.hosts.crash(proxies[2]);
    let inventory = &world.fleet.crew().inventory;
    for (id, serving) in [(proxies[0], true), (proxies[2], false)] {
        let proxy = inventory.proxy(id).await?.context("no proxy")?;
        let seen = ProxySighting {
            serving,
            stopped: false,
            offline: serving,
        };
        let (asked, at) = (Timestamp::now(), Timestamp::now());
        let sighting = HostSighting {
            host_id: proxy.host_id,
            online: true,
            agent_version: None,
            proxies: [(id, seen)].into(),
            restarts: [].into(),
            asked,
            at,
        };
        inventory.record_sightings(&[sighting]).await?;
    }
    let statuses = [ProxyStatus::Running, ProxyStatus::Stopped, ProxyStatus::Unavailable];
    for (id, status) in proxies.into_iter().zip(statuses) {
        let proxy = inventory.proxy(id).await?.context("no proxy")?;
        ensure!(proxy.status == status, "no world to begin in: {proxy:?}");
    }
    Ok(())
}

async fn add(world: &World, host: &str, port: u16) -> Result<obfleet_engine::TaskView> {
    let (cluster, _) = proxies(world).await?;
    let body = AddObproxy {
        host_ids: host_ids(world, &[host]).await?,
        sql_port: port,
        exporter_port: port + 1,
        rpc_port: None,
        version: package_name("4.2.1.0-11"),
    };
    let tasks = world.fleet.add_obproxies(&admin(), cluster, body, None).await?;
    tasks.into_iter().next().context("one task a host")
}

async fn take_over(world: &World, host: &str, port: u16) -> Result<obfleet_engine::TaskView> {
    let (cluster, _) = proxies(world).await?;
    let body = TakeOverObproxy {
        hosts: vec![TakeOverHost {
            host_id: host_ids(world, &[host]).await?[0],
            sql_port: port,
            proxysys_passwd: Some(FOREIGN_PASSWORD.into()),
        }],
        exporter_port: None,
        rpc_port: None,
    };
    let tasks = world.fleet.take_over(&admin(), cluster, body, None).await?;
    tasks.into_iter().next().context("one task a host")
}

/// The cluster and its proxies.
async fn proxies(world: &World) -> Result<(i64, Vec<i64>)> {
    let id = world.fleet.cluster_named(CLUSTER).await?.context("no cluster")?;
    let fleet = world.fleet.crew().inventory.snapshot().await?;
    Ok((id, fleet.proxies_of(id).map(|proxy| proxy.id).collect()))
}

async fn host_ids(world: &World, names: &[&str]) -> Result<Vec<i64>> {
    let fleet = world.fleet.crew().inventory.snapshot().await?;
    let named = fleet
        .hosts
        .values()
        .filter(|host| names.contains(&host.facts.name.as_str()));
    Ok(named.map(|host| host.id).collect())
}

/// A cluster that leaves nothing out: parameters, passwords, a probe.
async fn cluster(world: &World, hosts: &[&str], version: &str) -> Result<CreateObproxyCluster> {
    Ok(CreateObproxyCluster {
        client_token: None,
        name: CLUSTER.into(),
        address: None,
        port: None,
        work_mode: Some(WorkMode::RsList),
        obproxy_install_param: Some(ObproxyInstallParam {
            host_ids: host_ids(world, hosts).await?,
            sql_port: None,
            exporter_port: None,
            rpc_port: None,
            version: Some(package_name(version)),
            install_path: None,
            run_path: None,
            run_user: None,
        }),
        ob_links: vec![link("ob1", &["10.0.0.1:2881"])],
        startup_parameters: vec![parameter("prometheus_sync_interval", "1s")],
        parameters: vec![parameter("syslog_level", "INFO")],
        password: Some("Abcdef12".into()),
        proxyro_password: Some("Abcdef34".into()),
        probe: Some(Probe {
            user: "probe@t#ob1".into(),
            password: String::new(),
            sql: "SELECT 1 FROM DUAL".into(),
        }),
    })
}

fn link(name: &str, root_servers: &[&str]) -> ObLinkParam {
    ObLinkParam {
        cluster_name: name.into(),
        cluster_id: None,
        ob_cluster_id: None,
        username: "proxyro".into(),
        root_servers: root_servers.iter().map(ToString::to_string).collect(),
    }
}

/// A CONFIG_URL cluster that brings ob1, without a password of its own.
async fn config_url(world: &World, hosts: &[&str], links: &[&str]) -> Result<CreateObproxyCluster> {
    let links = links.iter().map(|name| match *name {
        "ob1" => link("ob1", &["10.0.0.1:2881"]),
        name => link(name, &[]),
    });
    Ok(CreateObproxyCluster {
        work_mode: Some(WorkMode::ConfigUrl),
        ob_links: links.collect(),
        proxyro_password: None,
        ..cluster(world, hosts, "4.2.1.0-11").await?
    })
}

async fn register(world: &World, name: &str, root_server: &str, password: Option<&str>) -> Result<()> {
    let body = RegisterObCluster {
        name: name.into(),
        ob_cluster_id: None,
        cluster_type: ClusterType::Primary,
        root_servers: vec![root_server.parse()?],
        proxyro_password: password.map(str::to_owned),
        account: None,
    };
    world.fleet.register_ob_cluster(&admin(), &body).await?;
    Ok(())
}
