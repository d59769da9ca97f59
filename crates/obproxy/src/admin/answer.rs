//! What a proxy answers, read by column name: the columns differ between versions.

use std::collections::HashMap;

use obfleet_wire::version::ProxyVersion;
use sqlx::mysql::MySqlRow;

use super::{AdminError, named};

/// One row of `show proxyconfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigItem {
    /// Its name.
    pub name: String,
    /// Its value as shown; an item that needs a restart shows the new value before it is in force.
    pub value: String,
    /// Whether a new value acts from the next start only.
    pub need_reboot: bool,
    /// What the proxy says of it.
    pub info: String,
    /// Its bounds; empty for none, or where the version has no such column.
    pub range: String,
    /// `USER`, `SYS`, `MEMORY`, or `virtual` for rows that are no items.
    pub visible_level: String,
}

impl ConfigItem {
    pub(super) fn read(row: &MySqlRow) -> Result<Self, AdminError> {
        Ok(Self {
            name: named(row, "name")?,
            value: named(row, "value")?,
            need_reboot: named(row, "need_reboot").is_ok_and(|text| text.eq_ignore_ascii_case("true")),
            info: named(row, "info").unwrap_or_default(),
            range: named(row, "range").unwrap_or_default(),
            visible_level: named(row, "visible_level").unwrap_or_default(),
        })
    }

    /// Whether the row only tells of something, such as of what the config server answered.
    pub fn is_virtual(&self) -> bool {
        self.visible_level.eq_ignore_ascii_case("virtual")
    }

    /// Whether its value is forgotten at a restart: a switch of the running process.
    pub fn is_passing(&self) -> bool {
        self.visible_level.eq_ignore_ascii_case("memory")
    }
}

/// A client session of the process that answers: one row of `show proxysession`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, for [`AdminConn::kill_session`](super::AdminConn::kill_session).
    pub id: u64,
    /// User name without tenant and cluster.
    pub user: String,
    /// Client address, `ip:port`.
    pub host: String,
    /// Transactions finished.
    pub trans_count: u64,
    /// `MCS_KEEP_ALIVE` between transactions.
    pub state: String,
    /// Tenant; `proxysys` for the proxy's own users.
    pub tenant: String,
    /// OceanBase cluster.
    pub cluster: String,
    /// The process.
    pub pid: i32,
}

impl Session {
    pub(super) fn read(row: &MySqlRow) -> Result<Self, AdminError> {
        let number = |column: &str| -> Result<u64, AdminError> {
            let text = named(row, column)?;
            text.parse().map_err(|_| AdminError::Malformed {
                what: format!("'{text}' in column {column} is no number"),
            })
        };
        Ok(Self {
            id: number("Id")?,
            user: named(row, "User")?,
            host: named(row, "Host")?,
            trans_count: number("trans_count")?,
            state: named(row, "state")?,
            tenant: named(row, "Tenant")?,
            cluster: named(row, "Cluster")?,
            pid: i32::try_from(number("pid")?).unwrap_or(0),
        })
    }

    /// Whether the last transaction is complete and nothing more was read.
    pub fn between_transactions(&self) -> bool {
        self.state == "MCS_KEEP_ALIVE"
    }

    /// Whether the proxy itself answers it: it never holds a transaction.
    pub fn is_admin(&self) -> bool {
        self.tenant == "proxysys" || self.user.ends_with("@proxysys")
    }

    /// The user as the client gave it, `user@tenant#cluster`.
    pub fn full_user(&self) -> String {
        let mut name = self.user.clone();
        if !name.contains('@') && !self.tenant.is_empty() {
            name = format!("{name}@{}", self.tenant);
        }
        if !name.contains('#') && !self.cluster.is_empty() {
            name = format!("{name}#{}", self.cluster);
        }
        name
    }
}

/// Finds version and build in the answer to `show proxyinfo binary`, `ObProxy-OceanBase 4.3.1.0-1.el7` and more lines.
pub(super) fn parse_binary_info(info: &str) -> Result<ProxyVersion, AdminError> {
    info.split_whitespace()
        .find_map(|word| word.parse().ok())
        .ok_or_else(|| AdminError::Malformed {
            what: format!("no version in '{}'", info.lines().next().unwrap_or_default()),
        })
}

/// Where a proxy stands in a hot restart: the debug text of `show proxyinfo upgrade`. What a version does not tell has
/// its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpgradeInfo {
    /// It was started by a hot restart; true for life.
    pub is_inherited: bool,
    /// It accepts connections.
    pub need_conn_accept: bool,
    /// It may be told to restart.
    pub is_parent: bool,
    /// `HU_STATE_WAIT_HU_CMD` when no restart is under way.
    pub state: String,
    /// Its hot restart child, -1 if there is none.
    pub sub_pid: i32,
    /// What became of the child.
    pub sub_status: String,
    /// The last signal that mattered, -1 if none.
    pub received_sig: i32,
    /// End of the drain in nanoseconds since the epoch, 0 when it does not drain.
    pub graceful_exit_end_time: i64,
    /// Start of the drain likewise.
    pub graceful_exit_start_time: i64,
    /// When the child has to be ready, in nanoseconds since the epoch; set at each fork, 0 before the first.
    pub timeout_rollback_timeout_at: i64,
}

impl UpgradeInfo {
    /// Reads the text, which looks like JSON and is not.
    pub(super) fn parse(text: &str) -> Self {
        let fields = fields(text);
        let word = |key: &str| fields.get(key).cloned().unwrap_or_default();
        let number = |key: &str, default: i64| fields.get(key).and_then(|v| v.parse().ok()).unwrap_or(default);
        let flag = |key: &str| fields.get(key).is_some_and(|v| v == "true");
        let small = |key: &str| i32::try_from(number(key, -1)).unwrap_or(-1);
        Self {
            is_inherited: flag("is_inherited"),
            need_conn_accept: flag("need_conn_accept"),
            is_parent: flag("is_parent"),
            state: word("state"),
            sub_pid: small("sub_pid"),
            sub_status: word("sub_status"),
            received_sig: small("received_sig"),
            graceful_exit_end_time: number("graceful_exit_end_time", 0),
            graceful_exit_start_time: number("graceful_exit_start_time", 0),
            timeout_rollback_timeout_at: number("timeout_rollback_timeout_at", 0),
        }
    }

    /// It accepts, has no child and waits for a command.
    pub fn is_at_rest(&self) -> bool {
        self.need_conn_accept && self.sub_pid <= 0 && self.state == "HU_STATE_WAIT_HU_CMD"
    }

    /// Its child is ready: it accepts no more and leaves when its sessions are gone. Before that the state is the same,
    /// only without an end.
    pub fn is_draining(&self) -> bool {
        !self.need_conn_accept && self.graceful_exit_end_time > 0
    }
}

/// All `key:value` pairs at any depth; the first of a name counts.
fn fields(text: &str) -> HashMap<&str, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some(colon) = rest.find(':') {
        let (before, after) = (&rest[..colon], &rest[colon + 1..]);
        let key = before.rsplit([',', '{', '}', ' ', '\n']).next().unwrap_or_default();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let end = after.find([',', '{', '}']).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if !key.is_empty() {
            found.entry(key).or_insert_with(|| value.trim().to_owned());
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT_REST: &str = r#"{is_inited:true, proxy_port:12883, proxy_ip:"10.77.0.2", timeout_rollback_timeout_at:0, hu_status:"", info:{is_inherited:false, upgrade_version:0, need_conn_accept:true, user_rejected:0, ipv4_fd:27, ipv6_fd:-1, received_sig:-1, sub_pid:-1, graceful_exit_end_time:0, graceful_exit_start_time:0, active_client_vc_count:-1, local_addr:"10.77.0.2:12883", rpc_local_addr:, rc_status:"", hu_cmd:"", state:"HU_STATE_WAIT_HU_CMD", hu_status:"", is_parent:true, sub_status:"", upgrade_version_buf:"", argc:15, argv[0]="./bin/obproxy", inherited_argv[0]="./bin/obproxy"}}"#;

    #[test]
    fn reads_the_state_of_a_restart() {
        let before = UpgradeInfo::parse(AT_REST);
        assert!(before.is_at_rest() && !before.is_draining() && before.is_parent && !before.is_inherited);
        assert_eq!((before.sub_pid, before.received_sig), (-1, -1));
        let draining = AT_REST
            .replace("need_conn_accept:true", "need_conn_accept:false")
            .replace("sub_pid:-1", "sub_pid:4711")
            .replace("graceful_exit_end_time:0", "graceful_exit_end_time:1795464318152123000")
            .replace("WAIT_HU_CMD", "WAIT_LOCAL_CR_FINISH");
        let draining = UpgradeInfo::parse(&draining);
        assert!(draining.is_draining() && !draining.is_at_rest());
        assert_eq!(draining.sub_pid, 4711);
        assert_eq!(draining.graceful_exit_end_time, 1_795_464_318_152_123_000);
    }

    #[test]
    fn reads_the_version() {
        let info = "ObProxy-OceanBase 4.3.1.0-1.el7\nversion:RELEASE_UNKNOWN\nMD5:\nREVISION:1-local-ab";
        assert_eq!(parse_binary_info(info).unwrap().to_string(), "4.3.1.0-1");
        assert!(parse_binary_info("ObProxy-OceanBase\nversion:RELEASE_7U").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|[a-z_:,\"{} -]{0,80}") {
            let info = UpgradeInfo::parse(&text);
            prop_assert!(info.state.len() <= text.len());
        }
    }

    #[test]
    fn tells_admin_sessions_from_clients() {
        let session = Session {
            id: 1,
            user: "root".into(),
            host: "127.0.0.1:1".into(),
            trans_count: 0,
            state: "MCS_KEEP_ALIVE".into(),
            tenant: "proxysys".into(),
            cluster: String::new(),
            pid: 1,
        };
        assert!(session.is_admin() && session.between_transactions());
        let client = Session {
            tenant: "sys".into(),
            cluster: "ob1".into(),
            ..session
        };
        assert!(!client.is_admin());
        assert_eq!(client.full_user(), "root@sys#ob1");
    }
}
