//! The small `show` statements, most of them empty on a proxy without a cluster.

use super::Answer;
use crate::log::REVISION;
use crate::proxy::Proxy;

pub(super) fn binary(proxy: &Proxy) -> Answer {
    let text = format!(
        "ObProxy-OceanBase {}-{}\nversion:RELEASE_UNKNOWN\nMD5:\nREVISION:{REVISION}\nBUILD_TIME:Jan  1 2026 00:00:00\nBUILD_FLAGS:stand-in",
        proxy.reported_version(),
        proxy.build.release
    );
    Answer::table(["name", "info"], [["binary info".to_owned(), text]])
}

pub(super) fn idc() -> Answer {
    let columns = [
        "global_idc_name",
        "cluster_name",
        "match_type",
        "regions_name",
        "same_idc",
        "same_region",
        "other_region",
    ];
    Answer::table(columns, [])
}

pub(super) fn resource() -> Answer {
    let columns = [
        "cluster_name",
        "cluster_id",
        "state",
        "version",
        "ref_count",
        "last_access_time_ns",
        "last_access_time",
    ];
    Answer::table(columns, [])
}

pub(super) fn congestion() -> Answer {
    let columns = [
        "cluster_name",
        "zone_name",
        "region_name",
        "zone_state",
        "server_ip",
        "cr_version",
        "server_state",
    ];
    Answer::table(columns, [])
}

pub(super) fn vip() -> Answer {
    Answer::table(["vid", "vip", "vport", "tenant_name", "cluster_name"], [])
}

/// The list that answers `show databases`, `show variables` and much else: an answer is no proof that a statement is known.
pub(super) fn variables() -> Answer {
    const LIST: [(&str, &str); 18] = [
        ("auto_increment_increment", "1"),
        ("character_set_client", "utf8mb4"),
        ("character_set_connection", "utf8mb4"),
        ("character_set_results", "utf8mb4"),
        ("character_set_server", "utf8mb4"),
        ("init_connect", ""),
        ("interactive_timeout", "28800"),
        ("language", "/usr/share/mysql/english/"),
        ("license", "GPL"),
        ("lower_case_table_names", "1"),
        ("max_allowed_packet", "4194304"),
        ("net_buffer_length", "16384"),
        ("net_write_timeout", "60"),
        ("query_cache_size", "0"),
        ("query_cache_type", "OFF"),
        ("sql_mode", "STRICT_TRANS_TABLES"),
        ("system_time_zone", "CST"),
        ("tx_isolation", "READ-COMMITTED"),
    ];
    Answer::table(
        ["Variable_name", "Value"],
        LIST.map(|(name, value)| [name.to_owned(), value.to_owned()]),
    )
}
