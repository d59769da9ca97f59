//! What a restart leaves on disk.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use obfleet_wire::agent::{Operation, Outcome, ProbeQuery, RestartMethod};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, LONG, NEW},
};

const PROBE_PASSWORD: &str = "Probe-s3cret";

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_left_in_the_papers_of_a_restart() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    caller.create_upgradable(host.spec(7)).await;
    let probe = ProbeQuery {
        user: "app@t#ob1".into(),
        password: PROBE_PASSWORD.into(),
        sql: "select 1 from t".into(),
    };
    let restart = Operation::Restart {
        proxy_id: 7,
        restart_id: "r-1".into(),
        version: NEW.parse().unwrap(),
        method: RestartMethod::Hot,
        drain: DRAIN,
        probe: Some(probe.clone()),
    };
    let up = caller.call(restart).await;
    assert!(matches!(up, Ok(Outcome::Restarted(_))), "{up:?}: {:#?}", caller.lines);
    let back = Operation::RevertRestart {
        proxy_id: 7,
        restart_id: "r-1".into(),
        drain: DRAIN,
        probe: Some(probe),
    };
    caller.proxy(back).await;

    let restarts = host.root().join("restarts");
    let secrets = [PROBE_PASSWORD.to_owned(), host.spec(7).sys_password];
    let give_up = Instant::now() + LONG;
    while let Some(path) = files(&restarts).into_iter().find(|path| holds_any(path, &secrets)) {
        assert!(Instant::now() < give_up, "{} holds a password", path.display());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let kept = files(&restarts);
    assert!(kept.iter().any(|path| path.ends_with("r-1/guard.log")), "{kept:?}");
    for dir in [host.root(), host.state(), restarts.clone(), restarts.join("r-1")] {
        assert_eq!(mode(&dir) & 0o077, 0, "{}", dir.display());
    }
    for file in kept.iter().chain(&files(&host.state())) {
        assert_eq!(mode(file) & 0o177, 0, "{}", file.display());
    }
}

/// None for what is gone.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o777)
}

/// All regular files below a directory; what disappears meanwhile is left out.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn holds_any(path: &Path, secrets: &[String]) -> bool {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    secrets.iter().any(|secret| text.contains(secret.as_str()))
}
