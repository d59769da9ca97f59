//! The manager's own client against the stand-in: what one says the other understands.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "common/proxy.rs"]
mod proxy;

use std::time::Duration;

use obfleet_obproxy::admin::{AdminConn, AdminError};
use obfleet_standin::Faults;
use proxy::{NEW, OLD, ProxyHome, until};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_managers_client_sees_a_restart() {
    let home = ProxyHome::new();
    home.start("").await;
    let mut keeper = AdminConn::connect(home.address(), "", DEADLINE).await.unwrap();
    assert_eq!(keeper.proxy_version().await.unwrap(), OLD);
    assert_eq!(keeper.proxy_status().await.unwrap(), "ACTIVE");
    assert_eq!(keeper.binary_info().await.unwrap().to_string(), "4.2.1.0-1");
    keeper.ping_proxy().await.unwrap();
    keeper.set_config("hot_upgrade_rollback_timeout", "60s").await.unwrap();
    assert_eq!(
        keeper
            .config_value("hot_upgrade_rollback_timeout")
            .await
            .unwrap()
            .as_deref(),
        Some("60s")
    );
    let old = keeper.answering_pid().await.unwrap();
    assert_eq!(home.pids(), [old]);
    assert!(keeper.upgrade_info().await.unwrap().is_at_rest());
    assert!(
        keeper
            .sessions()
            .await
            .unwrap()
            .iter()
            .all(|session| session.is_admin())
    );

    home.install(NEW, Faults::default());
    keeper.local_command(2).await.unwrap();
    home.until_version(NEW).await;
    until("the old one drains", async || {
        keeper.upgrade_info().await.unwrap().is_draining()
    })
    .await;
    let refused = keeper.set_config("hot_upgrade_rollback_timeout", "61s").await;
    assert!(
        matches!(refused, Err(AdminError::Server { code: 4016, .. })),
        "{refused:?}"
    );
    keeper.close().await;
    home.until_process_count(1).await;
}
