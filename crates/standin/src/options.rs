//! The command line, read the way getopt_long reads it for the real proxy.

use std::ffi::OsString;

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Start the proxy.
    #[default]
    Run,
    /// Print the usage.
    Help,
    /// Print version, revision and build facts.
    Version,
    /// Print the release.
    Release,
}

/// The options given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// What to do.
    pub action: Action,
    /// `-p`
    pub listen_port: Option<u16>,
    /// `-l`
    pub prometheus_listen_port: Option<u16>,
    /// `-s`
    pub rpc_listen_port: Option<u16>,
    /// `-o`
    pub optstr: Option<String>,
    /// `-n`
    pub app_name: Option<String>,
    /// `-r`
    pub rs_list: Option<String>,
    /// `-c`
    pub cluster_name: Option<String>,
    /// `-d`
    pub dump_config_sql: bool,
    /// `-e`
    pub execute_config_sql: bool,
    /// `-N`
    pub nodaemon: bool,
}

/// The command line makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option, or an abbreviation of several.
    #[error("unrecognized option '{0}'")]
    Unknown(String),
    /// The option wants an argument.
    #[error("option '{0}' requires an argument")]
    MissingArgument(&'static str),
    /// The option takes no argument.
    #[error("option '{0}' takes no argument")]
    SurplusArgument(&'static str),
    /// Not a number, or outside 1025..65535.
    #[error("invalid port: {0}")]
    InvalidPort(String),
    /// Not a number from 0 on.
    #[error("invalid upgrade version: {0}")]
    InvalidUpgradeVersion(String),
    /// Known but not served.
    #[error("option '{0}' is not handled")]
    Unhandled(&'static str),
    /// Not `ip:port;ip:port`.
    #[error("invalid rs list: {0}")]
    InvalidRsList(String),
}

/// Short name, long name, takes an argument.
const TABLE: [(char, &str, bool); 17] = [
    ('h', "help", false),
    ('p', "listen_port", true),
    ('l', "prometheus_listen_port", true),
    ('s', "rpc_listen_port", true),
    ('u', "upgrade_ver", true),
    ('d', "dump_config_sql", false),
    ('e', "execute_config_sql", false),
    ('o', "optstr", true),
    ('n', "appname", true),
    ('r', "rs_list", true),
    ('c', "cluster_name", true),
    ('N', "nodaemon", false),
    ('V', "version", false),
    ('R', "releaseid", false),
    ('t', "regression_test", true),
    ('P', "test_mysql_port", true),
    ('H', "test_mysql_ip", true),
];

/// The usage text.
pub fn usage(program: &str) -> String {
    let mut text = format!("{program} [OPTIONS]\n");
    for (short, long, takes_argument) in TABLE {
        let argument = if takes_argument { " VALUE" } else { "" };
        text.push_str(&format!("  -{short}, --{long}{argument}\n"));
    }
    text
}

impl Options {
    /// Reads the arguments behind the program's name. Words that are no options are skipped.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, OptionError> {
        let mut words = arguments.map(|word| word.to_string_lossy().into_owned());
        let mut options = Self::default();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, attached) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let (short, long, takes_argument) =
                    find_long(name).ok_or_else(|| OptionError::Unknown(word.clone()))?;
                let argument = match (takes_argument, attached) {
                    (true, Some(value)) => value,
                    (true, None) => words.next().ok_or(OptionError::MissingArgument(long))?,
                    (false, Some(_)) => return Err(OptionError::SurplusArgument(long)),
                    (false, None) => String::new(),
                };
                options.take(short, long, argument)?;
            } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
                let mut letters = cluster.chars();
                while let Some(letter) = letters.next() {
                    let (short, long, takes_argument) = *TABLE
                        .iter()
                        .find(|(short, ..)| *short == letter)
                        .ok_or_else(|| OptionError::Unknown(format!("-{letter}")))?;
                    if !takes_argument {
                        options.take(short, long, String::new())?;
                        continue;
                    }
                    let attached: String = letters.by_ref().collect();
                    let argument = if attached.is_empty() {
                        words.next().ok_or(OptionError::MissingArgument(long))?
                    } else {
                        attached
                    };
                    options.take(short, long, argument)?;
                }
            }
        }
        Ok(options)
    }

    fn take(&mut self, short: char, long: &'static str, argument: String) -> Result<(), OptionError> {
        match short {
            'h' => self.action = Action::Help,
            'V' => self.action = Action::Version,
            'R' => self.action = Action::Release,
            'p' => self.listen_port = Some(port(argument)?),
            'l' => self.prometheus_listen_port = Some(port(argument)?),
            's' => self.rpc_listen_port = Some(port(argument)?),
            'u' => {
                argument
                    .parse::<u32>()
                    .map_err(|_| OptionError::InvalidUpgradeVersion(argument))?;
            }
            'd' => self.dump_config_sql = true,
            'e' => self.execute_config_sql = true,
            'o' => self.optstr = Some(argument),
            'n' => self.app_name = Some(argument),
            'r' => self.rs_list = Some(rs_list(argument)?),
            'c' => self.cluster_name = Some(argument),
            'N' => self.nodaemon = true,
            't' => {}
            _ => return Err(OptionError::Unhandled(long)),
        }
        Ok(())
    }

    /// The configuration items these options set, in the order in which they are applied.
    ///
    /// `,` and newline separate the pairs of `-o`, nothing escapes them, and quotes are a part of the value.
    pub fn config_values(&self) -> Vec<(String, String)> {
        let mut values = Vec::new();
        for pair in self
            .optstr
            .as_deref()
            .unwrap_or_default()
            .split([',', '\n'])
            .filter(|pair| !pair.trim().is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let mut push = |name: &str, value: Option<String>| {
            values.extend(value.map(|value| (name.to_owned(), value)));
        };
        push("listen_port", self.listen_port.map(|port| port.to_string()));
        push(
            "prometheus_listen_port",
            self.prometheus_listen_port.map(|port| port.to_string()),
        );
        push("rpc_listen_port", self.rpc_listen_port.map(|port| port.to_string()));
        push("app_name", self.app_name.clone());
        push("rootservice_list", self.rs_list.clone());
        push("rootservice_cluster_name", self.cluster_name.clone());
        values
    }

    /// The lines the proxy repeats on stderr.
    pub fn echo(&self) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{label}: {value}\n"));
            }
        };
        line("listen port", self.listen_port.map(|port| port.to_string()));
        line(
            "prometheus listen port",
            self.prometheus_listen_port.map(|port| port.to_string()),
        );
        line("rpc listen port", self.rpc_listen_port.map(|port| port.to_string()));
        line("optstr", self.optstr.clone());
        line("appname", self.app_name.clone());
        line("rs list", self.rs_list.clone());
        line("cluster_name", self.cluster_name.clone());
        text
    }
}

/// An exact long name, or the only one that begins so.
fn find_long(name: &str) -> Option<(char, &'static str, bool)> {
    if let Some(exact) = TABLE.iter().find(|(_, long, _)| *long == name) {
        return Some(*exact);
    }
    let mut candidates = TABLE.iter().filter(|(_, long, _)| long.starts_with(name));
    candidates.next().filter(|_| candidates.next().is_none()).copied()
}

fn port(text: String) -> Result<u16, OptionError> {
    text.parse()
        .ok()
        .filter(|port| *port > 1024)
        .ok_or(OptionError::InvalidPort(text))
}

fn rs_list(text: String) -> Result<String, OptionError> {
    let is_address = |entry: &str| {
        entry
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    if text.split(';').all(is_address) {
        Ok(text)
    } else {
        Err(OptionError::InvalidRsList(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, OptionError> {
        Options::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn short_long_attached_and_abbreviated() {
        let expected = Options {
            listen_port: Some(2883),
            nodaemon: true,
            ..Options::default()
        };
        for line in [
            "-p 2883 -N",
            "-Np2883",
            "--listen_port=2883 --nodaemon",
            "--listen 2883 --noda",
            "-N x -p 2883 -- -p 1",
        ] {
            assert_eq!(parse(line), Ok(expected.clone()), "{line}");
        }
        assert_eq!(parse("-V").unwrap().action, Action::Version);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse("-p 1024"), Err(OptionError::InvalidPort("1024".into())));
        assert_eq!(parse("-p 70000"), Err(OptionError::InvalidPort("70000".into())));
        assert_eq!(parse("-p"), Err(OptionError::MissingArgument("listen_port")));
        assert_eq!(parse("--r x"), Err(OptionError::Unknown("--r".into())));
        assert_eq!(parse("-i 1"), Err(OptionError::Unknown("-i".into())));
        assert_eq!(
            parse("-r 127.0.0.1"),
            Err(OptionError::InvalidRsList("127.0.0.1".into()))
        );
        assert_eq!(parse("-H 127.0.0.1"), Err(OptionError::Unhandled("test_mysql_ip")));
    }

    #[test]
    fn option_strings_know_no_quotes_and_no_escapes() {
        let options = parse("-o a='1',b=2\nc=x;y=z -p 2883 -r 127.0.0.1:3306").unwrap();
        let expected = [
            ("a", "'1'"),
            ("b", "2"),
            ("c", "x;y=z"),
            ("listen_port", "2883"),
            ("rootservice_list", "127.0.0.1:3306"),
        ];
        assert_eq!(
            options.config_values(),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
