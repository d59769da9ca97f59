//! What an administrator's session answers.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "common/proxy.rs"]
mod proxy;

use obfleet_mysqlwire::auth::password_sha1;
use obfleet_mysqlwire::client::{log_in, read_greeting};
use obfleet_mysqlwire::protocol::{CHARSET_BINARY, capability, command};
use obfleet_mysqlwire::{Client, ClientError, Login, PacketStream};
use proxy::{OLD, ProxyHome, refusal};
use sqlx::Row as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Duration, Instant};

#[tokio::test]
async fn the_configuration_is_shown_changed_and_stored() {
    let home = ProxyHome::new();
    home.start("").await;
    let mut admin = home.admin().await;

    let all = admin.query("SHOW PROXYCONFIG;").await.unwrap();
    let names: Vec<&str> = all.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "name",
            "value",
            "info",
            "need_reboot",
            "visible_level",
            "range",
            "config_level"
        ]
    );
    assert_eq!(all.rows.len(), 306);
    let stored = admin.query("show proxyconfig all").await.unwrap();
    assert_eq!((stored.rows.len(), stored.columns.len()), (299, 8));
    let changed = admin.query("show proxyconfig diff").await.unwrap();
    assert!(changed.rows.len() < 10, "{changed:?}");
    let levels = admin.query("show proxyconfig like 'syslog_level'").await.unwrap();
    assert_eq!(levels.columns.len(), 4);

    let done = admin
        .query("alter proxyconfig set default_inactivity_timeout = 1h")
        .await
        .unwrap();
    assert_eq!(done.affected_rows, 0);
    let shown = admin
        .query("show proxyconfig like 'default_inactivity%'")
        .await
        .unwrap();
    assert_eq!((shown.rows.len(), shown.text(0, "value").as_deref()), (1, Some("1h")));
    let count = admin.query("select count(*) as n from proxy_config").await.unwrap();
    assert_eq!(count.text(0, "n").as_deref(), Some("299"));

    // What a manager finds in the file.
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(home.join("etc/proxyconfig_v1.db"))
        .read_only(true);
    let mut file = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let value: String =
        sqlx::query("SELECT value FROM proxy_config WHERE vid = -1 AND config_level = 'LEVEL_GLOBAL' AND name = ?")
            .bind("default_inactivity_timeout")
            .fetch_one(&mut file)
            .await
            .unwrap()
            .get(0);
    assert_eq!(value, "1h");
}

#[tokio::test]
async fn refusals_have_the_real_codes() {
    let home = ProxyHome::new();
    home.start("").await;
    let mut admin = home.admin().await;
    for (sql, code) in [
        ("hello", 5010),
        ("show proxyinfo", 5010),
        ("select 1", 1235),
        ("select @@version", 1235),
        ("alter proxyconfig set nonsense = 1", 5099),
        ("alter proxyconfig set proxy_local_cmd = 9", 4147),
        ("alter proxyconfig set app_name = x", 1235),
        ("kill 4711", 1094),
        ("show proxycluster", 4018),
        ("select * from proxyconfig.proxy_config", 4016),
    ] {
        assert_eq!(refusal(admin.query(sql).await), code, "{sql}");
    }
    assert_eq!(admin.query("show databases").await.unwrap().rows.len(), 18);
    for sql in ["set names utf8mb4", "begin", "ping proxy"] {
        assert!(admin.query(sql).await.unwrap().rows.is_empty(), "{sql}");
    }
    for sql in [
        "show proxyresource",
        "show proxycongestion all",
        "show proxyvip",
        "show proxyinfo idc",
    ] {
        assert!(admin.query(sql).await.unwrap().rows.is_empty(), "{sql}");
    }
    assert!(matches!(admin.query("show trace").await, Err(ClientError::Lost(_))));
}

#[tokio::test]
async fn versions_and_statistics() {
    let home = ProxyHome::new();
    home.start("").await;
    let mut admin = home.admin().await;
    assert_eq!(admin.greeting().server_version, "5.6.25");
    assert_eq!((admin.greeting().charset, admin.greeting().status), (46, 0));
    assert_eq!(&admin.greeting().scramble, b"aaaaaaaabbbbbbbbbbbb");
    let version = admin.query("select proxy_version()").await.unwrap();
    assert_eq!(
        (
            version.columns[0].charset,
            version.text(0, "proxy_version()").as_deref()
        ),
        (CHARSET_BINARY, Some(OLD))
    );
    let stat = admin.query("show proxystat like 'current_client_%'").await.unwrap();
    assert_eq!(stat.rows.len(), 2);
    assert_eq!(
        (stat.text(0, "value").as_deref(), stat.text(1, "value").as_deref()),
        (Some("1"), Some("0"))
    );
    let mut requests = Vec::new();
    for _ in 0..2 {
        let stat = admin
            .query("show proxystat refresh like 'client_requests'")
            .await
            .unwrap();
        requests.push(stat.text(0, "value").unwrap().parse::<u64>().unwrap());
    }
    assert_eq!(requests[0] + 1, requests[1]);
    let threads = admin.query("show proxynet thread").await.unwrap();
    assert_eq!(
        threads.text(0, "global_current_client_connection_count").as_deref(),
        Some("1")
    );
    let own = admin.query("show proxysession").await.unwrap();
    assert_eq!(own.text(0, "state").as_deref(), Some("MCS_ACTIVE_READER"));
    assert_eq!(
        (own.text(0, "Tenant").as_deref(), own.text(0, "User").as_deref()),
        (Some("proxysys"), Some("root"))
    );
}

#[tokio::test]
async fn a_killed_session_is_closed() {
    let home = ProxyHome::new();
    home.start("").await;
    let (mut admin, mut victim) = (home.admin().await, home.admin().await);
    let id = victim.greeting().connection_id;
    admin.query(&format!("kill proxysession {id}")).await.unwrap();
    admin.query(&format!("kill proxysession {id}")).await.unwrap();
    assert!(matches!(victim.ping().await, Err(ClientError::Lost(_))));
    proxy::until("it is gone from the list", async || {
        admin.query("show processlist").await.unwrap().rows.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_killed_session_is_listed_until_it_is_closed() {
    let home = ProxyHome::new();
    home.start("").await;
    let mut admin = home.admin().await;
    let mut listed_after = 0;
    for _ in 0..20 {
        let victim = home.admin().await;
        let id = victim.greeting().connection_id;
        admin.query(&format!("kill {id}")).await.unwrap();
        let list = admin.query("show processlist").await.unwrap();
        listed_after += usize::from((0..list.rows.len()).any(|row| list.text(row, "Id") == Some(id.to_string())));
    }
    assert!(listed_after > 0, "each was gone at once");
}

#[tokio::test]
async fn passwords_and_who_may_come_in() {
    let home = ProxyHome::new();
    home.start("").await;
    let log_in = async |user: &str, password: &str| {
        let login = Client::connect(home.address(), user, password, Instant::now() + Duration::from_secs(20)).await;
        match login {
            Ok(client) => Ok(client),
            Err(ClientError::LoginRefused(error)) => Err(error),
            Err(other) => panic!("{other:?}"),
        }
    };
    let mut admin = log_in("root@proxysys", "").await.unwrap();
    admin
        .query("alter proxyconfig set obproxy_sys_password = 'Secret1'")
        .await
        .unwrap();
    log_in("root@proxysys", "Secret1").await.unwrap();
    let refused = log_in("root@proxysys", "wrong").await.unwrap_err();
    assert_eq!((refused.code, refused.sqlstate.as_str()), (1045, "42000"));
    assert_eq!(
        refused.message,
        "Access denied for user 'root@proxysys'@'127.0.0.1' (using password: YES)"
    );
    assert!(
        log_in("root@proxysys", "")
            .await
            .unwrap_err()
            .message
            .ends_with("(using password: NO)")
    );
    let hash = admin
        .query("show proxyconfig like 'obproxy_sys_password'")
        .await
        .unwrap()
        .text(0, "value")
        .unwrap();
    assert_eq!(hash, hex::encode(password_sha1("Secret1")));

    let mut inspector = log_in("inspector@proxysys", "").await.unwrap();
    inspector.query("ping proxy").await.unwrap();
    assert_eq!(refusal(inspector.query("show processlist").await), 1235);
    log_in("nobody@proxysys", "").await.unwrap_err();

    admin
        .query("alter proxyconfig set obproxy_sys_password = ''")
        .await
        .unwrap();
    log_in("root@proxysys", "").await.unwrap();
}

/// A login step by step, from this source address and with this default database.
async fn raw_login(
    home: &ProxyHome,
    source: &str,
    database: Option<&str>,
) -> Result<PacketStream<TcpStream>, ClientError> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut packets = PacketStream::new(socket.connect(home.address()).await.unwrap());
    let greeting = read_greeting(&mut packets).await?;
    let login = Login {
        capabilities: capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | if database.is_some() {
                capability::CONNECT_WITH_DB
            } else {
                0
            },
        max_packet: 1 << 24,
        charset: 46,
        user: "root@proxysys".into(),
        auth_answer: Vec::new(),
        database: database.map(str::to_owned),
        auth_plugin: None,
        attributes: Vec::new(),
    };
    log_in(&mut packets, &greeting, login, "").await?;
    Ok(packets)
}

#[tokio::test]
async fn a_default_database_costs_an_administrator_the_connection() {
    let home = ProxyHome::new();
    home.start("").await;
    assert!(matches!(
        raw_login(&home, "127.0.0.1", Some("test")).await,
        Err(ClientError::Lost(_))
    ));
    let mut packets = raw_login(&home, "127.0.0.1", None).await.unwrap();
    packets.start_command();
    packets
        .write(&[&[command::INIT_DB], &b"test"[..]].concat())
        .await
        .unwrap();
    assert_eq!(packets.read().await.unwrap(), None);
}

#[tokio::test]
async fn administrators_come_from_loopback_only_unless_the_check_is_skipped() {
    let home = ProxyHome::new();
    home.start("").await;
    let login = raw_login(&home, "127.0.0.2", None).await;
    let Err(ClientError::LoginRefused(refused)) = login else {
        panic!("let in from 127.0.0.2")
    };
    assert_eq!(
        refused.message,
        "Access denied for user 'root@proxysys'@'127.0.0.2' (using password: NO)"
    );
    home.admin()
        .await
        .query("alter proxyconfig set skip_proxy_sys_private_check = true")
        .await
        .unwrap();
    raw_login(&home, "127.0.0.2", None).await.unwrap();
}
