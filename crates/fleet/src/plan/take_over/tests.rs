use obfleet_wire::{
    agent::{CronEntry, FoundProcess, PackageLayout, ParameterReading},
    ob::ClusterType,
    obproxy::{LinkStatus, Parameter},
};

use super::*;
use crate::{inventory::ObLink, testing};

const WISH: Wish = Wish {
    host_id: 100,
    sql_port: 3883,
    exporter_port: None,
    rpc_port: None,
};

/// Cluster 1 over ob1, with a proxy of 4.2.1.0 on port 2883 of host 100.
fn fleet() -> Snapshot {
    let mut fleet = testing::fleet_of(1, "4.2.1.0-11");
    let servers = "10.0.0.1:2881;10.0.0.2:2881";
    let behind = testing::ob_cluster(5, "ob1", None, ClusterType::Primary, servers);
    fleet.ob_clusters.insert(5, behind);
    fleet.ob_links.push(ObLink {
        cluster_id: 1,
        name: "ob1".into(),
        ob_cluster: 5,
        username: "proxyro".into(),
        status: LinkStatus::Running,
        told: true,
    });
    fleet
}

fn reading(name: &str, value: &str, need_restart: bool) -> ParameterReading {
    ParameterReading {
        name: name.into(),
        value: value.into(),
        in_force: None,
        info: String::new(),
        need_restart,
        range: String::new(),
        visible: "USER".into(),
    }
}

/// One that obd started, as it should be.
fn examined() -> Examination {
    let proxy = FoundProxy {
        cron_entries: Vec::new(),
        exporter_port: Some(3884),
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
            pid: 7,
            root: None,
        }],
        restarting: false,
        rpc_port: Some(3885),
        sql_port: Some(3883),
        start_method: StartMethod::ByHand,
        user: "admin".into(),
        version: Some("4.2.1.0-11".parse().unwrap()),
        watchdogs: Vec::new(),
    };
    let parameters = ProxyParameters {
        digest: String::new(),
        version: "4.2.1.0-11".parse().unwrap(),
        items: vec![
            reading("obproxy_config_server_url", "", true),
            reading("observer_sys_password", SECRET_VALUE, false),
            reading("proxy_hot_upgrade_check_interval", "5s", false),
            reading("rootservice_cluster_name", "ob1", true),
            reading("rootservice_list", "10.0.0.2:2881;10.0.0.1:2881", true),
            reading("syslog_level", "WDIAG", false),
            reading("work_thread_num", "128", true),
        ],
    };
    Examination {
        proxy: Some(proxy),
        parameters: Some(parameters),
        obstacles: Vec::new(),
    }
}

fn judged(fleet: &Snapshot, wish: Wish, examination: &Examination) -> Judged {
    judge(fleet, &fleet.clusters[&1], &[], wish, examination)
}

fn of(change: impl FnOnce(&mut FoundProxy, &mut ProxyParameters)) -> Judged {
    let mut examination = examined();
    let proxy = examination.proxy.as_mut().unwrap();
    change(proxy, examination.parameters.as_mut().unwrap());
    judged(&fleet(), WISH, &examination)
}

fn set(parameters: &mut ProxyParameters, name: &str, value: &str) {
    let item = parameters.items.iter_mut().find(|item| item.name == name);
    item.unwrap().value = value.into();
}

#[test]
fn what_fits_is_taken_as_it_is() {
    let judged = judged(&fleet(), WISH, &examined());
    assert_eq!((judged.obstacles, judged.cautions), (vec![], vec![]));
    let taken = judged.taken.unwrap();
    assert_eq!(taken.version.to_string(), "4.2.1.0-11");
    let ports = Ports {
        sql: 3883,
        exporter: 3884,
        rpc: Some(3885),
    };
    assert_eq!(taken.ports, ports);
}

#[test]
fn what_the_host_saw_stands_in_the_way() {
    let nothing = Examination {
        proxy: None,
        parameters: None,
        obstacles: vec![Obstacle::NotRunning { port: 3883 }],
    };
    let judged = judged(&fleet(), WISH, &nothing);
    assert_eq!((judged.obstacles, judged.taken), (nothing.obstacles, None));
}

#[test]
fn each_obstacle_of_the_fleets_has_its_name() {
    let version = |text: &str| text.parse::<ProxyVersion>().unwrap();
    let obstacle = |change: fn(&mut FoundProxy, &mut ProxyParameters)| of(change).obstacles;
    assert_eq!(
        obstacle(|_, has| has.version = "1.7.9-1".parse().unwrap()),
        [
            Obstacle::VersionTooLow {
                version: version("1.7.9-1"),
                least: "1.8.0".into()
            },
            Obstacle::OtherFamily {
                version: version("1.7.9-1"),
                cluster: version("4.2.1.0-11")
            }
        ]
    );
    assert_eq!(
        obstacle(|_, has| has.version = "3.2.3-1".parse().unwrap()),
        [Obstacle::OtherFamily {
            version: version("3.2.3-1"),
            cluster: version("4.2.1.0-11")
        }]
    );
    let by_url = |_: &mut FoundProxy, has: &mut ProxyParameters| {
        set(has, "rootservice_list", "");
        set(has, "obproxy_config_server_url", "http://10.0.0.1/services");
    };
    let cluster = WorkMode::RsList;
    assert_eq!(obstacle(by_url), [Obstacle::OtherWorkMode { cluster }]);
    assert_eq!(
        obstacle(|_, has| set(has, "rootservice_cluster_name", "ob9")),
        [Obstacle::OtherObCluster { serves: "ob9".into() }]
    );
    assert_eq!(obstacle(|_, has| set(has, "rootservice_cluster_name", "undefined")), []);
    assert_eq!(
        obstacle(|_, has| {
            set(has, "rootservice_cluster_name", "undefined");
            set(has, "rootservice_list", "10.0.0.9:2881");
        }),
        [Obstacle::OtherObCluster {
            serves: "10.0.0.9:2881".into()
        }]
    );
    let (has, asked) = (None, None);
    assert_eq!(
        obstacle(|proxy, _| proxy.exporter_port = None),
        [Obstacle::ExporterPort { has, asked }]
    );
    assert_eq!(
        obstacle(|proxy, _| proxy.exporter_port = Some(2884)),
        [Obstacle::PortInUse {
            port: 2884,
            proxy_id: 10
        }]
    );
    let wish = Wish {
        exporter_port: Some(9),
        rpc_port: Some(8),
        ..WISH
    };
    assert_eq!(
        judged(&fleet(), wish, &examined()).obstacles,
        [
            Obstacle::ExporterPort {
                has: Some(3884),
                asked: Some(9)
            },
            Obstacle::RpcPort {
                has: Some(3885),
                asked: 8
            }
        ]
    );
}

#[test]
fn an_empty_cluster_takes_either_family() {
    let mut fleet = fleet();
    fleet.proxies.clear();
    let mut examination = examined();
    examination.parameters.as_mut().unwrap().version = "3.2.0-1".parse().unwrap();
    let judged = judged(&fleet, WISH, &examination);
    let version = "3.2.0-1".parse().unwrap();
    assert_eq!(
        (judged.obstacles, judged.cautions),
        (vec![], vec![Caution::NoHotRestart { version }])
    );
}

#[test]
fn what_is_to_be_known_is_told() {
    let judged = of(|proxy, _| {
        proxy.start_method = StartMethod::Obd;
        proxy.processes[0].executable_replaced = true;
        proxy.cron_entries.push(CronEntry {
            file: "/etc/crontab".into(),
            line: 3,
        });
    });
    assert_eq!(judged.obstacles, []);
    assert_eq!(
        judged.cautions,
        [
            Caution::StartedBy { tool: StartMethod::Obd },
            Caution::Cron {
                file: "/etc/crontab".into(),
                line: 3
            },
            Caution::ExecutableReplaced {
                path: "/h/bin/obproxy".into()
            }
        ]
    );
}

#[test]
fn parameters_that_differ_are_listed_once_and_passwords_never() {
    let mut fleet = fleet();
    let settings = &mut fleet.clusters.get_mut(&1).unwrap().settings;
    let parameter = |name: &str, value: &str| Parameter {
        name: name.into(),
        value: value.into(),
    };
    settings.parameters = vec![
        parameter("syslog_level", "INFO"),
        parameter("work_thread_num", "64"),
        parameter("of_another_version", "1"),
    ];
    let differences = judged(&fleet, WISH, &examined()).differences;
    let shown: Vec<_> = differences
        .iter()
        .map(|one| {
            (
                one.name.as_str(),
                one.proxy_value.as_str(),
                one.cluster_value.as_str(),
                one.need_restart,
            )
        })
        .collect();
    // The list of root servers is the same in another order.
    assert_eq!(
        shown,
        [
            ("syslog_level", "WDIAG", "INFO", false),
            ("work_thread_num", "128", "64", true),
            ("proxy_hot_upgrade_check_interval", "5s", "1s", false),
        ]
    );
}
