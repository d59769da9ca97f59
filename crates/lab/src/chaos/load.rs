//! Clients for upgrades that are repeated many times: their transactions are short and their connections do not grow old,
//! so that a process empties itself within seconds, also when nobody drains it.
//!
//! [`crate::traffic`] is what a person is shown; here only harm is counted.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use obfleet_mysqlwire::{Client, ClientError};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::testbed::CLIENT;

/// A connection that was not greeted by then was refused.
const GREETING_PATIENCE: Duration = Duration::from_secs(40);
const STATEMENT_PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(60);
/// Lengths of transactions in milliseconds: one client each.
const TRANSACTIONS: [u64; 3] = [0, 150, 900];
/// When a pool replaces a connection.
const LIFETIME: Duration = Duration::from_secs(4);
/// ER_ACCESS_DENIED_ERROR.
const ACCESS_DENIED: u16 = 1045;

/// What clients got, and what was done to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Harm {
    /// Transactions committed and single statements answered.
    pub answered: u64,
    /// Connections refused, or reset, closed or left waiting before the greeting.
    pub refused: u64,
    /// Logins denied.
    pub denied: u64,
    /// Connections found closed between transactions.
    pub closed: u64,
    /// Transactions whose connection went between BEGIN and the answer to COMMIT.
    pub broken: u64,
}

/// Clients on some proxies; they end with this.
#[derive(Debug)]
pub struct Load {
    harm: Arc<Mutex<Harm>>,
    _clients: JoinSet<()>,
}

impl Load {
    /// Starts clients on each proxy.
    pub fn start(proxies: impl IntoIterator<Item = SocketAddr>) -> Self {
        let harm = Arc::default();
        let mut clients = JoinSet::new();
        for address in proxies {
            for length in TRANSACTIONS.map(Duration::from_millis) {
                let harm = Arc::clone(&harm);
                let person = Person { address, harm };
                clients.spawn(async move { person.transact(length).await });
            }
            let harm = Arc::clone(&harm);
            let person = Person { address, harm };
            clients.spawn(async move { person.come_and_go().await });
        }
        Self {
            harm,
            _clients: clients,
        }
    }

    /// What they met with so far.
    pub fn harm(&self) -> Harm {
        *self.harm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Person {
    address: SocketAddr,
    harm: Arc<Mutex<Harm>>,
}

impl Person {
    fn note(&self, change: impl FnOnce(&mut Harm)) {
        change(&mut self.harm.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn connect(&self) -> Client {
        loop {
            let deadline = Instant::now() + GREETING_PATIENCE;
            match Client::connect(self.address, CLIENT, "", deadline).await {
                Ok(client) => return client,
                Err(error) => self.note(|harm| match error {
                    ClientError::LoginRefused(refusal) if refusal.code == ACCESS_DENIED => harm.denied += 1,
                    // Greeted, and closed before it had begun anything.
                    ClientError::Lost(_) => harm.closed += 1,
                    _ => harm.refused += 1,
                }),
            }
            sleep(PAUSE).await;
        }
    }

    /// A connection for each statement.
    async fn come_and_go(&self) {
        loop {
            let mut client = self.connect().await;
            if answers(&mut client, "select 1").await {
                self.note(|harm| harm.answered += 1);
                client.close().await;
            } else {
                self.note(|harm| harm.closed += 1);
            }
            sleep(PAUSE).await;
        }
    }

    /// A place in a pool: the connection is tested before use, and replaced when it is gone or old.
    async fn transact(&self, length: Duration) {
        loop {
            let (mut client, born) = (self.connect().await, Instant::now());
            while born.elapsed() < LIFETIME {
                if !answers(&mut client, "select 1").await {
                    self.note(|harm| harm.closed += 1);
                    break;
                }
                if !transaction(&mut client, length).await {
                    self.note(|harm| harm.broken += 1);
                    break;
                }
                self.note(|harm| harm.answered += 1);
                // Longer than a drain needs to see that it is between transactions.
                sleep(length.max(Duration::from_millis(500))).await;
            }
        }
    }
}

async fn answers(client: &mut Client, sql: &str) -> bool {
    matches!(timeout(STATEMENT_PATIENCE, client.query(sql)).await, Ok(Ok(_)))
}

/// From BEGIN to the answer to COMMIT. → whether all was answered
async fn transaction(client: &mut Client, length: Duration) -> bool {
    if !answers(client, "begin").await {
        return false;
    }
    sleep(length).await;
    answers(client, "select 1").await && answers(client, "commit").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_door_is_seen() {
        let nobody = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let load = Load::start([nobody]);
        while load.harm().refused == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(load.harm().answered, 0);
    }
}
