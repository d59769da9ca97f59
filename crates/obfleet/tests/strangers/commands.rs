//! Every command about a fleet, on one.

use std::{fs, path::Path};

use obfleet_lab::{
    packages::{Fault, NEW, OLD, Release},
    process,
    testbed::{PATIENCE, SYS_PASSWORD, Testbed},
};
use obfleet_standin::{
    Faults, Trailer,
    foreign::{Foreign, Order, Tool},
    pack,
    ports::PortLease,
};
use serde_json::{Value, json};

use crate::{DRAIN_WINDOW_S, EXE, desk::Desk};

/// One that ends at once when it is started.
const BAD: Release = Release {
    version: "4.3.9.0",
    build: "1",
};
const FOREIGN_PASSWORD: &str = "Foreign-s3cret1";

async fn bed(hosts: u8) -> (Testbed, Desk) {
    let bed = Testbed::start(Path::new(EXE), hosts, DRAIN_WINDOW_S).await.unwrap();
    bed.at_rest_as(OLD).await.unwrap();
    let desk = Desk::at(&bed).await;
    (bed, desk)
}

/// A package's file.
fn build(bed: &Testbed, release: Release, fault: Option<Fault>) -> String {
    let dir = bed.fleet.root().join(format!("built-{}", release.version));
    fs::create_dir(&dir).unwrap();
    let file = release.build(Path::new(EXE), fault, &dir).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Somebody says this to a proxy, past the fleet.
async fn by_sql(bed: &Testbed, proxy: usize, sql: &str) {
    let mut admin = bed.proxies[proxy].log_in("root@proxysys", SYS_PASSWORD).await.unwrap();
    admin.query(sql).await.unwrap();
    admin.close().await;
}

/// The task, once this is so of it.
async fn until(bed: &Testbed, task: &str, done: impl Fn(&Value) -> bool) {
    let path = format!("/api/v2/tasks/instances/{task}");
    bed.api().unwrap().until(&path, PATIENCE, done).await.unwrap();
}

#[tokio::test]
async fn proxies_packages_and_parameters_are_looked_after() {
    let (bed, desk) = bed(2).await;
    let [one, two] = [0, 1].map(|n| bed.proxies[n].id.to_string());
    let both = format!("{one},{two}");
    let done = ["SUCCESSFUL"];

    let file = build(&bed, NEW, None);
    desk.shows(&["package", "upload", &file], &["FILE", &NEW.file_name()])
        .await;
    let (again, _) = desk.refuses(&["package", "upload", &file]).await;
    assert!(
        again.contains("PKG10012") && again.contains("is not uploaded"),
        "{again}"
    );
    let (none, _) = desk.refuses(&["package", "upload", "/nowhere/x.rpm"]).await;
    assert!(none.contains("/nowhere/x.rpm cannot be read"), "{none}");
    desk.shows(&["package", "list"], &[&OLD.file_name(), &NEW.file_name()])
        .await;

    let level = ["parameter", "list", "lab", "syslog_level"];
    desk.shows(&level, &["PARAMETER", "syslog_level"]).await;
    let (unknown, _) = desk.refuses(&["parameter", "set", "lab", "no_such=1"]).await;
    assert!(unknown.contains("no_such"), "{unknown}");
    let set = ["parameter", "set", "lab", "syslog_level=WARN", "--watch"];
    let said = desk.shows(&set, &done).await;
    assert!(said.contains(&format!("[proxy {two}]")), "{said}");
    desk.shows(&level, &["WARN"]).await;
    let of_one = [
        "parameter",
        "set",
        "lab",
        "syslog_level=ERROR",
        "--proxy",
        &one,
        "--watch",
    ];
    desk.shows(&of_one, &done).await;
    desk.shows(&level, &[&format!("ERROR ({one})"), &format!("WARN ({two})")])
        .await;
    let history = ["parameter", "history", "lab", "syslog_level"];
    desk.shows(&history, &["BEFORE", "admin", "EDIT", "ERROR", "WARN", "all"])
        .await;
    assert_eq!(desk.json(&["parameter", "drift", "lab"]).await, json!([]));
    let (nothing, _) = desk.refuses(&["parameter", "repair", "lab", "--watch"]).await;
    assert!(nothing.contains("ODP21107"), "{nothing}");
    desk.shows(&["parameter", "refresh", "lab", &both, "--watch"], &done)
        .await;
    desk.shows(&["parameter", "explain", "syslog_level"], &["TAKES", "STRING"])
        .await;

    // Found by the server while the rest goes on.
    by_sql(&bed, 1, "alter proxyconfig set syslog_level = 'INFO'").await;

    let show = ["cluster", "show", "lab"];
    let offline = desk.shows(&["proxy", "offline", "lab", &one, "--watch"], &done).await;
    assert!(offline.contains("Take obproxy offline SUCCESSFUL"), "{offline}");
    desk.shows(&show, &["OFFLINE"]).await;
    desk.shows(&["proxy", "online", "lab", &one, "--watch"], &done).await;
    desk.shows(&["proxy", "stop", "lab", &one, "--watch"], &done).await;
    assert_eq!(process::of_home(&bed.proxies[0].home), [0_u32; 0]);
    desk.shows(&show, &["STOPPED"]).await;
    desk.shows(&["proxy", "start", "lab", &one, "--watch"], &done).await;
    let before = process::of_home(&bed.proxies[1].home);
    desk.shows(&["proxy", "restart", "lab", &both, "--forced", "--watch"], &done)
        .await;
    assert_ne!(process::of_home(&bed.proxies[1].home), before);
    let path = format!("/api/v2/obproxy/clusters/{}/parameters/drift", bed.cluster);
    let found = |drift: &Value| !drift["contents"].as_array().unwrap().is_empty();
    bed.api().unwrap().until(&path, PATIENCE, found).await.unwrap();
    desk.shows(
        &["parameter", "drift", "lab"],
        &["SHOULD BE", &two, "WARN", "INFO", "CLUSTER"],
    )
    .await;
    desk.shows(&["parameter", "accept", "lab", "syslog_level", "--watch"], &done)
        .await;
    assert_eq!(desk.json(&["parameter", "drift", "lab"]).await, json!([]));
    desk.shows(&level, &[&format!("INFO ({two})")]).await;
    let upgrade = [
        "proxy",
        "upgrade",
        "lab",
        &both,
        "--package",
        &NEW.short_rpm_name(),
        "--watch",
    ];
    let said = desk.shows(&upgrade, &done).await;
    assert!(said.contains(&format!("Hot restart obproxy [proxy {one}]")), "{said}");
    desk.shows(&show, &[&NEW.text()]).await;

    desk.shows(&["proxy", "delete", "lab", &one, "--watch"], &done).await;
    assert_eq!(desk.json(&show).await["obproxies"].as_array().unwrap().len(), 1);
    desk.shows(&["cluster", "delete", "lab", "--watch"], &done).await;
    assert_eq!(desk.json(&["cluster", "list"]).await, json!([]));
    for package in desk.json(&["package", "list"]).await.as_array().unwrap() {
        desk.says(&["package", "delete", &package["id"].to_string()]).await;
    }
    desk.says(&["host", "delete", &bed.fleet.hosts[1].id.to_string()]).await;
    assert_eq!(desk.json(&["host", "list"]).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn tasks_that_fail_or_are_held_up_are_decided_about() {
    let (bed, desk) = bed(1).await;
    let one = bed.proxies[0].id.to_string();
    let file = build(&bed, BAD, Some(Fault::Exit));
    desk.says(&["package", "upload", &file]).await;
    let bad = BAD.short_rpm_name();
    let upgrade = ["proxy", "upgrade", "lab", &one, "--package", &bad];

    let (why, steps) = desk.refuses(&[&upgrade[..], &["--watch"]].concat()).await;
    assert!(why.contains("FAILED; `obfleet task show"), "{why}");
    assert!(steps.contains("FAILED"), "{steps}");
    let failed = desk.json(&["task", "list", "--status", "FAILED"]).await[0].clone();
    let task = failed["id"].to_string();
    let shown = desk.json(&["task", "show", &task]).await;
    let step = shown["subtasks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["status"] == "FAILED")
        .unwrap();
    let failure = step["failure"]["message"].as_str().unwrap();
    desk.shows(&["task", "show", &task], &["FAILURE", failure]).await;
    desk.shows(&["task", "log", &task, &step["id"].to_string()], &["{EXECUTE}"])
        .await;
    let (held, _) = desk.refuses(&["proxy", "stop", "lab", &one]).await;
    assert!(held.contains("COM10005") && held.contains(&task), "{held}");
    let (again, _) = desk.refuses(&["task", "retry", &task, "--watch"]).await;
    assert!(again.contains("FAILED"), "{again}");
    let said = desk.says(&["task", "rollback", &task, "--watch"]).await;
    assert!(
        said.contains(&format!("UNDONE      Hot restart obproxy [proxy {one}]")),
        "{said}"
    );
    assert!(said.trim_end().ends_with("ROLLED BACK"), "{said}");
    bed.at_rest_as(OLD).await.unwrap();

    let task = desk.starts(&upgrade).await;
    until(&bed, &task, |task| task["status"] == "FAILED").await;
    desk.shows(&["task", "abandon", &task, "--reason", "no good"], &["given up"])
        .await;
    let (over, _) = desk.refuses(&["task", "retry", &task]).await;
    assert!(over.contains("TSK10007"), "{over}");
    bed.at_rest_as(OLD).await.unwrap();

    // Held up before its first proxy is touched.
    let task = desk.starts(&["proxy", "restart", "lab", &one]).await;
    desk.says(&["task", "pause", &task]).await;
    until(&bed, &task, |task| {
        let steps = task["subtasks"].as_array().unwrap();
        task["halt"] == "PAUSED" && steps.iter().all(|step| step["status"] != "RUNNING")
    })
    .await;
    desk.shows(&["task", "resume", &task, "--watch"], &["SUCCESSFUL"]).await;
    let task = desk.starts(&["proxy", "restart", "lab", &one]).await;
    let (canceled, _) = desk.refuses(&["task", "cancel", &task, "--watch"]).await;
    assert!(canceled.contains("FAILED"), "{canceled}");
    assert_eq!(desk.json(&["task", "show", &task]).await["outcome"], "CANCELLED");
    desk.says(&["task", "rollback", &task, "--watch"]).await;
    bed.at_rest_as(OLD).await.unwrap();
}

/// A proxy that somebody started by hand.
async fn foreign(bed: &Testbed) -> (Foreign, [PortLease; 3]) {
    let ports = [(); 3].map(|()| PortLease::take().unwrap());
    let (binary, home) = (
        bed.fleet.root().join("packed"),
        bed.fleet.root().join("foreign/obproxy"),
    );
    let trailer = Trailer {
        version: OLD.version.into(),
        release: format!("{}.el7", OLD.build),
        faults: Faults::default(),
        fake_backend: false,
    };
    pack(Path::new(EXE), &trailer, &binary).unwrap();
    fs::create_dir_all(&home).unwrap();
    let [sql, exporter, rpc] = [0, 1, 2].map(|n: usize| ports[n].port());
    let order = Order {
        binary,
        home,
        sql_port: sql,
        exporter_port: exporter,
        rpc_port: rpc,
        root_servers: bed.backend().address.to_string(),
        ob_cluster: "lab".into(),
        password: FOREIGN_PASSWORD.into(),
        items: vec![("proxy_hot_upgrade_check_interval".into(), "1s".into())],
        user: None,
    };
    let started = tokio::task::spawn_blocking(move || Foreign::start(Tool::Hand, &order)).await;
    (started.unwrap().unwrap(), ports)
}

#[tokio::test]
async fn what_others_made_is_linked_and_taken_over() {
    let (bed, desk) = bed(1).await;
    let done = ["SUCCESSFUL"];
    let server = bed.backend().address.to_string();

    let (none, _) = desk.refuses(&["ob-cluster", "add", "ob2"]).await;
    assert!(none.contains("--root-server"), "{none}");
    desk.shows(
        &[
            "ob-cluster",
            "add",
            "ob2",
            "--root-server",
            &server,
            "--type",
            "primary",
        ],
        &["ob2 has id"],
    )
    .await;
    desk.shows(&["ob-cluster", "list"], &["SERVED BY", "ob2", "lab", &server])
        .await;
    desk.shows(&["ob-cluster", "probe", "ob2"], &["ANSWERS", &server, "yes"])
        .await;
    let secret = desk.file("proxyro", "Proxyro-s3cret1");
    let change = [
        "ob-cluster",
        "change",
        "ob2",
        "--proxyro-password",
        secret.to_str().unwrap(),
    ];
    desk.says(&[&change[..], &["--ob-cluster-id", "7"]].concat()).await;
    assert_eq!(desk.json(&["ob-cluster", "show", "ob2"]).await["obClusterId"], 7);

    let body = json!({"name": "conf", "address": "127.0.0.1", "port": 2883, "workMode": "CONFIG_URL", "obLinks": []});
    let body = desk.file("body", &body.to_string());
    let made = [
        "api",
        "POST",
        "/api/v2/obproxy/clusters",
        "--body",
        body.to_str().unwrap(),
    ];
    let task = desk.starts(&made).await;
    desk.shows(&["task", "watch", &task], &done).await;
    desk.shows(&["link", "add", "conf", "ob2", "--watch"], &done).await;
    desk.shows(&["link", "list", "conf"], &["ob2", "PRIMARY", "proxyro", "RUNNING"])
        .await;
    desk.shows(&["ob-cluster", "show", "ob2"], &["conf", "RUNNING"]).await;
    let (served, _) = desk.refuses(&["ob-cluster", "delete", "ob2"]).await;
    assert!(served.contains("conf"), "{served}");
    desk.shows(&["link", "remove", "conf", "ob2", "--watch"], &done).await;
    assert_eq!(desk.json(&["link", "list", "conf"]).await, json!([]));
    desk.says(&["ob-cluster", "delete", "ob2"]).await;

    let (foreign, _ports) = foreign(&bed).await;
    let host = bed.fleet.hosts[0].id;
    let place = format!("{host}:{}", foreign.address().port());
    let home = bed.fleet.root().join("foreign/obproxy").display().to_string();
    desk.shows(
        &["take-over", "find", &host.to_string()],
        &["STARTED BY", "BY_HAND", &home],
    )
    .await;
    desk.shows(&["parameter", "set", "lab", "syslog_level=WARN", "--watch"], &done)
        .await;
    let password = desk.file("foreign", FOREIGN_PASSWORD);
    let password = ["--sys-password", password.to_str().unwrap()];
    let (nobody, _) = desk.refuses(&["take-over", "start", "lab", &place]).await;
    assert!(nobody.contains("ODP21107"), "{nobody}");
    let check = desk
        .shows(
            &[&["take-over", "check", "lab", &place], &password[..]].concat(),
            &["free"],
        )
        .await;
    assert!(check.contains("changes   syslog_level: "), "{check}");
    let start = [&["take-over", "start", "lab", &place, "--watch"], &password[..]].concat();
    desk.shows(&start, &done).await;
    let port = json!(foreign.address().port());
    let shown = desk.json(&["cluster", "show", "lab"]).await;
    let taken = shown["obproxies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|proxy| proxy["sqlPort"] == port)
        .unwrap();
    let id = taken["id"].to_string();
    let back = [&["proxy", "move-out", "lab", &id, "--watch"], &password[..]].concat();
    desk.shows(&back, &done).await;
    assert_eq!(
        desk.json(&["cluster", "show", "lab"]).await["obproxies"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(foreign.processes().len(), 1, "it goes on");
}
