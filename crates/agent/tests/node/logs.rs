//! The log files of a proxy, read through its agent.

use std::{fs, os::unix::fs::symlink};

use futures::TryStreamExt as _;
use obfleet_agent::client::{CallError, Endpoint};
use obfleet_standin::Faults;
use obfleet_wire::agent::{AgentError, Operation};

use crate::{
    authority::Authority,
    host::{Caller, Host, OLD, rpm},
};

async fn read(agent: &Endpoint, name: &str, tail: u64) -> Result<String, CallError> {
    let pieces: Vec<_> = agent.proxy_log(7, name, tail).await?.try_collect().await.unwrap();
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_log_file_is_read_and_nothing_else_of_the_host() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let client = authority.client();
    let agent = host.endpoint(&client);
    let unknown = |result: Result<String, CallError>| {
        let error = result.expect_err("it is nothing to read");
        assert!(
            matches!(
                &error,
                CallError::Refused {
                    error: AgentError::Unknown { .. },
                    ..
                }
            ),
            "{error}"
        );
    };
    unknown(read(&agent, "obproxy.log", 5).await);

    let mut caller = Caller::new(host.endpoint(&client), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let spec = host.spec(7);
    caller
        .proxy(Operation::CreateProxy {
            spec,
            version: OLD.parse().unwrap(),
        })
        .await;
    let home = fs::read_dir(host.root().join("proxies"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let odd = "obproxy 100%?#\u{65e5}.log.20261129010203";
    fs::write(home.join("log").join(odd), "0123456789".repeat(100_000)).unwrap();
    symlink(host.state().join("identity.json"), home.join("log/link.log")).unwrap();

    let logs = agent.proxy_logs(7).await.unwrap();
    let names: Vec<_> = logs.iter().map(|log| log.name.as_str()).collect();
    assert!(
        names.contains(&"obproxy_diagnosis.log") && names.contains(&odd),
        "{names:?}"
    );
    assert!(!names.contains(&"link.log"), "{names:?}");
    assert_eq!(logs.iter().find(|log| log.name == odd).unwrap().size, 1_000_000);

    assert_eq!(read(&agent, odd, 3).await.unwrap(), "789");
    assert_eq!(read(&agent, odd, u64::MAX).await.unwrap().len(), 1_000_000);
    let diagnosis = read(&agent, "obproxy_diagnosis.log", u64::MAX).await.unwrap();
    assert!(diagnosis.contains("reboot success"), "{diagnosis}");
    for name in [
        "missing.log",
        "link.log",
        "..",
        "../etc",
        "../../../state/identity.json",
        "",
        ".",
    ] {
        unknown(read(&agent, name, 5).await);
    }
}
