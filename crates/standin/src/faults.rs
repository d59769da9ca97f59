//! Faults a stand-in can have: from its trailer (a bad build) or from `standin-faults.json` in its home (a bad day).
//!
//! They act in every start but `-V`, so that a check of the new binary before the swap finds nothing.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Name of the file in the proxy's home; read once at the start.
pub const FILE_NAME: &str = "standin-faults.json";

/// What goes wrong. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Ends at once with this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// Hangs before it listens, for ever.
    pub hang: bool,
    /// Seconds it takes before it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start_s: Option<f64>,
    /// Seconds after which it aborts, counted from when it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_after_s: Option<f64>,
    /// As the child of a hot restart, does not tell its parent that it serves.
    pub never_signal: bool,
    /// Reports this version over SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong_version: Option<String>,
    /// Greets, then refuses every login.
    pub no_login: bool,
    /// Refuses every value of this configuration item, as one that is out of its range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse_parameter: Option<String>,
    /// Seconds for which SIGTERM and SIGINT do nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_term_s: Option<f64>,
    /// Does not leave at the end of a drain, not at its deadline either.
    pub drain_never_ends: bool,
    /// While draining closes sessions between transactions; the real 4.3.1.0 does not.
    pub orderly_close: bool,
}

impl Faults {
    /// The faults of `home`'s file added to these; the file's values win.
    pub fn merged_with_file(self, home: &Path) -> io::Result<Self> {
        let from_file: Self = match fs::read(home.join(FILE_NAME)) {
            Ok(json) => serde_json::from_slice(&json)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(error),
        };
        Ok(Self {
            exit: from_file.exit.or(self.exit),
            hang: from_file.hang || self.hang,
            slow_start_s: from_file.slow_start_s.or(self.slow_start_s),
            crash_after_s: from_file.crash_after_s.or(self.crash_after_s),
            never_signal: from_file.never_signal || self.never_signal,
            wrong_version: from_file.wrong_version.or(self.wrong_version),
            no_login: from_file.no_login || self.no_login,
            refuse_parameter: from_file.refuse_parameter.or(self.refuse_parameter),
            ignore_term_s: from_file.ignore_term_s.or(self.ignore_term_s),
            drain_never_ends: from_file.drain_never_ends || self.drain_never_ends,
            orderly_close: from_file.orderly_close || self.orderly_close,
        })
    }
}

/// Seconds of a fault as a duration; what is no duration (negative, endless) is none.
pub fn seconds(value: Option<f64>) -> Option<Duration> {
    value.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_adds_to_the_trailer() {
        let home = tempfile::tempdir().unwrap();
        let built_in = Faults {
            exit: Some(1),
            slow_start_s: Some(1.0),
            ..Faults::default()
        };
        assert_eq!(built_in.clone().merged_with_file(home.path()).unwrap(), built_in);
        fs::write(
            home.path().join(FILE_NAME),
            r#"{"slow_start_s": 2.5, "no_login": true}"#,
        )
        .unwrap();
        let merged = built_in.merged_with_file(home.path()).unwrap();
        assert_eq!(
            merged,
            Faults {
                exit: Some(1),
                slow_start_s: Some(2.5),
                no_login: true,
                ..Faults::default()
            }
        );
        assert_eq!(seconds(merged.slow_start_s), Some(Duration::from_millis(2500)));
        assert_eq!(seconds(Some(-1.0)), None);
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE_NAME), r#"{"hangs": true}"#).unwrap();
        assert!(Faults::default().merged_with_file(home.path()).is_err());
    }
}
