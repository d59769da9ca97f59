//! A small SQL server behind a proxy, in the test's own process.

use std::net::SocketAddr;

use obfleet_mysqlwire::protocol::{NATIVE_PASSWORD, capability, command, status};
use obfleet_mysqlwire::{Column, ErrPacket, Greeting, ServerConnection};
use tokio::net::{TcpListener, TcpStream};

/// A server that knows transactions, `select user` and `select many`.
pub async fn small_server(capabilities: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(small_session(stream, capabilities));
        }
    });
    address
}

async fn small_session(stream: TcpStream, capabilities: u32) -> std::io::Result<()> {
    let greeting = Greeting {
        server_version: "5.7.25-small".into(),
        connection_id: 99,
        scramble: *b"0123456789abcdefghij",
        capabilities: capabilities
            | capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::CONNECT_WITH_DB,
        charset: 45,
        status: status::AUTOCOMMIT,
        auth_plugin: NATIVE_PASSWORD.into(),
    };
    let (mut connection, login) = ServerConnection::greet(stream, &greeting).await?;
    if login.user == "stranger" {
        return connection
            .send_err(&ErrPacket::new(1045, "28000", "Access denied for user 'stranger'"))
            .await;
    }
    connection.send_ok(status::AUTOCOMMIT).await?;
    let mut flags = status::AUTOCOMMIT;
    while let Some(asked) = connection.next_command().await? {
        match (asked.code, asked.body.as_slice()) {
            (command::QUIT, _) => break,
            (command::QUERY, b"begin") => {
                flags |= status::IN_TRANS;
                connection.send_ok(flags).await?;
            }
            (command::QUERY, b"commit") => {
                flags = status::AUTOCOMMIT;
                connection.send_ok(flags).await?;
            }
            (command::QUERY, b"select user") => {
                let row = vec![Some(login.user.clone().into_bytes())];
                connection.send_rows(&[Column::text("user")], &[row], flags).await?;
            }
            (command::QUERY, b"select many") => {
                let rows = vec![vec![Some(vec![b'x'; 1000])]; 5000];
                connection.send_rows(&[Column::text("x")], &rows, flags).await?;
            }
            (command::QUERY, _) => {
                connection
                    .send_err(&ErrPacket::new(1064, "42000", "no such statement"))
                    .await?;
            }
            _ => connection.send_ok(flags).await?,
        }
    }
    Ok(())
}
