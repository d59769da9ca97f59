//! Ordinary users through the proxy to a small SQL server, across a hot restart.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/small_server.rs"]
mod small_server;

use obfleet_mysqlwire::protocol::capability;
use obfleet_mysqlwire::{Client, ClientError};
use obfleet_standin::{Faults, Trailer};
use proxy::{NEW, OLD, ProxyHome, refusal, until};
use small_server::small_server;
use tokio::time::{Duration, Instant};

async fn connect(home: &ProxyHome, user: &str) -> Result<Client, ClientError> {
    Client::connect(home.address(), user, "", Instant::now() + Duration::from_secs(20)).await
}

/// State and transactions of the only session of an ordinary user.
async fn session_of_app(admin: &mut Client) -> (String, String, String) {
    let sessions = admin.query("show proxysession").await.unwrap();
    let row = (0..sessions.rows.len())
        .find(|row| sessions.text(*row, "User").as_deref() == Some("app"))
        .unwrap();
    let text = |column| sessions.text(row, column).unwrap();
    (text("Id"), text("state"), text("trans_count"))
}

#[tokio::test]
async fn packets_are_relayed_and_transactions_seen() {
    for capabilities in [0, capability::DEPRECATE_EOF | capability::SESSION_TRACK] {
        let home = ProxyHome::new();
        let backend = small_server(capabilities).await;
        home.start_with_backend(backend).await;
        let mut admin = home.admin().await;
        // The second client is offered what the first one's backend had.
        for _ in 0..2 {
            let mut client = connect(&home, "app@shop#north").await.unwrap();
            assert_eq!(
                client.query("select user").await.unwrap().text(0, "user").as_deref(),
                Some("app")
            );
            assert_eq!(client.query("select many").await.unwrap().rows.len(), 5000);
            assert_eq!(refusal(client.query("nonsense").await), 1064);
            let (_, state, count) = session_of_app(&mut admin).await;
            assert_eq!((state.as_str(), count.as_str()), ("MCS_KEEP_ALIVE", "3"));
            assert!(client.query("begin").await.unwrap().in_transaction());
            client.query("select user").await.unwrap();
            let (_, state, count) = session_of_app(&mut admin).await;
            assert_eq!((state.as_str(), count.as_str()), ("MCS_ACTIVE_READER", "3"));
            let open = admin
                .query("show proxystat like 'current_client_transactions'")
                .await
                .unwrap();
            assert_eq!(open.text(0, "value").as_deref(), Some("1"));
            assert!(!client.query("commit").await.unwrap().in_transaction());
            assert_eq!(session_of_app(&mut admin).await.2, "4");
            client.close().await;
            until("the session is gone", async || {
                admin.query("show proxysession").await.unwrap().rows.len() == 1
            })
            .await;
        }
    }
}

#[tokio::test]
async fn transactions_live_through_a_hot_restart_and_end_the_drain() {
    let home = ProxyHome::new();
    home.start_with_backend(small_server(0).await).await;
    let mut keeper = home.admin().await;
    let mut client = connect(&home, "app").await.unwrap();
    client.query("begin").await.unwrap();
    home.install(NEW, Faults::default());
    keeper.query("alter proxyconfig set proxy_local_cmd = 2").await.unwrap();
    home.until_version(NEW).await;

    client.query("select user").await.unwrap();
    let (id, state, _) = session_of_app(&mut keeper).await;
    assert_eq!(state, "MCS_ACTIVE_READER");
    client.query("commit").await.unwrap();
    assert_eq!(session_of_app(&mut keeper).await.1, "MCS_KEEP_ALIVE");
    let mut fresh = connect(&home, "app").await.unwrap();
    fresh.query("begin").await.unwrap();

    keeper.query(&format!("kill proxysession {id}")).await.unwrap();
    assert!(matches!(client.query("begin").await, Err(ClientError::Lost(_))));
    keeper.close().await;
    home.until_process_count(1).await;
    fresh.query("commit").await.unwrap();
}

#[tokio::test]
async fn logins_the_backend_or_the_proxy_refuses() {
    let home = ProxyHome::new();
    home.start_with_backend(small_server(0).await).await;
    let refused = async |user, password| match Client::connect(
        home.address(),
        user,
        password,
        Instant::now() + Duration::from_secs(20),
    )
    .await
    {
        Err(ClientError::LoginRefused(error)) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("stranger@sys", "").await, 1045);
    assert_eq!(refused("app@sys", "a password").await, 1045);

    let lonely = ProxyHome::new();
    lonely.start("").await;
    let login = connect(&lonely, "app").await;
    assert!(
        matches!(login, Err(ClientError::LoginRefused(ref error)) if error.code == 4016),
        "{login:?}"
    );
}

#[tokio::test]
async fn an_orderly_drain_closes_sessions_between_transactions() {
    let home = ProxyHome::new();
    home.install(
        OLD,
        Faults {
            orderly_close: true,
            ..Faults::default()
        },
    );
    home.start_with_backend(small_server(0).await).await;
    let (mut idle, mut busy) = (
        connect(&home, "app").await.unwrap(),
        connect(&home, "app").await.unwrap(),
    );
    busy.query("begin").await.unwrap();
    home.admin()
        .await
        .query("alter proxyconfig set proxy_local_cmd = 2")
        .await
        .unwrap();
    until("the idle session is closed", async || idle.ping().await.is_err()).await;
    busy.query("commit").await.unwrap();
    home.until_process_count(1).await;
}

#[tokio::test]
async fn without_a_backend_transactions_can_be_pretended() {
    let home = ProxyHome::new();
    home.install_build(&Trailer {
        version: OLD.into(),
        release: "1.el7".into(),
        faults: Faults::default(),
        fake_backend: true,
    });
    home.start("").await;
    let mut client = connect(&home, "app@shop").await.unwrap();
    assert!(client.query("begin").await.unwrap().in_transaction());
    assert!(client.query("update t set a = 1").await.unwrap().in_transaction());
    assert_eq!(session_of_app(&mut home.admin().await).await.1, "MCS_ACTIVE_READER");
    assert!(!client.query("commit").await.unwrap().in_transaction());
}
