//! Telling statements apart, by their words: any case, a trailing `;` tolerated.

/// Which items `show proxyconfig` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConfigScope {
    /// All, with what describes them.
    Described,
    /// `all`: the rows of the store.
    Stored,
    /// `diff [user]`: those that are not at their default.
    Changed,
}

/// A statement an administrator sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    ShowConfig {
        scope: ConfigScope,
        like: Option<String>,
    },
    Alter {
        name: String,
        value: String,
    },
    ShowBinary,
    ShowUpgrade,
    ShowIdc,
    ShowStat {
        like: Option<String>,
    },
    ShowSession,
    ShowSessionAttribute {
        id: Option<u32>,
    },
    ShowProcesslist,
    ShowNet,
    ShowCluster,
    ShowResource,
    ShowCongestion,
    ShowVip,
    /// The list that answers many a `show` the proxy does not know.
    ShowVariables,
    ShowTrace,
    Kill {
        id: u32,
    },
    KillQuery,
    PingProxy,
    SelectVersion {
        column: String,
    },
    SelectStatus {
        column: String,
    },
    /// A statement on one of the store's tables.
    Table {
        sql: String,
    },
    /// The same with `proxyconfig.` before the table.
    QualifiedTable,
    SetOrBegin,
    Unsupported,
    Unknown,
}

const TABLES: [&str; 5] = [
    "proxy_config",
    "white_list",
    "resource_unit",
    "ssl_config",
    "all_table_version",
];

impl Statement {
    /// Reads a statement.
    pub(super) fn parse(sql: &str) -> Self {
        let sql = sql.trim().trim_end_matches(';').trim_end();
        let words: Vec<&str> = sql.split_whitespace().collect();
        let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        match lower.as_slice() {
            ["show", rest @ ..] => parse_show(rest, sql),
            ["alter", "proxyconfig", "set", ..] => parse_alter(sql),
            ["alter", "proxyresource", "delete", ..] => Self::ShowCluster,
            ["kill", rest @ ..] => parse_kill(rest),
            ["ping", "proxy"] => Self::PingProxy,
            ["select", rest @ ..] => parse_select(rest, &words, sql),
            ["replace" | "delete", ..] => on_table(&lower, sql).unwrap_or(Self::Unknown),
            ["set", _, ..] | ["begin"] => Self::SetOrBegin,
            _ => Self::Unknown,
        }
    }
}

fn parse_show(words: &[&str], sql: &str) -> Statement {
    let like = || like_pattern(words, sql);
    match words {
        ["proxyconfig", "all", ..] => Statement::ShowConfig {
            scope: ConfigScope::Stored,
            like: like(),
        },
        ["proxyconfig", "diff", ..] => Statement::ShowConfig {
            scope: ConfigScope::Changed,
            like: like(),
        },
        ["proxyconfig"] | ["proxyconfig", "like", ..] => Statement::ShowConfig {
            scope: ConfigScope::Described,
            like: like(),
        },
        ["proxyinfo", "binary"] => Statement::ShowBinary,
        ["proxyinfo", "upgrade"] => Statement::ShowUpgrade,
        ["proxyinfo", "idc"] => Statement::ShowIdc,
        ["proxystat", ..] => Statement::ShowStat { like: like() },
        ["proxysession", "attribute", rest @ ..] => Statement::ShowSessionAttribute {
            id: rest.first().and_then(|id| id.parse().ok()),
        },
        ["proxysession", ..] => Statement::ShowSession,
        ["processlist"] | ["full", "processlist"] => Statement::ShowProcesslist,
        ["proxynet", "thread" | "connection", ..] => Statement::ShowNet,
        ["proxycluster", ..] => Statement::ShowCluster,
        ["proxyresource", ..] => Statement::ShowResource,
        ["proxycongestion", ..] => Statement::ShowCongestion,
        ["proxyvip", ..] => Statement::ShowVip,
        ["trace"] => Statement::ShowTrace,
        [other, ..] if !other.starts_with("proxy") => Statement::ShowVariables,
        _ => Statement::Unknown,
    }
}

fn like_pattern(words: &[&str], sql: &str) -> Option<String> {
    words.iter().position(|word| *word == "like")?;
    let at = sql.to_ascii_lowercase().find(" like ")?;
    Some(unquote(sql[at + " like ".len()..].trim()).to_owned())
}

fn parse_alter(sql: &str) -> Statement {
    let assignment = sql.split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
    match assignment.split_once('=') {
        Some((name, value)) => Statement::Alter {
            name: name.trim().to_owned(),
            value: unquote(value.trim()).to_owned(),
        },
        None => Statement::Unknown,
    }
}

fn parse_kill(words: &[&str]) -> Statement {
    match words {
        ["query", id] if id.parse::<u32>().is_ok() => Statement::KillQuery,
        ["proxysession" | "connection", id, ..] | [id] => match id.parse() {
            Ok(id) => Statement::Kill { id },
            Err(_) => Statement::Unknown,
        },
        _ => Statement::Unknown,
    }
}

fn parse_select(words: &[&str], as_typed: &[&str], sql: &str) -> Statement {
    let (function, alias) = match words {
        [function] => (*function, *function),
        // The alias is shown as it was typed.
        [function, "as", _] => (*function, as_typed[3]),
        [function, _] => (*function, as_typed[2]),
        _ => ("", ""),
    };
    match function {
        "proxy_version()" => Statement::SelectVersion {
            column: alias.to_owned(),
        },
        // Unlike the version, the status has no parentheses in its column's name.
        "proxy_status()" => Statement::SelectStatus {
            column: if alias == function {
                "proxy_status".to_owned()
            } else {
                alias.to_owned()
            },
        },
        _ => on_table(words, sql).unwrap_or(Statement::Unsupported),
    }
}

/// A statement that names one of the store's tables behind `from` or `into`.
fn on_table(words: &[&str], sql: &str) -> Option<Statement> {
    let at = words.iter().position(|word| matches!(*word, "from" | "into"))?;
    let table = words.get(at + 1)?.split('(').next()?;
    if table.starts_with("proxyconfig.") {
        return Some(Statement::QualifiedTable);
    }
    TABLES
        .contains(&table)
        .then(|| Statement::Table { sql: sql.to_owned() })
}

fn unquote(text: &str) -> &str {
    ['\'', '"', '`']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

/// Whether `text` matches a `like` pattern with `%` and `_`, any case.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    fn matches(text: &[u8], pattern: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'%', rest)) => (0..=text.len()).any(|skipped| matches(&text[skipped..], rest)),
            Some((wanted, rest)) => text.split_first().is_some_and(|(first, text)| {
                (*wanted == b'_' || first.eq_ignore_ascii_case(wanted)) && matches(text, rest)
            }),
        }
    }
    matches(text.as_bytes(), pattern.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alter(name: &str, value: &str) -> Statement {
        Statement::Alter {
            name: name.into(),
            value: value.into(),
        }
    }

    fn config(scope: ConfigScope, like: Option<&str>) -> Statement {
        Statement::ShowConfig {
            scope,
            like: like.map(str::to_owned),
        }
    }

    #[test]
    fn statements_are_told_apart() {
        let expected = [
            ("SHOW ProxyConfig ;", config(ConfigScope::Described, None)),
            (
                "show proxyconfig LIKE 'Sys%'",
                config(ConfigScope::Described, Some("Sys%")),
            ),
            ("show proxyconfig all", config(ConfigScope::Stored, None)),
            (
                "show proxyconfig diff user like \"a\"",
                config(ConfigScope::Changed, Some("a")),
            ),
            (
                "ALTER PROXYCONFIG SET proxy_local_cmd = 2",
                alter("proxy_local_cmd", "2"),
            ),
            ("alter proxyconfig set a='x y'", alter("a", "x y")),
            ("alter proxyconfig set a =", alter("a", "")),
            ("alter proxyconfig set a", Statement::Unknown),
            ("show proxyinfo", Statement::Unknown),
            ("show proxyinfo upgrade;", Statement::ShowUpgrade),
            (
                "show proxystat refresh like 'x'",
                Statement::ShowStat { like: Some("x".into()) },
            ),
            (
                "show proxysession attribute 7",
                Statement::ShowSessionAttribute { id: Some(7) },
            ),
            ("show databases", Statement::ShowVariables),
            ("show trace", Statement::ShowTrace),
            ("kill 5", Statement::Kill { id: 5 }),
            ("kill connection 5", Statement::Kill { id: 5 }),
            ("kill proxysession 5 1", Statement::Kill { id: 5 }),
            ("kill query 5", Statement::KillQuery),
            ("kill x", Statement::Unknown),
            (
                "select proxy_version()",
                Statement::SelectVersion {
                    column: "proxy_version()".into(),
                },
            ),
            (
                "SELECT proxy_version() AS Ver",
                Statement::SelectVersion { column: "Ver".into() },
            ),
            (
                "select proxy_status()",
                Statement::SelectStatus {
                    column: "proxy_status".into(),
                },
            ),
            ("select 1", Statement::Unsupported),
            ("select * from proxyconfig.proxy_config", Statement::QualifiedTable),
            (
                "select Value from proxy_config",
                Statement::Table {
                    sql: "select Value from proxy_config".into(),
                },
            ),
            ("set names utf8", Statement::SetOrBegin),
            ("begin", Statement::SetOrBegin),
            ("hello", Statement::Unknown),
            ("", Statement::Unknown),
        ];
        for (sql, statement) in expected {
            assert_eq!(Statement::parse(sql), statement, "{sql}");
        }
    }

    #[test]
    fn like_patterns() {
        assert!(is_like("listen_port", "listen%") && is_like("listen_port", "%PORT") && is_like("abc", "a_c"));
        assert!(!is_like("listen_port", "listen") && !is_like("", "_") && is_like("", "%"));
    }
}
