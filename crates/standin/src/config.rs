//! The configuration in memory: what is shown, and what is in force since the start.

use std::collections::HashMap;
use std::time::Duration;

use obfleet_mysqlwire::auth::password_sha1;
use obfleet_obproxy::config_items::{self, ConfigItem, ValueType, Visibility, parse_bool, parse_micros};

/// Why a value is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No item has that name.
    #[error("no such item")]
    Unknown,
    /// The value does not fit the item's type or range.
    #[error("invalid value")]
    Invalid,
    /// The item can only be given at a start.
    #[error("not changeable while running")]
    Unsupported,
}

#[derive(Debug, Clone)]
struct Value {
    item: &'static ConfigItem,
    shown: String,
    in_force: String,
}

/// All items with their values, in no order.
#[derive(Debug, Clone)]
pub struct Config {
    values: HashMap<&'static str, Value>,
}

impl Config {
    /// Every item at its default.
    pub fn defaults() -> Self {
        let values = config_items::all().iter().map(|item| {
            let default = default_text(item);
            (
                item.name.as_str(),
                Value {
                    item,
                    shown: default.clone(),
                    in_force: default,
                },
            )
        });
        Self {
            values: values.collect(),
        }
    }

    /// Takes a stored value at the start. Switches of an earlier process are not taken, nor is what is not valid any more.
    pub fn load(&mut self, name: &str, value: String) {
        if let Some(known) = self.values.get_mut(name)
            && known.item.visible != Visibility::Memory
            && (value.is_empty() || known.item.check(&value).is_ok())
        {
            known.in_force.clone_from(&value);
            known.shown = value;
        }
    }

    /// Takes a value of the command line.
    pub fn set_at_start(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let known = self.values.get_mut(name).ok_or(ConfigError::Unknown)?;
        known.item.check(&value).map_err(|_| ConfigError::Invalid)?;
        known.in_force.clone_from(&value);
        known.shown = value;
        Ok(())
    }

    /// What `alter proxyconfig set name = value` would store; nothing is changed yet.
    ///
    /// The administrator's password comes as clear text and is stored as its SHA1 in hex.
    pub fn prepare_alter(name: &str, value: &str) -> Result<(&'static ConfigItem, String), ConfigError> {
        let item = config_items::find(name).ok_or(ConfigError::Unknown)?;
        if item.name == "app_name" {
            return Err(ConfigError::Unsupported);
        }
        if item.name == "obproxy_sys_password" && !value.is_empty() {
            return Ok((item, hex::encode(password_sha1(value))));
        }
        item.check(value).map_err(|_| ConfigError::Invalid)?;
        Ok((item, value.to_owned()))
    }

    /// Takes a value that [`Config::prepare_alter`] found good. An item that needs a restart only shows it.
    pub fn alter(&mut self, item: &'static ConfigItem, value: String) {
        if let Some(known) = self.values.get_mut(item.name.as_str()) {
            if !item.need_reboot {
                known.in_force.clone_from(&value);
            }
            known.shown = value;
        }
    }

    /// Every item with the value it shows.
    pub fn shown(&self) -> impl Iterator<Item = (&'static ConfigItem, &str)> {
        self.values.values().map(|value| (value.item, value.shown.as_str()))
    }

    /// Every item whose shown value is not its default.
    pub fn changed(&self) -> impl Iterator<Item = (&'static ConfigItem, &str)> {
        self.shown()
            .filter(|(item, value)| !value.eq_ignore_ascii_case(&item.default))
    }

    /// The value in force; empty for a name that does not exist.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |value| value.in_force.as_str())
    }

    /// An integer in force.
    pub fn int(&self, name: &str) -> i64 {
        self.text(name).trim().parse().unwrap_or_default()
    }

    /// A port in force.
    pub fn port(&self, name: &str) -> u16 {
        self.text(name).trim().parse().unwrap_or_default()
    }

    /// A boolean in force.
    pub fn flag(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or_default()
    }

    /// A duration in force.
    pub fn duration(&self, name: &str) -> Duration {
        let micros = parse_micros(self.text(name)).and_then(|micros| u64::try_from(micros).ok());
        Duration::from_micros(micros.unwrap_or_default())
    }
}

/// The default as a fresh proxy shows it.
fn default_text(item: &ConfigItem) -> String {
    match (item.value_type, item.default.as_str()) {
        (ValueType::Bool, "true") => "True".to_owned(),
        (ValueType::Bool, "false") => "False".to_owned(),
        (_, default) => default.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alter(config: &mut Config, name: &str, value: &str) -> Result<(), ConfigError> {
        let (item, value) = Config::prepare_alter(name, value)?;
        config.alter(item, value);
        Ok(())
    }

    fn shown(config: &Config, name: &str) -> String {
        config.shown().find(|(item, _)| item.name == name).unwrap().1.to_owned()
    }

    #[test]
    fn items_that_need_a_restart_show_the_new_and_keep_the_old() {
        let mut config = Config::defaults();
        alter(&mut config, "listen_port", "12345").unwrap();
        assert_eq!(
            (shown(&config, "listen_port").as_str(), config.port("listen_port")),
            ("12345", 6688)
        );
        alter(&mut config, "hot_upgrade_rollback_timeout", "60s").unwrap();
        assert_eq!(config.duration("hot_upgrade_rollback_timeout"), Duration::from_secs(60));
        assert_eq!(config.changed().count(), 2);
    }

    #[test]
    fn alter_refuses() {
        let mut config = Config::defaults();
        assert_eq!(alter(&mut config, "no_such_item", "1"), Err(ConfigError::Unknown));
        assert_eq!(alter(&mut config, "proxy_local_cmd", "5"), Err(ConfigError::Invalid));
        assert_eq!(alter(&mut config, "app_name", "x"), Err(ConfigError::Unsupported));
        assert_eq!(config.changed().count(), 0);
    }

    #[test]
    fn the_administrators_password_is_hashed_by_alter_only() {
        let mut config = Config::defaults();
        alter(&mut config, "obproxy_sys_password", "Secret1").unwrap();
        assert_eq!(
            config.text("obproxy_sys_password"),
            hex::encode(password_sha1("Secret1"))
        );
        alter(&mut config, "obproxy_sys_password", "").unwrap();
        assert_eq!(config.text("obproxy_sys_password"), "");
        config.set_at_start("obproxy_sys_password", "abc".into()).unwrap();
        assert_eq!(config.text("obproxy_sys_password"), "abc");
    }

    #[test]
    fn stored_switches_and_invalid_values_are_not_loaded() {
        let mut config = Config::defaults();
        config.load("proxy_local_cmd", "2".into());
        config.load("listen_port", "80".into());
        config.load("from_another_version", "x".into());
        config.load("proxy_hot_upgrade_check_interval", "1s".into());
        assert_eq!((config.int("proxy_local_cmd"), config.port("listen_port")), (0, 6688));
        assert_eq!(
            config.duration("proxy_hot_upgrade_check_interval"),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn booleans_begin_with_a_capital() {
        let config = Config::defaults();
        assert_eq!(shown(&config, "enable_prometheus"), "True");
        assert!(config.flag("enable_prometheus") && !config.flag("skip_proxy_sys_private_check"));
        assert_eq!(config.changed().count(), 0);
    }
}
