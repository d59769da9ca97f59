//! The password of root@proxysys: changed under the agent's own feet, whatever is cut off on the way.

use std::{fs, time::Duration};

use obfleet_obproxy::admin::AdminConn;
use obfleet_standin::Faults;
use obfleet_wire::agent::{Operation, ProxySpec};

use crate::{
    authority::Authority,
    host::{Caller, Host, OLD, rpm},
};

const PATIENCE: Duration = Duration::from_secs(10);

async fn lets_in(spec: &ProxySpec, password: &str) -> bool {
    let address = format!("127.0.0.1:{}", spec.sql_port).parse().unwrap();
    match AdminConn::connect(address, password, PATIENCE).await {
        Ok(admin) => {
            admin.close().await;
            true
        }
        Err(_) => false,
    }
}

fn set(password: &str) -> Operation {
    Operation::SetSysPassword {
        proxy_id: 7,
        password: password.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_goes_on_with_the_new_password_whatever_was_cut_off() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let client = authority.client();
    let mut caller = Caller::new(host.endpoint(&client), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let (spec, version) = (host.spec(7), OLD.parse().unwrap());
    let create = Operation::CreateProxy {
        spec: spec.clone(),
        version,
    };
    caller.proxy(create).await;

    for _ in 0..2 {
        caller.call(set("Second-1")).await.unwrap();
    }
    assert!(lets_in(&spec, "Second-1").await && !lets_in(&spec, &spec.sys_password).await);
    caller.call(Operation::Inspect { proxy_id: 7 }).await.unwrap();

    // The proxy has taken another one, and the agent is killed before it could keep it.
    let announced = host.state().join("proxies").join("7.next-secret");
    assert!(
        announced.parent().unwrap().join("7.secret").exists(),
        "the files lie elsewhere"
    );
    fs::write(&announced, "Third-1").unwrap();
    let address = format!("127.0.0.1:{}", spec.sql_port).parse().unwrap();
    let mut admin = AdminConn::connect(address, "Second-1", PATIENCE).await.unwrap();
    admin.set_config("obproxy_sys_password", "Third-1").await.unwrap();
    admin.close().await;
    host.kill_agent();
    host.start().unwrap();
    let mut caller = Caller::new(host.endpoint(&client), 2);
    // Back, and forth again.
    caller.call(set("Second-1")).await.unwrap();
    assert!(lets_in(&spec, "Second-1").await && !announced.exists());

    // It was announced, and the proxy was never asked.
    fs::write(&announced, "Third-1").unwrap();
    caller.call(Operation::Inspect { proxy_id: 7 }).await.unwrap();
    caller.call(set("Third-1")).await.unwrap();
    assert!(lets_in(&spec, "Third-1").await && !lets_in(&spec, "Second-1").await);
    assert!(
        !caller.lines.iter().any(|line| line.contains("Third-1")),
        "{:?}",
        caller.lines
    );
}
