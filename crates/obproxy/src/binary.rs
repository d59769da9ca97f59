//! An executable before it runs: its format, its digest, and the version it says it has.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use obfleet_wire::version::ProxyVersion;
use sha2::{Digest as _, Sha256};

use crate::run_as::RunAs;

/// `-V` only prints: one that takes longer hangs in a library or is no proxy.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);

/// Enough of the output to hold the version; a proxy prints a few hundred bytes.
const OUTPUT_LIMIT: u64 = 64 * 1024;

/// Why a file cannot be run as a proxy here.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Scripts leave processes behind that keep the proxy's listening sockets.
    #[error("{} is not an ELF executable", path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// It is for another processor.
    #[error("{} is for {found}, this host is {}", path.display(), std::env::consts::ARCH)]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What it is for.
        found: String,
    },
    /// It does not run: not executable, or a shared library is missing.
    #[error("{} does not run here: {reason}", path.display())]
    DoesNotRun {
        /// The file.
        path: PathBuf,
        /// What was seen.
        reason: String,
    },
}

/// SHA-256 of a file, hexadecimal.
pub fn sha256(path: &Path) -> Result<String, BinaryError> {
    let mut digest = Sha256::new();
    let mut copy = || io::copy(&mut File::open(path)?, &mut DigestWriter(&mut digest));
    copy().map_err(|source| BinaryError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(hex::encode(digest.finalize()))
}

struct DigestWriter<'a>(&'a mut Sha256);

impl io::Write for DigestWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks that the file is an ELF executable for this host's processor.
pub fn check_elf(path: &Path) -> Result<(), BinaryError> {
    const HEADER: usize = 20;
    const DATA: usize = 5;
    const LITTLE_ENDIAN: u8 = 1;
    const MACHINE: usize = 18;
    let mut header = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEADER as u64).read_to_end(&mut header));
    read.map_err(|source| BinaryError::Read {
        path: path.to_owned(),
        source,
    })?;
    if header.len() < HEADER || !header.starts_with(b"\x7fELF") || header[DATA] != LITTLE_ENDIAN {
        return Err(BinaryError::NotElf { path: path.to_owned() });
    }
    let found = match u16::from_le_bytes([header[MACHINE], header[MACHINE + 1]]) {
        0x3e => "x86_64".to_owned(),
        0xb7 => "aarch64".to_owned(),
        other => format!("machine {other:#x}"),
    };
    if found == std::env::consts::ARCH {
        Ok(())
    } else {
        Err(BinaryError::Architecture {
            path: path.to_owned(),
            found,
        })
    }
}

/// Runs `<path> -V` as a hot restart would run it, in `home` with an empty environment, and reads the version.
///
/// The exit code tells nothing: OBProxy ends with 0 whatever happens. The text is on stderr.
pub async fn version(path: &Path, home: &Path) -> Result<ProxyVersion, BinaryError> {
    version_as(path, home, None).await
}

/// [`version`], run by another user: root must not run what others can change.
pub async fn version_as(path: &Path, home: &Path, run_as: Option<RunAs>) -> Result<ProxyVersion, BinaryError> {
    let failed = |reason: String| BinaryError::DoesNotRun {
        path: path.to_owned(),
        reason,
    };
    let mut command = std::process::Command::new(path);
    RunAs::apply(run_as, &mut command);
    let mut command = tokio::process::Command::from(command);
    command.arg("-V").current_dir(home).env_clear().kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        use tokio::io::AsyncReadExt as _;
        let mut limited = stderr.take(OUTPUT_LIMIT);
        match tokio::time::timeout(VERSION_DEADLINE, limited.read_to_end(&mut text)).await {
            Ok(read) => read.map(drop).map_err(|error| failed(error.to_string()))?,
            Err(_) => {
                return Err(failed(format!(
                    "'-V' says nothing within {} s",
                    VERSION_DEADLINE.as_secs()
                )));
            }
        }
    }
    // Reaps it; one that closed stderr and lives on is killed by the drop.
    drop(tokio::time::timeout(VERSION_DEADLINE, child.wait()).await);
    let text = String::from_utf8_lossy(&text);
    parse_version(&text).ok_or_else(|| {
        let line = text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("nothing");
        failed(format!("'-V' printed no version but '{line}'"))
    })
}

/// Finds `(OceanBase 4.3.1.0 1.el7)`; old proxies print three numbers and no operating system.
fn parse_version(text: &str) -> Option<ProxyVersion> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("(OceanBase ") {
        let words: Vec<&str> = after.split_once(')')?.0.split_whitespace().collect();
        if let [version, release] = words[..]
            && let Ok(found) = format!("{version}-{release}").parse()
        {
            return Some(found);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn reads_old_and_new_version_texts() {
        let new = "./bin/obproxy -V\nobproxy (OceanBase 4.3.1.0 1.el7)\nREVISION: 1-local-ab\n";
        assert_eq!(parse_version(new).unwrap().to_string(), "4.3.1.0-1");
        assert_eq!(
            parse_version("obproxy (OceanBase 3.1.0 1)").unwrap().to_string(),
            "3.1.0-1"
        );
        let long = "obproxy (OceanBase 4.2.1.0 100000032024030511.el7)";
        assert_eq!(parse_version(long).unwrap().to_string(), "4.2.1.0-100000032024030511");
        for text in [
            "",
            "obproxy (OceanBase 4.3.1.0",
            "(OceanBase )",
            "sleep (GNU coreutils) 9.1",
        ] {
            assert_eq!(parse_version(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn judges_files() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(
            &script,
            "#!/bin/sh\necho 'obproxy (OceanBase 4.3.1.0 1.el7)' >&2\nenv >&2\n",
        )
        .unwrap();
        assert!(matches!(check_elf(&script), Err(BinaryError::NotElf { .. })));
        assert!(
            matches!(version(&script, dir.path()).await, Err(BinaryError::DoesNotRun { .. })),
            "not executable"
        );
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(version(&script, dir.path()).await.unwrap().to_string(), "4.3.1.0-1");

        check_elf(Path::new("/bin/sh")).unwrap();
        let mut other = fs::read("/bin/sh").unwrap();
        (other[18], other[19]) = (0xf3, 0);
        let foreign = dir.path().join("foreign");
        fs::write(&foreign, other).unwrap();
        assert!(matches!(check_elf(&foreign), Err(BinaryError::Architecture { .. })));
        assert!(matches!(
            check_elf(&dir.path().join("none")),
            Err(BinaryError::Read { .. })
        ));

        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        assert_eq!(
            sha256(&empty).unwrap(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
