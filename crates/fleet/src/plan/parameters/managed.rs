//! Which parameters are not changed as such, and which are nobody's concern.

use obfleet_config_items::{self as config_items, Visibility};

/// What the fleet decides by itself, or by a request of its own: ports are in the inventory, addresses are the host's, and
/// how a proxy finds its servers is the cluster's.
const FLEETS: &[&str] = &[
    "app_name",
    "enable_obproxy_rpc_service",
    "ip_listen_mode",
    "listen_port",
    "local_bound_ip",
    "local_bound_ipv6_ip",
    "obproxy_config_server_url",
    "prometheus_listen_port",
    "rootservice_cluster_name",
    "rootservice_list",
    "rpc_listen_port",
];

/// Of these, what a cluster may name for the start of its proxies.
const AT_START: &[&str] = &[
    "app_name",
    "enable_obproxy_rpc_service",
    "ip_listen_mode",
    "local_bound_ip",
    "local_bound_ipv6_ip",
    "obproxy_config_server_url",
    "rootservice_cluster_name",
    "rootservice_list",
];

/// What changes without anybody's doing: a restart sets the first three for its own time, a proxy counts the next by itself,
/// and one with a config server is started with values of our own for the last two.
const RESTLESS: &[&str] = &[
    "hot_upgrade_exit_timeout",
    "hot_upgrade_rollback_timeout",
    "proxy_hot_upgrade_check_interval",
    "current_local_config_version",
    "config_server_refresh_interval",
    "enable_metadb_used",
];

fn among(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether its value is the hash of a password.
fn is_password(name: &str) -> bool {
    name.to_ascii_lowercase().contains("password")
}

/// Whether it is a switch of the running process.
fn is_switch(name: &str) -> bool {
    config_items::find(name).is_some_and(|item| item.visible == Visibility::Memory)
}

/// Whether it cannot be changed as a parameter.
pub fn is_managed(name: &str) -> bool {
    among(FLEETS, name) || is_password(name) || is_switch(name)
}

/// Whether a cluster may not even name it for the start of its proxies.
pub fn is_managed_at_start(name: &str) -> bool {
    is_managed(name) && !among(AT_START, name)
}

/// Whether a proxy may have any value of it, as long as nobody has set one.
pub fn is_free(name: &str) -> bool {
    is_managed(name) || among(RESTLESS, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_items() {
        for name in FLEETS.iter().chain(AT_START).chain(RESTLESS) {
            assert!(config_items::find(name).is_some(), "{name}");
        }
        assert!(AT_START.iter().all(|name| FLEETS.contains(name)));
    }

    #[test]
    fn ports_passwords_and_switches_are_not_changed_as_parameters() {
        for name in [
            "listen_port",
            "Observer_Sys_Password1",
            "proxy_local_cmd",
            "refresh_config",
        ] {
            assert!(is_managed(name) && is_managed_at_start(name) && is_free(name), "{name}");
        }
        assert!(is_managed("rootservice_list") && !is_managed_at_start("rootservice_list"));
        assert!(!is_managed("hot_upgrade_exit_timeout") && is_free("hot_upgrade_exit_timeout"));
        assert!(!is_managed("proxy_mem_limited") && !is_free("proxy_mem_limited"));
    }
}
