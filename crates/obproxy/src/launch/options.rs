//! The command line of a very first start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use obfleet_wire::agent::ProxySpec;
use sha1::{Digest as _, Sha1};

use super::LaunchError;

/// The tick of the hot restart task. It acts only from a process's start, and is what a failed restart costs: with the
/// proxy's own default of 5 s nobody accepts for up to 5 s after a rollback.
pub const DEFAULT_CHECK_INTERVAL: (&str, &str) = ("proxy_hot_upgrade_check_interval", "1s");

/// What separates two items of `-o`; no value can contain them.
const SEPARATORS: [char; 2] = [',', '\n'];

/// The options, and what has to be set by SQL because `-o` cannot carry it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) command_line: Vec<String>,
    pub(super) by_sql: Vec<(String, String)>,
}

/// Where the proxy of this specification is reached from its own host: the address it binds to, loopback if it binds
/// to all.
pub fn sql_address(spec: &ProxySpec) -> SocketAddr {
    let bound = spec.parameters.iter().rev().find(|(name, _)| name == "local_bound_ip");
    let ip = bound
        .and_then(|(_, value)| value.parse::<IpAddr>().ok())
        .filter(|ip| !ip.is_unspecified());
    SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), spec.sql_port)
}

/// The arguments of a first start. Values are not quoted: no shell takes the quotes away.
pub(super) fn first_start(spec: &ProxySpec) -> Result<Arguments, LaunchError> {
    let mut line = vec!["-p".to_owned(), spec.sql_port.to_string()];
    let mut set_here = vec![
        "listen_port",
        "prometheus_listen_port",
        "rpc_listen_port",
        "obproxy_sys_password",
    ];
    line.extend(["-l".to_owned(), spec.exporter_port.to_string()]);
    let mut items = vec![format!("obproxy_sys_password={}", password_hash(&spec.sys_password))];
    if let Some(port) = spec.rpc_port {
        line.extend(["-s".to_owned(), port.to_string()]);
    } else {
        // The default port would be the same for every proxy of the host.
        set_here.push("enable_obproxy_rpc_service");
        items.push("enable_obproxy_rpc_service=false".to_owned());
    }
    if !spec.root_servers.is_empty() {
        set_here.push("rootservice_list");
        line.extend(["-r".to_owned(), spec.root_servers.join(";")]);
    }
    if let Some(cluster) = &spec.ob_cluster {
        set_here.push("rootservice_cluster_name");
        line.extend(["-c".to_owned(), cluster.clone()]);
    }
    let (interval, seconds) = DEFAULT_CHECK_INTERVAL;
    if !spec.parameters.iter().any(|(name, _)| name == interval) {
        items.push(format!("{interval}={seconds}"));
    }
    let mut by_sql = Vec::new();
    for (name, value) in &spec.parameters {
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || name.is_empty() {
            let reason = "this is no name of a configuration item".to_owned();
            return Err(LaunchError::Parameter {
                name: name.clone(),
                reason,
            });
        }
        if set_here.contains(&name.as_str()) {
            continue;
        }
        if value.contains(SEPARATORS) {
            by_sql.push((name.clone(), value.clone()));
        } else {
            items.push(format!("{name}={value}"));
        }
    }
    line.extend(["-o".to_owned(), items.join(",")]);
    Ok(Arguments {
        command_line: line,
        by_sql,
    })
}

/// `-o` takes the SHA-1 of the password, hexadecimal. No password is the empty value: the hash of nothing locks everybody
/// out.
pub fn password_hash(password: &str) -> String {
    if password.is_empty() {
        String::new()
    } else {
        hex::encode(Sha1::digest(password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ProxySpec {
        ProxySpec {
            proxy_id: 1,
            cluster_name: "c".into(),
            sql_port: 2883,
            exporter_port: 2884,
            rpc_port: Some(2885),
            ob_cluster: Some("ob1".into()),
            root_servers: vec!["10.0.0.1:2881".into(), "10.0.0.2:2881".into()],
            parameters: vec![("proxy_mem_limited".into(), "1G".into())],
            sys_password: "Secret1".into(),
        }
    }

    #[test]
    fn says_everything_once_and_hashes_the_password() {
        let Arguments { command_line, by_sql } = first_start(&spec()).unwrap();
        let (line, items) = command_line.split_at(command_line.len() - 1);
        assert_eq!(
            line.join(" "),
            "-p 2883 -l 2884 -s 2885 -r 10.0.0.1:2881;10.0.0.2:2881 -c ob1 -o"
        );
        let hash = "obproxy_sys_password=1e2e0b9bd2b4d4c9a3c06c5bb2a6eb48f20e9ab9";
        assert_eq!(items[0].split(',').next().unwrap().len(), hash.len());
        assert!(!items[0].contains("Secret1"));
        assert!(
            items[0].ends_with(",proxy_hot_upgrade_check_interval=1s,proxy_mem_limited=1G"),
            "{}",
            items[0]
        );
        assert!(by_sql.is_empty());
        assert_eq!(password_hash("password"), "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8");
        assert_eq!(password_hash(""), "");
    }

    #[test]
    fn what_the_option_cannot_carry_is_set_by_sql() {
        let parameters = [
            ("target_db_server", "a:1,b:2"),
            ("proxy_hot_upgrade_check_interval", "2s"),
            ("listen_port", "1"),
        ];
        let parameters = parameters
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let arguments = first_start(&ProxySpec {
            parameters,
            rpc_port: None,
            ..spec()
        })
        .unwrap();
        assert_eq!(
            arguments.by_sql,
            [("target_db_server".to_owned(), "a:1,b:2".to_owned())]
        );
        let items = arguments.command_line.last().unwrap();
        assert!(items.contains("interval=2s") && !items.contains("interval=1s") && !items.contains("listen_port"));
        assert!(items.contains("enable_obproxy_rpc_service=false") && !arguments.command_line.contains(&"-s".into()));
        let parameters = vec![("a=1,b".to_owned(), "2".to_owned())];
        assert!(matches!(
            first_start(&ProxySpec { parameters, ..spec() }),
            Err(LaunchError::Parameter { .. })
        ));
    }

    #[test]
    fn is_reached_where_it_binds() {
        let with = |ip: &str| {
            let parameters = vec![("local_bound_ip".to_owned(), ip.to_owned())];
            sql_address(&ProxySpec { parameters, ..spec() }).to_string()
        };
        assert_eq!(sql_address(&spec()).to_string(), "127.0.0.1:2883");
        assert_eq!(with("127.0.0.2"), "127.0.0.2:2883");
        assert_eq!(with("0.0.0.0"), "127.0.0.1:2883");
    }
}
