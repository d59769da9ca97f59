//! Takes away what is kept for a while only: homes of removed proxies, restarts that are over, and packages that did not
//! arrive whole.

use std::{fs, path::Path, sync::Arc, time::Duration};

use obfleet_guard::Handle;
use obfleet_wire::time::Timestamp;
use tokio::time::interval;

use crate::{
    describe,
    durable::FileError,
    operations::{Node, OperationError, Thing, remove_dir},
    proxies::{Owned, Phase},
};

/// How long a removed proxy can be restored.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long the papers of a restart are kept for somebody to read.
const PAPERS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a package that did not arrive whole may be gone on with.
const PARTS_KEPT: Duration = Duration::from_secs(24 * 3600);
const ROUND: Duration = Duration::from_secs(3600);

/// Goes round every hour, until dropped.
pub(crate) async fn sweep(node: Arc<Node>) {
    let mut rounds = interval(ROUND);
    loop {
        rounds.tick().await;
        for owned in node.registry.all() {
            if let Err(e) = purge(&node, &owned, Timestamp::now()) {
                tracing::warn!(proxy = owned.spec.proxy_id, error = %describe(&e), "a removed home stays");
            }
        }
        if let Err(e) = node.packages.sweep(PARTS_KEPT) {
            tracing::warn!(error = %describe(&e), "parts of packages stay");
        }
        if let Err(e) = clear_restarts(&node, PAPERS_KEPT) {
            tracing::warn!(error = %describe(&e), "papers of old restarts stay");
        }
    }
}

/// Deletes the home of a proxy removed long ago, where it was moved aside, and forgets the proxy.
fn purge(node: &Node, owned: &Owned, now: Timestamp) -> Result<(), OperationError> {
    let proxy_id = owned.spec.proxy_id;
    let Phase::Removed { aside, at } = &owned.phase else {
        return Ok(());
    };
    let age = now.millis() / 1000 - at;
    if age < KEPT.as_secs().cast_signed() {
        return Ok(());
    }
    let Some(_turn) = node.things.try_lock(Thing::Proxy(proxy_id)) else {
        return Ok(());
    };
    // One that was given back, or came from somebody else, lies where it lay.
    if *aside != owned.home {
        remove_dir(aside)?;
    }
    node.registry.forget(proxy_id)?;
    Ok(())
}

/// Deletes the directories of restarts that ended longer than `kept` ago, but not of the last one of a proxy: it could
/// still be reverted. Those that stay hold no passwords.
fn clear_restarts(node: &Node, kept: Duration) -> Result<(), OperationError> {
    let dir = node.layout.restarts();
    let last: Vec<String> = node
        .registry
        .all()
        .into_iter()
        .filter_map(|owned| owned.restart)
        .flat_map(|r| [r.back_id(), r.id])
        .collect();
    for entry in fs::read_dir(&dir).map_err(FileError::io("read", &dir))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if !last.contains(&name) && is_over(&path, kept) {
            remove_dir(&path)?;
        } else if let Err(e) = Handle::attach(&path).forget_secrets() {
            tracing::warn!(restart = %name, error = %e, "passwords may be left in the papers of a restart");
        }
    }
    Ok(())
}

/// Whether the restart ended longer than `kept` ago. One that cannot be read may still be under way.
fn is_over(restart: &Path, kept: Duration) -> bool {
    let ended = Handle::attach(restart)
        .state()
        .is_ok_and(|state| state.phase.is_final());
    let touched = fs::metadata(restart).and_then(|m| m.modified());
    ended && touched.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= kept))
}

#[cfg(test)]
mod tests {
    use obfleet_guard::{Phase as GuardPhase, State};

    use super::*;
    use crate::{
        layout::Layout,
        locks::Locks,
        packages::Packages,
        proxies::{LastRestart, Registry, sample},
    };

    fn node(dir: &Path) -> Node {
        let layout = Layout::open(dir.join("root"), dir.join("state")).unwrap();
        Node {
            packages: Packages::open(layout.packages()),
            registry: Registry::open(layout.registry()).unwrap().into(),
            bind: std::net::Ipv4Addr::LOCALHOST.into(),
            things: Locks::default(),
            readings: crate::readings::Readings::default(),
            troubles: std::sync::Mutex::default(),
            exe: "/nonexistent".into(),
            layout,
        }
    }

    #[test]
    fn a_removed_home_is_kept_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        let aside = node.layout.removed().join("7-0");
        fs::create_dir(&aside).unwrap();
        node.registry.insert(sample(7)).unwrap();
        let phase = Phase::Removed {
            aside: aside.clone(),
            at: 0,
        };
        let owned = node.registry.update(7, |o| o.phase = phase).unwrap();
        let day = Timestamp(24 * 3600 * 1000);
        purge(&node, &owned, Timestamp(day.millis() - 1000)).unwrap();
        assert!(aside.exists() && node.registry.find(7).is_some());
        purge(&node, &owned, day).unwrap();
        assert!(!aside.exists() && node.registry.find(7).is_none());
    }

    #[test]
    fn a_home_that_was_not_moved_aside_stays() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        let home = dir.path().join("of-somebody-else");
        fs::create_dir(&home).unwrap();
        let adopted = Owned {
            home: home.clone(),
            adopted: true,
            phase: Phase::Removed {
                aside: home.clone(),
                at: 0,
            },
            ..sample(7)
        };
        node.registry.insert(adopted.clone()).unwrap();
        purge(&node, &adopted, Timestamp(24 * 3600 * 1000)).unwrap();
        assert!(home.exists() && node.registry.find(7).is_none());
    }

    #[test]
    fn papers_of_restarts_go_unless_they_are_needed() {
        let dir = tempfile::tempdir().unwrap();
        let node = node(dir.path());
        let over = GuardPhase::Broken { reason: "r".into() };
        for (id, phase) in [
            ("old", &over),
            ("last", &over),
            ("last-back", &over),
            ("busy", &GuardPhase::Preparing),
        ] {
            let state = State {
                restart_id: id.into(),
                proxy_id: 7,
                phase: phase.clone(),
                guard: None,
                before: None,
                triggered_at: None,
                report: None,
            };
            fs::create_dir(node.layout.restart(id)).unwrap();
            fs::write(
                node.layout.restart(id).join("state.json"),
                serde_json::to_vec(&state).unwrap(),
            )
            .unwrap();
        }
        let mut owned = sample(7);
        owned.restart = Some(LastRestart {
            id: "last".into(),
            also: Vec::new(),
            attempt: "i.1.1.1.EXECUTE.1".parse().unwrap(),
            from: owned.version.clone(),
            to: owned.version.clone(),
            told: 0,
        });
        node.registry.insert(owned).unwrap();
        clear_restarts(&node, PAPERS_KEPT).unwrap();
        assert!(node.layout.restart("old").exists(), "not yet");
        clear_restarts(&node, Duration::ZERO).unwrap();
        let left = ["old", "last", "last-back", "busy"].map(|id| node.layout.restart(id).exists());
        assert_eq!(left, [false, true, true, true]);
    }
}
