//! Client and server halves against each other over loopback.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use obfleet_mysqlwire::auth::{password_sha1, verify_native};
use obfleet_mysqlwire::protocol::{NATIVE_PASSWORD, capability, command, status};
use obfleet_mysqlwire::{Client, ClientError, Column, ErrPacket, Greeting, ServerConnection};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

fn greeting(capabilities: u32) -> Greeting {
    Greeting {
        server_version: "5.7.0-test".into(),
        connection_id: 7,
        scramble: *b"abcdefghijklmnopqrst",
        capabilities: capabilities | capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH,
        charset: 45,
        status: status::AUTOCOMMIT,
        auth_plugin: NATIVE_PASSWORD.into(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Serves one client: `rows` gives two rows, `begin` opens a transaction, anything else is an error.
async fn serve_one(capabilities: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let greeting = greeting(capabilities);
        let (mut connection, login) = ServerConnection::greet(stream, &greeting).await.unwrap();
        if !verify_native(&login.auth_answer, &password_sha1("pw"), &greeting.scramble) {
            connection
                .send_err(&ErrPacket::new(1045, "28000", "denied"))
                .await
                .unwrap();
            return;
        }
        connection.send_ok(status::AUTOCOMMIT).await.unwrap();
        while let Some(asked) = connection.next_command().await.unwrap() {
            match (asked.code, asked.body.as_slice()) {
                (command::QUIT, _) => return,
                (command::PING, _) => connection.send_ok(0).await.unwrap(),
                (command::QUERY, b"begin") => connection.send_ok(status::IN_TRANS).await.unwrap(),
                (command::QUERY, b"rows") => {
                    let rows = [
                        vec![Some(b"x".to_vec()), None],
                        vec![Some(vec![b'y'; 300]), Some(b"2".to_vec())],
                    ];
                    connection
                        .send_rows(&[Column::binary("a"), Column::integer("b")], &rows, status::IN_TRANS)
                        .await
                        .unwrap();
                }
                (command::QUERY, b"endless") => {
                    let rows = [vec![Some(vec![b'x'; 1 << 20])]];
                    let more = status::MORE_RESULTS_EXISTS;
                    while connection.send_rows(&[Column::binary("a")], &rows, more).await.is_ok() {}
                    return;
                }
                _ => connection
                    .send_err(&ErrPacket::new(5010, "21000", "what?"))
                    .await
                    .unwrap(),
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_session_with_and_without_eof_packets() {
    for capabilities in [0, capability::DEPRECATE_EOF] {
        let addr = serve_one(capabilities).await;
        let mut client = Client::connect(addr, "u", "pw", soon()).await.unwrap();
        assert_eq!(client.greeting().connection_id, 7);
        client.ping().await.unwrap();
        assert!(client.query("begin").await.unwrap().in_transaction());
        let result = client.query("rows").await.unwrap();
        assert!(result.in_transaction());
        assert_eq!(result.columns, [Column::binary("a"), Column::integer("b")]);
        assert_eq!(
            (result.text(0, "A"), result.text(0, "b"), result.text(1, "b")),
            (Some("x".into()), None, Some("2".into()))
        );
        assert!(matches!(client.query("?").await, Err(ClientError::Refusal(error)) if error.code == 5010));
        client.ping().await.unwrap();
        client.close().await;
    }
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let addr = serve_one(0).await;
    let mut client = Client::connect(addr, "u", "pw", soon()).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(60), client.query("endless")).await;
    let error = asked.expect("it was read for ever").unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_with_its_code() {
    let addr = serve_one(0).await;
    let error = Client::connect(addr, "u", "other", soon()).await.unwrap_err();
    assert!(matches!(error, ClientError::LoginRefused(error) if error.code == 1045));
}

#[tokio::test]
async fn the_ways_a_connection_fails_are_told_apart() {
    // Bound but not listening: nobody else can take the port and connects are refused.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = Client::connect(closed.local_addr().unwrap(), "u", "", soon()).await;
    assert!(matches!(refused, Err(ClientError::Refused)), "{refused:?}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let hung = Client::connect(addr, "u", "", Instant::now() + Duration::from_millis(50)).await;
    assert!(matches!(hung, Err(ClientError::NoGreeting)), "{hung:?}");

    let accepting = tokio::spawn(async move {
        silent.accept().await.unwrap();
        drop(silent.accept().await.unwrap());
        silent
    });
    let cut = Client::connect(addr, "u", "", soon()).await;
    assert!(matches!(cut, Err(ClientError::ClosedBeforeGreeting)), "{cut:?}");

    let silent = accepting.await.unwrap();
    tokio::spawn(async move {
        let (stream, _) = silent.accept().await.unwrap();
        ServerConnection::greet(stream, &greeting(0)).await.unwrap();
    });
    let lost = Client::connect(addr, "u", "", soon()).await;
    assert!(matches!(lost, Err(ClientError::Lost(_))), "{lost:?}");
}
