//! The databases' programs, and how each is started.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;

/// Names the `seekdb` executable, in the folder it was unpacked to.
pub const SEEKDB_VARIABLE: &str = "OBFLEET_SEEKDB";

/// Makes the files of a MariaDB in the folder `home`. → what serves them, without its port
pub(crate) async fn mariadb(home: &Path) -> Result<Command> {
    let (installer, program) = (installed("mariadb-install-db")?, installed("mariadbd")?);
    let data = home.join("data");
    // One that starts deletes the temporary tables of all others whose folder for them is the same.
    let scratch = home.join("tmp");
    fs::create_dir(&scratch)?;
    let mut common = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", data.display()),
        format!("--tmpdir={}", scratch.display()),
    ];
    if geteuid().is_root() {
        // Without this it refuses to run as root; others may not name a user.
        common.push("--user=root".into());
    }
    let mut install = Command::new(installer);
    install.args(&common).arg("--auth-root-authentication-method=normal");
    let installed = tokio::task::spawn_blocking(move || install.output()).await??;
    ensure!(
        installed.status.success(),
        "mariadb-install-db failed: {}",
        String::from_utf8_lossy(&installed.stderr)
    );

    let mut command = Command::new(program);
    command.args(&common).args([
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        // Relative to the data folder: the path of a socket must be short.
        "--socket=sql.sock",
        "--innodb-buffer-pool-size=32M",
    ]);
    Ok(command)
}

/// Makes a folder for an OceanBase kernel in the folder `home`. → what serves it, without its port
pub(crate) fn seekdb(home: &Path) -> Result<Command> {
    let program = seekdb_program()?;
    let base = home.join("base");
    fs::create_dir(&base)?;
    let mut command = Command::new(&program);
    command
        .env("LD_LIBRARY_PATH", library_path(&program)?)
        .args(["--nodaemon", "--base-dir"])
        .arg(&base);
    for parameter in [
        "datafile_size=1G",
        "datafile_maxsize=4G",
        "log_disk_size=2G",
        "memory_limit=2G",
    ] {
        command.args(["--parameter", parameter]);
    }
    Ok(command)
}

/// A program of the search path, or of the folder where Debian keeps servers.
fn installed(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("the program {program} is missing: `cargo xtask test` installs it"))
}

fn seekdb_program() -> Result<PathBuf> {
    env::var_os(SEEKDB_VARIABLE)
        .map(PathBuf::from)
        .filter(|program| program.is_file())
        .with_context(|| {
            format!("the program seekdb is missing: `cargo xtask test` installs it and names it in {SEEKDB_VARIABLE}")
        })
}

/// The kernel's own libraries: beside it, and in the folder of libraries its package brings.
fn library_path(program: &Path) -> Result<impl AsRef<OsStr>> {
    let folder = program.parent().context("the program seekdb is in no folder")?;
    Ok(env::join_paths([folder, &folder.with_extension("libs")])?)
}
