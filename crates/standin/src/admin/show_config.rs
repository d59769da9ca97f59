//! `show proxyconfig`.

use obfleet_obproxy::config_items::{ConfigItem, ConfigLevel};

use super::Answer;
use super::statement::{ConfigScope, is_like};
use crate::config_server::JsonConfig;
use crate::proxy::Proxy;
use crate::store::bool_text;

/// Rows beside the items: what the proxy holds of its config server.
fn json_config(proxy: &Proxy) -> [(&'static str, String); 7] {
    let config = proxy.config_server.as_ref().and_then(|server| server.config());
    let text = |text: fn(&JsonConfig) -> &str| config.as_ref().map_or("", text).to_owned();
    let count = config.as_ref().map_or(0, |config| config.clusters.len());
    let modified = config.as_ref().map_or(0, |config| config.modified);
    [
        ("json_config_version", text(|config| &config.version)),
        ("json_config_bin_url", text(|config| &config.bin_url)),
        ("json_config_meta_table_db", text(|config| &config.meta_database)),
        ("json_config_meta_table_user", text(|config| &config.meta_user)),
        // Nobody asks the metadb here.
        ("json_config_real_meta_cluster", String::new()),
        ("json_config_cluster_count", count.to_string()),
        ("json_config_modified_time", modified.to_string()),
    ]
}

pub(super) fn answer(proxy: &Proxy, scope: ConfigScope, like: Option<&str>) -> Answer {
    let wanted = |name: &str| like.is_none_or(|pattern| is_like(name, pattern));
    let config = proxy.config();
    if scope == ConfigScope::Described && like == Some("syslog_level") {
        let level = config.text("syslog_level").to_owned();
        let row = [
            "ALL".to_owned(),
            "*".to_owned(),
            level,
            "level of the main log".to_owned(),
        ];
        return Answer::table(["parent_mod", "sub_mod", "level", "usage"], [row]);
    }
    if scope == ConfigScope::Stored {
        let rows = config
            .shown()
            .filter(|(item, _)| wanted(&item.name))
            .map(|(item, value)| {
                ["-1", "", "0", "", "", &item.name, value, ConfigLevel::Global.as_str()].map(str::to_owned)
            });
        let columns = [
            "vid",
            "vip",
            "vport",
            "tenant_name",
            "cluster_name",
            "name",
            "value",
            "config_level",
        ];
        return Answer::table(columns, rows);
    }
    let describe = |(item, value): (&ConfigItem, &str)| {
        let (reboot, visible, level) = (bool_text(item.need_reboot), item.visible.as_str(), item.level.as_str());
        let info = format!("{} of a stand-in", item.name.replace('_', " "));
        [&item.name, value, &info, reboot, visible, &item.range, level].map(str::to_owned)
    };
    let mut rows: Vec<[String; 7]> = match scope {
        ConfigScope::Changed => config.changed().map(describe).collect(),
        _ => config.shown().map(describe).collect(),
    };
    if scope == ConfigScope::Described {
        rows.extend(json_config(proxy).map(|(name, value)| {
            [name, &value, "", "false", "virtual", "", ConfigLevel::Global.as_str()].map(str::to_owned)
        }));
    }
    let columns = [
        "name",
        "value",
        "info",
        "need_reboot",
        "visible_level",
        "range",
        "config_level",
    ];
    Answer::table(columns, rows.into_iter().filter(|[name, ..]| wanted(name)))
}
