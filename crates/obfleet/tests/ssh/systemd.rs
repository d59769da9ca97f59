//! Machines that systemd runs: it keeps the agent running, and may have run proxies before they are taken over.

use std::{fs, path::Path, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api::{self, Api},
    ledger::Ledger,
    machine::{self, DEPLOYER, GUEST, Machine, PASSWORD, init},
    packages::{NEW, OLD},
    process::signal,
    testbed::{CLIENT, Testbed, until},
    traffic::Traffic,
};
use obfleet_obproxy::process;
use obfleet_standin::{Faults, Trailer, foreign::Order, pack, ports::PortLease};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::lab::{EXE, Lab, PATIENCE, credential, is_added};

const UNIT: &str = "obproxy.service";
const HELD: &str = "/etc/systemd/system/obproxy.service.d/zz-obfleet.conf";
const FOREIGN_PASSWORD: &str = "Foreign-s3cret1";

fn can_be_had() -> bool {
    machine::can_be_had() && init::can_be_had()
}

/// What systemd says of a unit.
fn shown(machine: &Machine, unit: &str, property: &str) -> String {
    let arguments = ["show", "--value", "--property", property, "--", unit];
    let text = machine.init().unwrap().systemctl(&arguments).unwrap();
    text.trim().to_owned()
}

#[tokio::test]
async fn systemd_runs_the_agents_of_root_and_of_who_may_use_sudo() {
    if !can_be_had() {
        return;
    }
    let lab = Lab::start_with_systemd().await;
    let (machine, api) = (&lab.machine, lab.fleet.api().unwrap());
    let unit = format!("obfleet-agent-{}.service", machine.agent_port());
    for user in ["root", DEPLOYER] {
        let body = machine.addition(credential(api, user, PASSWORD).await);
        let host = lab.is_added(&body).await;
        let of_unit = |property: &str| shown(machine, &unit, property);
        assert_eq!(
            [of_unit("ActiveState"), of_unit("UnitFileState"), of_unit("KillMode")],
            ["active", "enabled", "process"],
            "{user}"
        );
        let [agent] = &machine.agents()[..] else {
            panic!("{user}: {:?}", machine.agents())
        };
        assert!(agent.contains("--root /opt/obfleet"), "{agent}");
        // It comes back without anybody's help.
        let before = of_unit("MainPID");
        let init = machine.init().unwrap();
        init.systemctl(&["kill", "--signal", "KILL", &unit]).unwrap();
        until("another agent", PATIENCE, async || {
            of_unit("ActiveState") == "active" && of_unit("MainPID") != before
        })
        .await;
        let path = format!("/api/v2/compute/hosts/{host}");
        api.until(&path, PATIENCE, |host| host["hostAgentStatus"] == "AVAILABLE")
            .await
            .unwrap();
        lab.delete(host).await;
        lab.is_cleared().await;
        assert_eq!(of_unit("LoadState"), "not-found", "{user}");
        assert!(!machine.outside(machine.root()).unwrap().exists(), "{user}");
    }
}

#[tokio::test]
async fn a_guests_agent_leaves_units_of_systemd_to_who_may_change_them() {
    if !can_be_had() {
        return;
    }
    let lab = Lab::start_with_systemd().await;
    let (machine, api) = (&lab.machine, lab.fleet.api().unwrap());
    let body = machine.addition(credential(api, GUEST, PASSWORD).await);
    let host = lab.is_added(&body).await;
    let home = machine.outside(Path::new("/home/guest/obfleet")).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(home.join("agent/state")).unwrap());
    assert_eq!(owner, machine::GUEST_ID);

    let proxy = OfSystemd::start(machine, Some(machine::GUEST_ID), "127.0.0.1:1").await;
    let cluster = json!({
        "name": "lab", "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST", "password": "Lab-Proxysys-1",
        "obproxyInstallParam": {"hostIds": []},
        "obLinks": [{"clusterName": "lab", "username": "proxyro", "rootServers": ["127.0.0.1:1"]}],
    });
    let made = api.post("/api/v2/obproxy/clusters", &cluster).await.unwrap();
    api.success(api::id(&made).unwrap(), PATIENCE).await.unwrap();
    let cluster = made["obproxyClusterId"].as_i64().unwrap();
    let obstacles = async || {
        let checked = proxy.precheck(api, cluster, host).await;
        checked["obstacles"].clone()
    };
    let told = obstacles().await;
    assert_eq!(
        (&told[0]["name"], told.as_array().unwrap().len()),
        (&json!("SYSTEMD_UNIT"), 1),
        "{told}"
    );
    // Whoever may does what is said there.
    let init = machine.init().unwrap();
    let text = told[0]["message"].as_str().unwrap();
    assert!(
        text.contains(HELD) && text.contains("systemctl daemon-reload"),
        "{told}"
    );
    let drop_in = "[Unit]\nConditionPathExists=!/etc/systemd/system/obproxy.service.d/zz-obfleet.conf\n\
                   [Service]\nRestart=no\nKillMode=none\nExecStop=\nExecStopPost=\n";
    let script = format!("mkdir -p \"$(dirname {HELD})\" && printf '%s' '{drop_in}' >{HELD}");
    assert!(init.run("sh", &["-c", &script]).unwrap().status.success());
    init.systemctl(&["daemon-reload"]).unwrap();
    assert_eq!(obstacles().await, json!([]));
}

/// A machine that is a host with root's agent, and a proxy that its systemd runs; and a cluster for it.
struct Place {
    // Ends before the directory it works in.
    machine: Machine,
    proxy: OfSystemd,
    host: i64,
    bed: Testbed,
}

impl Place {
    async fn start() -> Self {
        let bed = Testbed::start(Path::new(EXE), 0, 5).await.unwrap();
        let dir = bed.fleet.root().join("machine");
        let machine = Machine::start_with_systemd(dir).await.unwrap();
        machine::lighten(&bed.fleet.server().unwrap().state_dir, Path::new(EXE)).unwrap();
        let api = bed.api().unwrap();
        let host = is_added(api, &machine.addition(credential(api, "root", PASSWORD).await)).await;
        let proxy = OfSystemd::start(&machine, None, &bed.backend().address.to_string()).await;
        Self {
            machine,
            proxy,
            host,
            bed,
        }
    }
}

#[tokio::test]
async fn a_proxy_is_taken_over_from_systemd_and_given_back() {
    if !can_be_had() {
        return;
    }
    let place = Place::start().await;
    let (machine, proxy, host, bed) = (&place.machine, &place.proxy, place.host, &place.bed);
    let (api, init) = (bed.api().unwrap(), machine.init().unwrap());
    let active = || shown(machine, UNIT, "ActiveState");

    let checked = proxy.precheck(api, bed.cluster, host).await;
    assert_eq!(checked["obstacles"], json!([]), "{checked}");
    assert_eq!(checked["proxy"]["startMethod"], "SYSTEMD", "{checked}");
    let watchdog = json!({"kind": "SYSTEMD", "unit": UNIT, "restarts": true, "enabled": true});
    assert_eq!(checked["proxy"]["watchdogs"], json!([watchdog]), "{checked}");

    // Given back at once it is systemd's as before.
    let before = proxy.only();
    let id = proxy.take_over(api, bed.cluster, host).await;
    proxy.move_out(api, bed.cluster, id).await;
    assert_eq!((proxy.only(), active().as_str()), (before, "active"));
    assert!(!is_file(machine, HELD));
    proxy.dies_and_is_back().await;
    assert_eq!(active(), "active", "systemd's again");

    let ledger = Arc::new(Ledger::create(bed.backend()).await.unwrap());
    let traffic = Traffic::start(&[proxy.address()], CLIENT, &ledger);
    traffic.warm_up().await.unwrap();
    let before = proxy.only();
    let id = proxy.take_over(api, bed.cluster, host).await;
    assert_eq!(proxy.only(), before, "it was restarted");
    // Whoever takes it for systemd's still does no harm.
    for order in ["restart", "stop", "start"] {
        init.systemctl(&[order, UNIT]).unwrap();
        assert_eq!(proxy.only(), before, "{order}");
    }
    assert_eq!(active(), "inactive");
    let counts = traffic.total();
    drop(traffic);
    assert_eq!((counts.refused, counts.broken_transactions), (0, 0), "{counts:?}");
    bed.upload(NEW, None).await.unwrap();
    let upgrade = format!("/api/v2/obproxy/clusters/{}/obproxies/{id}/upgrade", bed.cluster);
    let task = api
        .post(&upgrade, &json!({"shortRpmName": NEW.short_rpm_name()}))
        .await
        .unwrap();
    api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    proxy.dies_and_is_back().await;
    // Nor does the end of the agent.
    let before = proxy.only();
    let agent = format!("obfleet-agent-{}.service", machine.agent_port());
    init.systemctl(&["restart", &agent]).unwrap();
    assert_eq!(proxy.only(), before);

    // Given back now, its unit has it from its next start on.
    proxy.move_out(api, bed.cluster, id).await;
    assert_eq!(
        [
            active(),
            shown(machine, UNIT, "UnitFileState"),
            shown(machine, UNIT, "Restart")
        ],
        ["inactive", "enabled", "always"]
    );
    assert_eq!(proxy.only(), before, "it was restarted");
    signal(before.cast_unsigned(), Signal::SIGKILL);
    until("its end", PATIENCE, async || proxy.owners().is_empty()).await;
    init.systemctl(&["start", UNIT]).unwrap();
    until("its start", PATIENCE, async || proxy.owners().len() == 1).await;
    assert_eq!(active(), "active");
}

#[tokio::test]
async fn a_unit_that_goes_by_others_word_is_told_of_and_left_as_it_was() {
    if !can_be_had() {
        return;
    }
    let place = Place::start().await;
    let (machine, proxy) = (&place.machine, &place.proxy);
    let (api, init) = (place.bed.api().unwrap(), machine.init().unwrap());
    let before = proxy.only();
    // Of a later name than ours.
    let script = "mkdir -p \"$0\" && printf '[Service]\\nKillMode=process\\n' >\"$0/zzz.conf\"";
    let dir = Path::new(HELD).parent().unwrap().to_str().unwrap();
    assert!(init.run("sh", &["-c", script, dir]).unwrap().status.success());
    let task = proxy.order_take_over(api, place.bed.cluster, place.host).await;
    let failed = api.rest(task, PATIENCE).await.unwrap();
    assert_eq!(failed["status"], "FAILED", "{failed}");
    let why = api.why(&failed).await;
    assert!(
        why.contains("Retire obproxy watchdog") && why.contains("systemctl cat obproxy.service"),
        "{why}"
    );
    let rollback = format!("/api/v2/tasks/instances/{task}/rollback");
    api.post_nothing(&rollback).await.unwrap();
    let back = api.rest(task, PATIENCE).await.unwrap();
    assert_eq!(back["status"], "SUCCESSFUL", "{}", api.why(&back).await);
    assert!(!is_file(machine, HELD) && is_file(machine, &format!("{dir}/zzz.conf")));
    assert_eq!(proxy.only(), before, "it was restarted");
    proxy.dies_and_is_back().await;
    assert_eq!(shown(machine, UNIT, "ActiveState"), "active", "systemd's as before");
}

fn is_file(machine: &Machine, path: &str) -> bool {
    let output = machine.init().unwrap().run("test", &["-f", path]).unwrap();
    output.status.success()
}

/// A stand-in that is run by the systemd of a machine.
struct OfSystemd {
    port: PortLease,
    _others: [PortLease; 2],
}

impl OfSystemd {
    async fn start(machine: &Machine, user: Option<u32>, root_server: &str) -> Self {
        let [port, exporter, rpc] = [(); 3].map(|()| PortLease::take().unwrap());
        let binary = machine.dir().join("packed");
        let trailer = Trailer {
            version: OLD.version.into(),
            release: "7.el7".into(),
            faults: Faults::default(),
            fake_backend: false,
        };
        pack(Path::new(EXE), &trailer, &binary).unwrap();
        let order = Order {
            binary,
            // The same place for those on the machine and for others.
            home: machine.dir().join("obproxy"),
            sql_port: port.port(),
            exporter_port: exporter.port(),
            rpc_port: rpc.port(),
            root_servers: root_server.to_owned(),
            ob_cluster: "lab".into(),
            password: FOREIGN_PASSWORD.into(),
            items: Vec::new(),
            user: user.map(|id| (id, id)),
        };
        order.install().unwrap();
        fs::write(machine.dir().join(UNIT), order.unit()).unwrap();
        let from = machine.dir().join(UNIT);
        let init = machine.init().unwrap();
        let copied = init
            .run("cp", &[from.to_str().unwrap(), "/etc/systemd/system/"])
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
        init.systemctl(&["daemon-reload"]).unwrap();
        init.systemctl(&["enable", "--now", UNIT]).unwrap();
        let one = Self {
            port,
            _others: [exporter, rpc],
        };
        until("the proxy of systemd", PATIENCE, async || one.owners().len() == 1).await;
        one
    }

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port.port()).into()
    }

    /// The processes that take its connections.
    fn owners(&self) -> Vec<i32> {
        process::port_owners(self.port.port()).unwrap()
    }

    fn only(&self) -> i32 {
        let owners = self.owners();
        assert_eq!(owners.len(), 1, "{owners:?}");
        owners[0]
    }

    async fn dies_and_is_back(&self) {
        let before = self.only();
        signal(before.cast_unsigned(), Signal::SIGKILL);
        until("another process", PATIENCE, async || {
            let now = self.owners();
            now.len() == 1 && now[0] != before
        })
        .await;
    }

    fn body(&self, host: i64) -> Value {
        json!({"hosts": [{"hostId": host, "sqlPort": self.port.port(), "proxysysPasswd": FOREIGN_PASSWORD}]})
    }

    async fn precheck(&self, api: &Api, cluster: i64, host: i64) -> Value {
        let path = format!("/api/v2/obproxy/clusters/{cluster}/takeOver/precheck");
        let checked = api.post(&path, &self.body(host)).await.unwrap();
        api::contents(&checked)[0].clone()
    }

    /// → the task's id
    async fn order_take_over(&self, api: &Api, cluster: i64, host: i64) -> i64 {
        let path = format!("/api/v2/obproxy/clusters/{cluster}/takeOver");
        let tasks = api.post(&path, &self.body(host)).await.unwrap();
        api::id(&api::contents(&tasks)[0]).unwrap()
    }

    /// → the proxy's id, once it serves
    async fn take_over(&self, api: &Api, cluster: i64, host: i64) -> i64 {
        let task = self.order_take_over(api, cluster, host).await;
        api.success(task, PATIENCE).await.unwrap();
        let path = format!("/api/v2/obproxy/clusters/{cluster}");
        let row = |detail: &Value| {
            let rows = detail["obproxies"].as_array().cloned().unwrap_or_default();
            rows.into_iter()
                .find(|row| row["sqlPort"] == self.port.port() && row["status"] == "RUNNING")
        };
        let detail = api
            .until(&path, PATIENCE, |detail| row(detail).is_some())
            .await
            .unwrap();
        api::id(&row(&detail).unwrap()).unwrap()
    }

    async fn move_out(&self, api: &Api, cluster: i64, id: i64) {
        let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{id}/moveOut");
        let give_up = Instant::now() + PATIENCE;
        let task = loop {
            let body = json!({"proxysysPasswd": FOREIGN_PASSWORD});
            let (status, answer) = api.try_post(&path, &body).await.unwrap();
            // The server may not have seen yet that it runs again.
            if status == 200 {
                break answer["data"].clone();
            }
            assert!(answer["error"]["code"] == 21017 && Instant::now() < give_up, "{answer}");
            sleep(Duration::from_millis(200)).await;
        };
        api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    }
}
