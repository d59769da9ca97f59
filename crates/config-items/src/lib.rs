//! The 299 configuration items of OBProxy 4.3.1.0: what each is called, and which values it takes.
//!
//! The table is `data/config-items.json`. The four password items have an empty default here. Both sides read it: what
//! manages proxies checks values before it sends them, and the stand-in before it takes them.

use std::fmt;
use std::net::IpAddr;
use std::sync::LazyLock;

use serde::Deserialize;

static ITEMS: LazyLock<Vec<ConfigItem>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/config-items.json")).expect("the built-in table is read by a test")
});

/// How an item's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ValueType {
    /// `true`, `false` and their synonyms, any case.
    Bool,
    /// A signed integer.
    Int,
    /// A duration such as `100ms 60s 1m 2h 1d`; without a unit seconds.
    Time,
    /// A size such as `64KB 256MB 2G`; without a unit bytes.
    Cap,
    /// Any text.
    Str,
    /// Texts with `;` between them.
    StrList,
    /// A level of the log.
    LogLevel,
    /// An IP address.
    Ip,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "boolean",
            Self::Int => "integer",
            Self::Time => "time",
            Self::Cap => "size",
            Self::Str => "text",
            Self::StrList => "list",
            Self::LogLevel => "log level",
            Self::Ip => "IP address",
        })
    }
}

/// Who an item is meant for; `MEMORY` items are forgotten at a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Visibility {
    /// Operators.
    User,
    /// The system.
    Sys,
    /// A switch of the running process only.
    Memory,
}

impl Visibility {
    /// The word in the column `visible_level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Sys => "SYS",
            Self::Memory => "MEMORY",
        }
    }
}

/// Where an item can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConfigLevel {
    /// For the whole proxy.
    Global,
    /// Per address, tenant or cluster too.
    Vip,
}

impl ConfigLevel {
    /// The word in the column `config_level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "LEVEL_GLOBAL",
            Self::Vip => "LEVEL_VIP",
        }
    }
}

/// One configuration item.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConfigItem {
    /// Name, in lower case.
    pub name: String,
    /// How its value is written.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Default value as text.
    pub default: String,
    /// Bounds such as `[1s,1h]` or `(1024,65536)`: brackets include, parentheses exclude, an empty bound is open. Empty for no bounds.
    pub range: String,
    /// Whether a new value acts only after a restart.
    pub need_reboot: bool,
    /// Who it is meant for.
    pub visible: Visibility,
    /// Where it can be set.
    pub level: ConfigLevel,
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigValueError {
    /// Not written as the item's type.
    #[error("{name}: `{value}` is not a valid {value_type}")]
    WrongType {
        /// The item.
        name: String,
        /// The value given.
        value: String,
        /// What it should be.
        value_type: ValueType,
    },
    /// Outside the item's bounds.
    #[error("{name}: `{value}` is outside {range}")]
    OutOfRange {
        /// The item.
        name: String,
        /// The value given.
        value: String,
        /// The bounds.
        range: String,
    },
}

/// All items, in the order of the upstream source.
pub fn all() -> &'static [ConfigItem] {
    &ITEMS
}

/// The item called `name`, any case.
pub fn find(name: &str) -> Option<&'static ConfigItem> {
    ITEMS.iter().find(|item| item.name.eq_ignore_ascii_case(name))
}

/// The levels of a log, and the spellings OBProxy has for them.
pub const LOG_LEVELS: [&str; 9] = [
    "ERROR",
    "USER_ERROR",
    "WARN",
    "INFO",
    "TRACE",
    "DEBUG",
    "EDIAG",
    "WDIAG",
    "USER_ERR",
];

/// Lowest and highest value of a range such as `[1s,1h]` as text, whether or not they themselves are within; `None` where it is
/// open.
pub fn bounds(range: &str) -> (Option<&str>, Option<&str>) {
    let Some((low, high)) = range.split_once(',') else {
        return (None, None);
    };
    let bound = |text| str::trim_matches(text, ['[', '(', ']', ')', ' ']);
    let given = |text: &&str| !text.is_empty();
    (Some(bound(low)).filter(given), Some(bound(high)).filter(given))
}

impl ConfigItem {
    /// Whether both texts mean the same value: `True` and `on`, `60s` and `1m`.
    pub fn means_same(&self, one: &str, other: &str) -> bool {
        if one == other {
            return true;
        }
        match self.value_type {
            ValueType::Bool => parse_bool(one).is_some() && parse_bool(one) == parse_bool(other),
            ValueType::LogLevel => one.trim().eq_ignore_ascii_case(other.trim()),
            ValueType::Ip => {
                let ip = |text: &str| text.parse::<IpAddr>().ok();
                ip(one).is_some() && ip(one) == ip(other)
            }
            ValueType::Int | ValueType::Time | ValueType::Cap => {
                self.magnitude(one).is_some() && self.magnitude(one) == self.magnitude(other)
            }
            ValueType::Str | ValueType::StrList => false,
        }
    }

    /// Checks `value` against the item's type and bounds.
    pub fn check(&self, value: &str) -> Result<(), ConfigValueError> {
        let wrong_type = || ConfigValueError::WrongType {
            name: self.name.clone(),
            value: value.to_owned(),
            value_type: self.value_type,
        };
        let well_formed = match self.value_type {
            ValueType::Bool => parse_bool(value).is_some(),
            ValueType::LogLevel => is_log_level(value),
            ValueType::Ip => value.parse::<IpAddr>().is_ok(),
            ValueType::Str | ValueType::StrList => true,
            ValueType::Int | ValueType::Time | ValueType::Cap => {
                let magnitude = self.magnitude(value).ok_or_else(wrong_type)?;
                if !self.contains(magnitude) {
                    return Err(ConfigValueError::OutOfRange {
                        name: self.name.clone(),
                        value: value.to_owned(),
                        range: self.range.clone(),
                    });
                }
                true
            }
        };
        if well_formed { Ok(()) } else { Err(wrong_type()) }
    }

    /// A number that orders values of this item: the integer, microseconds, or bytes.
    fn magnitude(&self, value: &str) -> Option<i128> {
        match self.value_type {
            ValueType::Int => value.trim().parse().ok(),
            ValueType::Time => parse_micros(value),
            ValueType::Cap => parse_bytes(value).map(i128::from),
            _ => None,
        }
    }

    fn contains(&self, magnitude: i128) -> bool {
        let Some((low, high)) = self.range.split_once(',') else {
            return true;
        };
        let above = match low.strip_prefix(['[', '(']).and_then(|bound| self.magnitude(bound)) {
            Some(bound) if low.starts_with('(') => magnitude > bound,
            Some(bound) => magnitude >= bound,
            None => true,
        };
        let below = match high.strip_suffix([']', ')']).and_then(|bound| self.magnitude(bound)) {
            Some(bound) if high.ends_with(')') => magnitude < bound,
            Some(bound) => magnitude <= bound,
            None => true,
        };
        above && below
    }
}

/// A boolean as OBProxy reads it.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "on" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "off" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// A duration such as `1500ms` or `1m`, in microseconds; without a unit it is seconds.
pub fn parse_micros(value: &str) -> Option<i128> {
    let (number, unit) = split_unit(value)?;
    let factor = match unit.as_str() {
        "us" => 1,
        "ms" => 1_000,
        "" | "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A size such as `64KB` or `2G`, in bytes.
pub fn parse_bytes(value: &str) -> Option<u64> {
    let (number, unit) = split_unit(value)?;
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return None,
    };
    u64::try_from(number.checked_mul(1 << shift)?).ok()
}

fn split_unit(value: &str) -> Option<(i128, String)> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number = value[..digits].parse().ok()?;
    Some((number, value[digits..].to_ascii_lowercase()))
}

/// A level, or levels per module as in `ALL.*:INFO,PROXY.*:WDIAG`.
fn is_log_level(value: &str) -> bool {
    value.split(',').all(|part| {
        let level = part.rsplit_once(':').map_or(part, |(_, level)| level).trim();
        LOG_LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_the_one_of_4_3_1() {
        let count = |test: fn(&ConfigItem) -> bool| all().iter().filter(|item| test(item)).count();
        assert_eq!(all().len(), 299);
        assert_eq!(count(|item| item.need_reboot), 32);
        assert_eq!(count(|item| item.visible == Visibility::Memory), 6);
        assert_eq!(count(|item| item.level == ConfigLevel::Vip), 29);
    }

    #[test]
    fn every_default_is_valid_and_every_bound_is_read() {
        for item in all() {
            if !(item.value_type == ValueType::LogLevel || item.default.is_empty()) {
                assert_eq!(item.check(&item.default), Ok(()));
            }
            let bounds = item
                .range
                .trim_matches(['[', ']', '(', ')'])
                .split(',')
                .filter(|bound| !bound.is_empty());
            for bound in bounds {
                assert!(item.magnitude(bound).is_some(), "{}: {bound}", item.name);
            }
        }
    }

    #[test]
    fn bounds_include_and_exclude() {
        let check = |name, value| find(name).unwrap().check(value).is_ok();
        assert!(check("listen_port", "1025") && check("listen_port", "65535"));
        assert!(!check("listen_port", "1024") && !check("LISTEN_PORT", "65536"));
        assert!(check("proxy_hot_upgrade_check_interval", "1h") && !check("proxy_hot_upgrade_check_interval", "61m"));
        assert!(check("hot_upgrade_exit_timeout", "-1") && !check("hot_upgrade_exit_timeout", "-2"));
        assert!(!check("proxy_mem_limited", "1M") && check("proxy_mem_limited", "2G"));
        assert!(check("rpc_request_max_retries", "1000000") && !check("rpc_request_max_retries", "0"));
    }

    #[test]
    fn types_are_checked() {
        let wrong = |name, value| {
            matches!(
                find(name).unwrap().check(value),
                Err(ConfigValueError::WrongType { .. })
            )
        };
        assert!(wrong("listen_port", "x") && wrong("listen_port", "'2883'"));
        assert!(wrong("enable_prometheus", "maybe"));
        assert!(wrong("delay_exit_time", "100 parsecs"));
        assert!(wrong("local_bound_ip", "localhost"));
        assert!(wrong("syslog_level", "LOUD"));
        assert!(find("syslog_level").unwrap().check("WARN").is_ok());
        assert!(find("no_such_item").is_none());
    }

    #[test]
    fn bounds_are_told_as_they_are_written() {
        let bounds = |name| bounds(&find(name).unwrap().range);
        assert_eq!(bounds("proxy_hot_upgrade_check_interval"), (Some("1s"), Some("1h")));
        assert_eq!(bounds("listen_port"), (Some("1024"), Some("65536")));
        assert_eq!(bounds("client_max_connections"), (Some("0"), None));
        assert_eq!(bounds("enable_prometheus"), (None, None));
    }

    #[test]
    fn a_value_may_be_written_in_several_ways() {
        let same = |name, one, other| find(name).unwrap().means_same(one, other);
        assert!(same("enable_prometheus", "True", "on") && !same("enable_prometheus", "True", "0"));
        assert!(same("monitor_stat_dump_interval", "1m", "60s") && !same("monitor_stat_dump_interval", "1m", "61s"));
        assert!(same("proxy_mem_limited", "2G", "2048MB") && same("work_thread_num", "128", " 128"));
        assert!(same("syslog_level", "info", "INFO") && !same("syslog_level", "INFO", "WARN"));
        assert!(same("local_bound_ipv6_ip", "::1", "0:0:0:0:0:0:0:1") && !same("local_bound_ip", "x", "y"));
        assert!(!same("proxy_idc_name", "a", "A") && same("proxy_idc_name", "", ""));
        assert!(
            same("local_bound_ip", " 127.0.0.1", " 127.0.0.1") && !same("local_bound_ip", " 127.0.0.1", "127.0.0.1")
        );
        assert!(!same("enable_prometheus", "maybe", "perhaps") && same("enable_prometheus", "maybe", "maybe"));
    }

    proptest! {
        #[test]
        fn no_value_panics(index in 0_usize..299, value in ".{0,40}") {
            let _ = all()[index].check(&value);
            let _ = all()[index].means_same(&value, &all()[index].default);
        }
    }
}
