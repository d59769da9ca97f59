//! Where a state database is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;

/// Where a state database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// In a file of SQLite's, and another beside it; both are made when they are missing.
    File(PathBuf),
    /// On a server of the MySQL protocol.
    Server(Address),
}

/// A database on a server and how to log in, read from `mysql://user:password@host:port/database`.
#[derive(Clone)]
pub struct Address {
    options: Box<MySqlConnectOptions>,
    database: String,
    has_password: bool,
}

/// A text that is no [`Address`]. Says nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database's address must read mysql://user@host:port/database")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(url: &str) -> Result<Self, NotAnAddress> {
        if !url.starts_with("mysql://") {
            return Err(NotAnAddress);
        }
        let options = MySqlConnectOptions::from_str(url).map_err(|_| NotAnAddress)?;
        let database = options.get_database().filter(|name| !name.is_empty());
        let database = database.ok_or(NotAnAddress)?.to_owned();
        Ok(Self {
            options: options.into(),
            database,
            has_password: has_password(url),
        })
    }
}

/// What stands between a user's name and the last @ before the path.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let login = authority.rsplit_once('@').map_or("", |(login, _)| login);
    login.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

impl Address {
    /// Whether it was written with a password.
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// With this password in place of the one it was written with.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        *self.options = self.options.clone().password(password);
        self
    }

    pub(crate) fn options(&self) -> &MySqlConnectOptions {
        &self.options
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(address) => address.fmt(f),
        }
    }
}

/// Without the login.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        write!(f, "{} on {host}:{port}", self.database)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_database_and_hides_the_login() {
        let address: Address = "mysql://root:hush@10.0.0.1:2881/obfleet".parse().unwrap();
        for shown in [
            address.to_string(),
            format!("{address:?}"),
            format!("{:?}", Location::Server(address)),
        ] {
            assert!(
                shown.contains("obfleet on 10.0.0.1:2881") && !shown.contains("hush"),
                "{shown}"
            );
        }
        for (url, has_password) in [
            ("mysql://root:hush@h/x", true),
            ("mysql://root:hu@sh@h:1/x", true),
            ("mysql://root:@h/x", false),
            ("mysql://root@h:3306/x", false),
            ("mysql://h:3306/x@y:z", false),
        ] {
            assert_eq!(url.parse::<Address>().unwrap().has_password(), has_password, "{url}");
        }
        for url in [
            "mysql://root:hush@10.0.0.1",
            "mysql://root@h/",
            "/var/lib/obfleet.db",
            "postgres://h/x",
            "",
        ] {
            assert_eq!(url.parse::<Address>().unwrap_err(), NotAnAddress, "{url}");
        }
    }
}
