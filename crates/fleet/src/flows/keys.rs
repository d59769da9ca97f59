//! Keys of the task context. Those OCP uses keep OCP's spelling; clients show them.

/// List: proxies, one per branch.
pub const PROXY_IDS: &str = "obproxy_server_ids";
/// List: the host of each proxy.
pub const HOST_IDS: &str = "host_ids";
/// List: the package for each proxy.
pub const PACKAGE_IDS: &str = "package_ids";
/// List: the version each proxy runs before.
pub const FROM_VERSIONS: &str = "from_versions";
/// List: what each proxy was doing before: RUNNING, STOPPED or UNAVAILABLE.
pub const FROM_STATUSES: &str = "from_statuses";
/// List: whether load balancers were told to keep away from each proxy before, `true` or `false`.
pub const FROM_OFFLINE: &str = "from_offline";
/// Whether load balancers are to keep away, `true` or `false`.
pub const TO_OFFLINE: &str = "to_offline";
/// List: proxies of which nothing is asked on their hosts; absent when there are none.
pub const SKIPPED_IDS: &str = "skip_host_operation_server_ids";
/// List: `hot` or `cold` for each proxy.
pub const RESTART_METHODS: &str = "restart_methods";
/// List: what the plan says to know beforehand; absent when there is nothing.
pub const WARNINGS: &str = "warnings";
/// List: agent operations the task needs.
pub const COMMANDS_TO_CHECK: &str = "commands_to_check";
/// The proxy of a task that works on one.
pub const PROXY_ID: &str = "obproxy_server_id";
/// The host of a task that works on one.
pub const HOST_ID: &str = "host_id";
/// The package of a task that works on one proxy.
pub const PACKAGE_ID: &str = "package_id";
/// The cluster.
pub const CLUSTER_ID: &str = "obproxy_cluster_id";
/// The cluster's name.
pub const CLUSTER_NAME: &str = "obproxy_cluster_name";
/// The cluster's name again, where OCP calls it so.
pub const SERVICE_NAME: &str = "service_name";
/// `OB_PROXY`.
pub const SERVICE_TYPE: &str = "service_type";
/// Whether the task deletes the cluster too.
pub const NEED_DELETE_CLUSTER: &str = "obproxy_need_delete_cluster";
/// `obproxy-ce`.
pub const PACKAGE_NAME: &str = "package_name";
/// `4.3.1.0-1`.
pub const PACKAGE_VERSION: &str = "package_version";
/// The parameter set a new proxy gets.
pub const PARAMETER_VERSION: &str = "obproxy_parameter_version";
/// What the proxies are shown to do while the task has them.
pub const DURING_STATUS: &str = "during_status";
/// What they do in the end; absent where that is RUNNING and the task frees them in the same step, or takes them away.
pub const TO_STATUS: &str = "to_status";
/// Whether the task can be rolled back.
pub const PROHIBIT_ROLLBACK: &str = "prohibit_rollback";
/// List: parameters that are set, the same on every proxy.
pub const PARAMETER_NAMES: &str = "parameter_names";
/// List: their values.
pub const PARAMETER_VALUES: &str = "parameter_values";
/// List: the values of each proxy where they are not the same, as JSON.
pub const PARAMETER_SETS: &str = "parameter_sets";
/// List: the version of the set each proxy has before.
pub const PARAMETER_VERSIONS_BEFORE: &str = "parameter_versions_before";
/// What becomes of the cluster's set of parameters, as JSON.
pub const PARAMETER_PLAN: &str = "parameter_plan";
/// The version the cluster was meant to have before, empty for none.
pub const CLUSTER_VERSION_BEFORE: &str = "cluster_version_before";

/// What a task does to links: `add`, `delete` or `update`.
pub const LINK_CHANGE: &str = "ob_link_change";
/// List: names of the OceanBase clusters whose links a task is about.
pub const OB_LINKS: &str = "ob_links";
/// List: ids of the OceanBase clusters that came to be known by the task's links.
pub const OB_CLUSTERS_BROUGHT: &str = "ob_clusters_brought";
/// Id of the OceanBase cluster a task is about.
pub const OB_CLUSTER: &str = "ob_cluster_id";
/// Its name.
pub const OB_CLUSTER_NAME: &str = "ob_cluster_name";
/// The account of a link.
pub const OB_USERNAME: &str = "ob_link_username";
/// Whether proxies were told of a link before.
pub const OB_TOLD_BEFORE: &str = "ob_link_told_before";
/// List: type, cluster_id parameter (empty for none) and root servers of an OceanBase cluster as they will be.
pub const OB_FACTS_AFTER: &str = "ob_cluster_after";
/// List: the same as they were.
pub const OB_FACTS_BEFORE: &str = "ob_cluster_before";
/// List: proxies that are not told, since they do not run.
pub const PROXIES_LEFT_OUT: &str = "obproxies_left_out";

/// Found out by a step: digest of the binary in the slot a proxy is to run.
pub fn new_binary(proxy_id: i64) -> String {
    format!("new_binary_{proxy_id}")
}

/// Found out by a step: digest of the binary a proxy ran before.
pub fn old_binary(proxy_id: i64) -> String {
    format!("old_binary_{proxy_id}")
}

/// Found out by a step: what a proxy had before it was changed, as JSON.
pub fn parameters_before(proxy_id: i64) -> String {
    format!("parameters_before_{proxy_id}")
}

/// Found out by a step: the restart of a proxy.
pub fn restart_id(proxy_id: i64) -> String {
    format!("restart_{proxy_id}")
}
