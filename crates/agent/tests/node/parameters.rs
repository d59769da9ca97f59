//! Parameters: set together or not at all, read, and what waits for a restart.

use std::time::{Duration, Instant};

use obfleet_agent::client::CallError;
use obfleet_obproxy::admin::AdminConn;
use obfleet_standin::Faults;
use obfleet_wire::agent::{Operation, Outcome, ParameterReading, ProxyParameters, ProxySpec, SECRET_VALUE};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, LONG, OLD, rpm},
};

async fn created(host: &Host, caller: &mut Caller, faults: Faults) -> ProxySpec {
    caller.install(&rpm(OLD, faults), OLD).await;
    let (spec, version) = (host.spec(7), OLD.parse().unwrap());
    let create = Operation::CreateProxy {
        spec: spec.clone(),
        version,
    };
    caller.proxy(create).await;
    spec
}

fn set(values: &[(&str, &str)]) -> Operation {
    Operation::SetParameters {
        proxy_id: 7,
        values: values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
    }
}

async fn admin(spec: &ProxySpec) -> AdminConn {
    let address = format!("127.0.0.1:{}", spec.sql_port).parse().unwrap();
    AdminConn::connect(address, &spec.sys_password, Duration::from_secs(10))
        .await
        .unwrap()
}

async fn read(caller: &Caller) -> ProxyParameters {
    caller.endpoint.parameters(7, LONG).await.unwrap()
}

fn item<'p>(parameters: &'p ProxyParameters, name: &str) -> &'p ParameterReading {
    parameters.items.iter().find(|item| item.name == name).unwrap()
}

/// What the agent tells of the proxy's configuration once it is not `old` any more.
async fn other_digest(caller: &Caller, old: Option<&str>) -> String {
    let give_up = Instant::now() + 3 * LONG;
    loop {
        let status = caller.endpoint.status().await.unwrap();
        let digest = status.proxies.into_iter().find_map(|proxy| proxy.parameters);
        match digest {
            Some(digest) if Some(digest.as_str()) != old => return digest,
            _ => assert!(Instant::now() < give_up, "it is {digest:?} for ever"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_set_together_or_not_at_all() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let faults = Faults {
        refuse_parameter: Some("max_log_file_size".into()),
        ..Faults::default()
    };
    created(&host, &mut caller, faults).await;
    let before = read(&caller).await;
    assert_ne!(item(&before, "syslog_level").value, "ERROR");
    for refused in ["no_such_item", "max_log_file_size"] {
        let answer = caller.call(set(&[("syslog_level", "ERROR"), (refused, "1M")])).await;
        assert!(
            matches!(&answer, Err(CallError::Failed { message }) if message.contains(refused)),
            "{answer:?}"
        );
        assert_eq!(read(&caller).await, before);
    }
    let refused = caller.call(set(&[("obproxy_sys_password", "other")])).await;
    assert!(matches!(refused, Err(CallError::Failed { .. })));
    for _ in 0..2 {
        let done = caller.call(set(&[("syslog_level", "ERROR")])).await;
        assert_eq!(done.unwrap(), Outcome::Done);
    }
    assert_eq!(item(&read(&caller).await, "syslog_level").value, "ERROR");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_sql_is_told_by_the_digest_and_secrets_are_not_told() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let spec = created(&host, &mut caller, Faults::default()).await;
    let first = other_digest(&caller, None).await;
    let parameters = read(&caller).await;
    assert_eq!(
        (parameters.digest.as_str(), parameters.items.len()),
        (first.as_str(), 299)
    );
    assert_eq!(parameters.version.to_string(), OLD);
    let limit = item(&parameters, "proxy_mem_limited");
    assert_eq!((limit.value.as_str(), limit.range.as_str()), ("1G", "[100MB,100G]"));
    assert!(!limit.info.is_empty() && !limit.need_restart && limit.in_force.is_none());
    assert_eq!(item(&parameters, "obproxy_sys_password").value, SECRET_VALUE);

    let mut admin = admin(&spec).await;
    admin.set_config("proxy_mem_limited", "3G").await.unwrap();
    let second = other_digest(&caller, Some(&first)).await;
    let parameters = read(&caller).await;
    assert_eq!(item(&parameters, "proxy_mem_limited").value, "3G");
    assert_eq!(parameters.digest, second);
    admin.close().await;

    let unknown = caller.endpoint.parameters(8, LONG).await;
    assert!(matches!(unknown, Err(CallError::Refused { .. })), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_restart_is_told_until_the_restart() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let client = authority.client();
    let mut caller = Caller::new(host.endpoint(&client), 1);
    created(&host, &mut caller, Faults::default()).await;
    let values = [("work_thread_num", "64"), ("max_log_file_size", "64MB")];
    caller.call(set(&values)).await.unwrap();
    let waiting = read(&caller).await;
    let threads = item(&waiting, "work_thread_num");
    assert_eq!(
        (threads.value.as_str(), threads.in_force.as_deref()),
        ("64", Some("128"))
    );
    assert!(threads.need_restart);
    assert_eq!(item(&waiting, "max_log_file_size").in_force, None, "it acts at once");

    // The agent remembers it over its own restart.
    host.kill_agent();
    host.start().unwrap();
    let mut caller = Caller::new(host.endpoint(&client), 2);
    let told = other_digest(&caller, None).await;
    assert_eq!(told, waiting.digest);

    let stop = Operation::StopProxy {
        proxy_id: 7,
        drain: DRAIN,
    };
    caller.call(stop).await.unwrap();
    caller
        .proxy(Operation::StartProxy {
            proxy_id: 7,
            wait: true,
        })
        .await;
    let told = other_digest(&caller, Some(&told)).await;
    let restarted = read(&caller).await;
    let threads = item(&restarted, "work_thread_num");
    assert_eq!((threads.value.as_str(), threads.in_force.as_deref()), ("64", None));
    assert_eq!(restarted.digest, told);
}
