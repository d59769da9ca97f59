//! What the agent finds on its host: proxies of every tool, told from its own, and nothing is changed by looking.

use std::{collections::BTreeSet, fs, process::Command};

use nix::unistd::geteuid;
use obfleet_agent::client::Endpoint;
use obfleet_obproxy::process::ProcessId;
use obfleet_standin::foreign::{Foreign, Tool};
use obfleet_wire::agent::{FoundProxy, FoundWatchdog, PackageLayout, StartMethod};

use crate::{
    authority::Authority,
    foreign::Stranger,
    host::{Caller, Host, OLD, end},
};

async fn find(endpoint: &Endpoint, foreign: &Foreign) -> FoundProxy {
    let home = foreign.home.canonicalize().unwrap().display().to_string();
    let found = endpoint.obproxies().await.unwrap();
    let of_home: Vec<_> = found
        .iter()
        .filter(|proxy| proxy.home.as_ref() == Some(&home))
        .collect();
    let [one] = of_home[..] else {
        panic!("{home}: {found:#?}")
    };
    one.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_every_tool_are_told_apart() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    for (home, tool, method, layout) in [
        ("obd/obproxy", Tool::Obd, StartMethod::Obd, PackageLayout::Plain),
        (
            "obshell/obproxy",
            Tool::Obshell,
            StartMethod::Obshell,
            PackageLayout::Plain,
        ),
        (
            "opt/taobao/install/obproxy-4.2.1.0",
            Tool::Package,
            StartMethod::Obproxyd,
            PackageLayout::RpmTaobao,
        ),
        (
            "home/admin/obproxy-4.2.1.0",
            Tool::Hand,
            StartMethod::ByHand,
            PackageLayout::RpmAdmin,
        ),
    ] {
        let stranger = Stranger::new(home);
        let foreign = stranger.start(tool);
        let (processes, watchdogs) = (foreign.processes(), foreign.watchdogs());
        let found = find(&endpoint, &foreign).await;
        assert_eq!((found.start_method, found.package_layout), (method, layout));
        assert_eq!(found.version.unwrap().to_string(), OLD);
        let ports = [found.sql_port, found.exporter_port, found.rpc_port].map(Option::unwrap);
        let order = &stranger.order;
        assert_eq!(ports, [order.sql_port, order.exporter_port, order.rpc_port]);
        assert_eq!(found.ob_cluster.as_deref(), Some("ob1"));
        assert!(!found.managed && found.obproxy_server_id.is_none() && !found.restarting);
        let pids: Vec<_> = found.processes.iter().map(|process| process.pid).collect();
        assert_eq!(pids, processes.iter().map(|id| id.pid).collect::<Vec<_>>());
        let seen: BTreeSet<_> = found.watchdogs.iter().filter_map(FoundWatchdog::pid).collect();
        assert_eq!(seen, watchdogs.iter().copied().collect());
        let is_known = |watchdog: &FoundWatchdog| match tool {
            Tool::Obd => matches!(watchdog, FoundWatchdog::Obd { .. }),
            _ => matches!(watchdog, FoundWatchdog::Obproxyd { .. }),
        };
        assert!(found.watchdogs.iter().all(is_known), "{:?}", found.watchdogs);
        assert!(
            !serde_json::to_string(&found.processes)
                .unwrap()
                .contains("sys_password")
        );
        assert_eq!(
            (foreign.processes(), foreign.watchdogs()),
            (processes, watchdogs),
            "looking changed something"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_are_marked() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    caller.create_upgradable(host.spec(7)).await;
    let found = caller.endpoint.obproxies().await.unwrap();
    let own = found
        .iter()
        .find(|proxy| proxy.sql_port == Some(host.spec(7).sql_port))
        .unwrap();
    assert_eq!((own.managed, own.obproxy_server_id), (true, Some(7)));
    assert_eq!((own.start_method, &own.watchdogs), (StartMethod::Obfleet, &Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executable_that_was_linked_or_replaced_is_still_the_proxys() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let stranger = Stranger::new("obproxy").linked();
    let foreign = stranger.start(Tool::Obd);
    let found = find(&endpoint, &foreign).await;
    assert_eq!(found.package_layout, PackageLayout::Linked);
    assert!(!found.processes[0].executable_replaced);
    fs::remove_file(&stranger.order.binary).unwrap();
    let found = find(&endpoint, &foreign).await;
    assert!(found.processes[0].executable_replaced);
    assert_eq!(
        found.version.unwrap().to_string(),
        OLD,
        "what runs is asked, not what lies there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_a_watchdog_is_shown() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let stranger = Stranger::new("obproxy");
    let foreign = stranger.start(Tool::Hand);
    let script = stranger.dir().join("keep.sh");
    fs::write(&script, "sleep 600; exec true\n").unwrap();
    let mut keeper = Command::new("/bin/sh");
    let mut keeper = keeper.arg(&script).arg(&foreign.home).spawn().unwrap();
    let found = find(&endpoint, &foreign).await;
    let pid = keeper.id().cast_signed();
    let sleeping = children_of(pid);
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    sleeping.into_iter().for_each(end);
    let command = format!("/bin/sh {}", script.display());
    assert_eq!(found.watchdogs, [FoundWatchdog::Unknown { pid, command }]);
}

fn children_of(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_proxy_is_asked_as_that_user() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can start one");
    }
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let mut stranger = Stranger::new("obproxy");
    stranger.order.user = Some((65534, 65534));
    let foreign = stranger.start(Tool::Obd);
    let found = find(&endpoint, &foreign).await;
    assert_eq!((found.user.as_str(), found.start_method), ("nobody", StartMethod::Obd));
    assert_eq!(found.version.unwrap().to_string(), OLD);
    let processes: Vec<ProcessId> = foreign.processes();
    assert_eq!(processes.len(), 1);
}
