//! Installs what tests need beside Rust: programs of Debian's packages, and from PyPI the OceanBase kernel and schemathesis,
//! which makes up requests.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::succeed;

/// Programs tests start, and the Debian package each is in.
const PROGRAMS: [(&str, &str); 14] = [
    ("curl", "curl"),
    ("jq", "jq"),
    ("openssl", "openssl"),
    ("mariadbd", "mariadb-server"),
    ("sshd", "openssh-server"),
    ("sudo", "sudo"),
    ("systemctl", "systemd"),
    ("dbus-daemon", "dbus"),
    ("rpm", "rpm"),
    ("rpmbuild", "rpm"),
    ("rpmsign", "rpm"),
    ("gpg", "gnupg"),
    ("gpgconf", "gnupg"),
    ("pip3", "python3-pip"),
];

/// The OceanBase kernel: package and version on PyPI.
const SEEKDB: (&str, &str) = ("pylibseekdb", "1.4.0");

/// schemathesis and all it needs, each in one version: others would make up other requests.
const SCHEMATHESIS: &str = include_str!("../schemathesis.txt");

/// What was installed where it cannot be found by name.
pub struct Tools {
    /// The `seekdb` executable.
    pub seekdb: PathBuf,
    /// The directory that has schemathesis' Python modules.
    pub schemathesis: PathBuf,
}

impl Tools {
    /// Has tests find them; one whose tool is missing fails then instead of leaving itself out.
    pub fn tell(&self, tests: &mut Command) {
        tests
            .env("OBFLEET_TEST_TOOLS", "1")
            .env("OBFLEET_SEEKDB", &self.seekdb)
            .env("OBFLEET_SCHEMATHESIS", &self.schemathesis);
    }
}

/// Installs those of the programs that are missing, each from its Debian package.
pub fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs what is missing. `target` is the build directory.
pub fn test_tools(target: &Path) -> Result<Tools> {
    programs(&PROGRAMS)?;
    let tools = target.join("tools");
    Ok(Tools {
        seekdb: seekdb(&tools)?,
        schemathesis: schemathesis(&tools)?,
    })
}

/// Looked for in the search path, and where Debian keeps servers.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    println!("installing Debian packages: {}", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut command = if is_root {
            Command::new("apt-get")
        } else {
            Command::new("sudo")
        };
        if !is_root {
            command.arg("apt-get");
        }
        succeed(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments).with_context(|| format!("install {} by hand, then run this again", packages.join(" ")))
}

/// The kernel, unpacked from its wheel below the build directory.
fn seekdb(tools: &Path) -> Result<PathBuf> {
    let (package, version) = SEEKDB;
    let home = tools.join(format!("{package}-{version}"));
    if let Some(found) = find(&home, "seekdb") {
        return Ok(found);
    }
    println!("fetching {package} {version} from PyPI");
    let wheels = tools.join("wheels");
    let requirement = format!("{package}=={version}");
    let mut pip = Command::new("pip3");
    succeed(
        pip.args(["download", "--quiet", "--no-deps", "--dest"])
            .arg(&wheels)
            .arg(requirement),
    )?;
    let prefix = format!("{package}-{version}");
    let wheel = fs::read_dir(&wheels)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .with_context(|| format!("pip left no wheel of {package} in {}", wheels.display()))?;
    // Unpacked beside and moved, so that a broken-off run leaves no half of it behind.
    let unpacked = tools.join("unpacking");
    let _ = fs::remove_dir_all(&unpacked);
    succeed(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&unpacked),
    )?;
    fs::rename(&unpacked, &home)?;
    let executable = find(&home, "seekdb").with_context(|| format!("{} holds no seekdb", wheel.display()))?;
    fs::set_permissions(&executable, fs::Permissions::from_mode(0o755))?;
    Ok(executable)
}

/// schemathesis, in a directory of its own.
fn schemathesis(tools: &Path) -> Result<PathBuf> {
    let pinned = |line: &str| line.strip_prefix("schemathesis==").map(str::to_owned);
    let version = SCHEMATHESIS
        .lines()
        .find_map(pinned)
        .context("no version of schemathesis is pinned")?;
    let home = tools.join(format!("schemathesis-{version}"));
    if home.is_dir() {
        return Ok(home);
    }
    println!("fetching schemathesis {version} from PyPI");
    fs::create_dir_all(tools)?;
    let wanted = tools.join("schemathesis.txt");
    fs::write(&wanted, SCHEMATHESIS)?;
    // Installed beside and moved, so that a broken-off run leaves no half of it behind.
    let installing = tools.join("installing");
    let _ = fs::remove_dir_all(&installing);
    let mut pip = Command::new("pip3");
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--target"]);
    succeed(pip.arg(&installing).arg("--requirement").arg(&wanted))?;
    fs::rename(&installing, &home)?;
    Ok(home)
}

/// The file with this name anywhere below a directory.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    let here = entries
        .iter()
        .find(|path| path.is_file() && path.file_name().is_some_and(|file| file == name))
        .cloned();
    here.or_else(|| {
        entries
            .iter()
            .filter(|path| path.is_dir())
            .find_map(|dir| find(dir, name))
    })
}
