//! The statements an admin session may send, and the one place where values become SQL.

use super::AdminError;

/// A statement of the admin language.
#[derive(Debug, Clone, Copy)]
pub(super) enum Statement<'a> {
    ProxyVersion,
    ProxyStatus,
    Ping,
    ShowConfig { like: &'a str },
    SetConfig { name: &'a str, value: &'a str },
    Clusters,
    BinaryInfo,
    UpgradeInfo,
    Sessions,
    KillSession { id: u64 },
    Processes,
    Counters,
}

impl Statement<'_> {
    /// Its text.
    pub(super) fn sql(self) -> Result<String, AdminError> {
        Ok(match self {
            Self::ProxyVersion => "select proxy_version()".to_owned(),
            Self::ProxyStatus => "select proxy_status()".to_owned(),
            Self::Ping => "ping proxy".to_owned(),
            Self::ShowConfig { like } => format!("show proxyconfig like {}", quote(like)?),
            Self::SetConfig { name, value } => {
                let literal = if is_plain_integer(value) && !name.contains("password") {
                    value.to_owned()
                } else {
                    quote(value)?
                };
                format!("alter proxyconfig set {} = {literal}", item_name(name)?)
            }
            Self::Clusters => "show proxycluster".to_owned(),
            Self::BinaryInfo => "show proxyinfo binary".to_owned(),
            Self::UpgradeInfo => "show proxyinfo upgrade".to_owned(),
            Self::Sessions => "show proxysession".to_owned(),
            Self::KillSession { id } => format!("kill proxysession {id}"),
            Self::Processes => "show processlist".to_owned(),
            Self::Counters => "show proxystat".to_owned(),
        })
    }
}

/// The statement that sets a configuration item, as [`AdminConn::set_config`](super::AdminConn::set_config) sends it.
///
/// # Errors
/// A name that is none, and a value that cannot be sent for what it contains.
pub fn set_config(name: &str, value: &str) -> Result<String, AdminError> {
    Statement::SetConfig { name, value }.sql()
}

/// An integer in its only spelling, which may stand in a statement without quotes.
fn is_plain_integer(value: &str) -> bool {
    value.parse::<i64>().is_ok_and(|number| number.to_string() == value)
}

fn item_name(name: &str) -> Result<&str, AdminError> {
    let ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if ok {
        Ok(name)
    } else {
        Err(AdminError::Malformed {
            what: format!("'{name}' is no name of a configuration item"),
        })
    }
}

/// Makes a string literal of a value.
///
/// How OBProxy's own lexer treats escapes is not documented, so none is ever written: a value goes between the quotes
/// it does not contain, and what would need an escape is refused.
fn quote(value: &str) -> Result<String, AdminError> {
    let refused = |what| {
        Err(AdminError::Malformed {
            what: format!("a value cannot be sent to a proxy: it contains {what}"),
        })
    };
    if value.contains('\\') {
        return refused("a backslash");
    }
    if value.chars().any(|c| c.is_control()) {
        return refused("a control character");
    }
    match (value.contains('\''), value.contains('"')) {
        (false, _) => Ok(format!("'{value}'")),
        (true, false) => Ok(format!("\"{value}\"")),
        (true, true) => refused("both kinds of quotes"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads one literal as any SQL lexer would, however it treats backslashes and doubled quotes; the text after it
    /// is returned too.
    fn lex(sql: &str) -> Option<(String, &str)> {
        let quote = sql.chars().next().filter(|c| *c == '\'' || *c == '"')?;
        let end = 1 + sql[1..].find(quote)?;
        Some((sql[1..end].to_owned(), &sql[end + 1..]))
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_exactly_one_literal(value in "\\PC*|[a-z'\"\\\\;-]{0,12}") {
            if let Ok(sql) = quote(&value) {
                prop_assert!(!sql.contains('\\'));
                let (read, rest) = lex(&sql).unwrap();
                prop_assert_eq!((read, rest), (value, ""));
            } else {
                let awkward = value.contains('\\') || value.chars().any(char::is_control)
                    || (value.contains('\'') && value.contains('"'));
                prop_assert!(awkward);
            }
        }

        #[test]
        fn a_statement_never_holds_a_second_one(name in "\\PC{0,8}", value in "\\PC*") {
            if let Ok(sql) = (Statement::SetConfig { name: &name, value: &value }).sql() {
                let literal = sql.strip_prefix(&format!("alter proxyconfig set {name} = ")).unwrap();
                let whole = literal == value || lex(literal) == Some((value.clone(), ""));
                prop_assert!(whole, "{}", sql);
                prop_assert!(literal.starts_with(['\'', '"']) || value.parse::<i64>().is_ok());
            }
        }
    }

    #[test]
    fn integers_stand_bare_and_everything_else_is_quoted() {
        let set = |name, value| Statement::SetConfig { name, value }.sql().unwrap();
        assert_eq!(set("proxy_local_cmd", "2"), "alter proxyconfig set proxy_local_cmd = 2");
        assert_eq!(
            set("hot_upgrade_exit_timeout", "-1"),
            "alter proxyconfig set hot_upgrade_exit_timeout = -1"
        );
        assert_eq!(
            set("proxy_idc_name", "007"),
            "alter proxyconfig set proxy_idc_name = '007'"
        );
        assert_eq!(
            set("obproxy_sys_password", "1234"),
            "alter proxyconfig set obproxy_sys_password = '1234'"
        );
        assert_eq!(
            set("observer_sys_password1", "1234"),
            "alter proxyconfig set observer_sys_password1 = '1234'"
        );
        assert_eq!(
            set("hot_upgrade_rollback_timeout", "60s"),
            "alter proxyconfig set hot_upgrade_rollback_timeout = '60s'"
        );
    }

    #[test]
    fn names_are_names() {
        for name in ["", "a b", "a=1,b", "x;", "a'"] {
            assert!(Statement::SetConfig { name, value: "1" }.sql().is_err(), "{name}");
        }
    }
}
