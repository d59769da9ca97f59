//! A whole session of MySQL's protocol, of which the input is what the other end sends: first to a client, then to a server.

#![no_main]

use libfuzzer_sys::fuzz_target;
use obfleet_mysqlwire::{
    Client, ClientError, Greeting, ServerConnection,
    protocol::{NATIVE_PASSWORD, capability},
};
use tokio::{
    io::{join, sink},
    runtime::Runtime,
};

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
}

fuzz_target!(|sent: &[u8]| {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            client(sent, "").await;
            client(sent, "Secret-1").await;
            server(sent).await;
        });
    });
});

async fn client(sent: &[u8], password: &str) {
    let mut client = match Client::over(join(sent, sink()), "root@proxysys", password).await {
        Ok(client) => client,
        Err(ClientError::Refused | ClientError::NoGreeting | ClientError::LoginTimedOut | ClientError::Io(_)) => {
            panic!("nothing of the kind happened")
        }
        Err(_) => return,
    };
    loop {
        match client.query("show proxyconfig").await {
            Ok(result) => {
                assert!(result.rows.iter().all(|row| row.len() == result.columns.len()));
                let cells = result.rows.iter().map(|row| row.len().max(1)).sum::<usize>();
                assert!(cells <= sent.len(), "{cells} cells out of {} bytes", sent.len());
                for (row, column) in (0..=result.rows.len()).zip(&result.columns) {
                    let _ = result.text(row, &column.name);
                }
            }
            // The connection goes on.
            Err(ClientError::Refusal(_)) => {}
            Err(_) => return,
        }
        if client.ping().await.is_err() {
            return;
        }
    }
}

async fn server(sent: &[u8]) {
    let greeting = Greeting {
        server_version: "5.6.25".to_owned(),
        connection_id: 1,
        scramble: *b"abcdefghijklmnopqrst",
        capabilities: capability::PROTOCOL_41
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH
            | capability::CONNECT_WITH_DB
            | capability::CONNECT_ATTRS
            | capability::PLUGIN_AUTH_LENENC
            | capability::DEPRECATE_EOF,
        charset: 46,
        status: 2,
        auth_plugin: NATIVE_PASSWORD.to_owned(),
    };
    let greeted = ServerConnection::greet(join(sent, sink()), &greeting).await;
    let Ok((mut connection, login)) = greeted else { return };
    assert_eq!(connection.capabilities() & !greeting.capabilities, 0);
    assert_eq!(connection.capabilities() & !login.capabilities, 0);
    let mut bytes = 0;
    while let Ok(Some(command)) = connection.next_command().await {
        bytes += command.body.len();
        connection.send_ok(2).await.expect("a sink takes everything");
    }
    assert!(bytes <= sent.len());
}
