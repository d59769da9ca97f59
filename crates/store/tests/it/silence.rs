//! A database server that is stopped answers nothing and breaks no connection. Nobody waits for it for ever.

use std::time::Duration;

use obfleet_mysqlwire::Client;
use obfleet_store::sql::query;
use obfleet_testdb::{Database as Server, folder, shared};
use tokio::time::{self, Instant};

use crate::support::Place;

const PATIENCE: Duration = Duration::from_secs(60);
/// Too short for an answer of a server that is stopped.
const IMPATIENCE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let home = folder().unwrap();
    let mut server = Server::mariadb(home.path()).await.unwrap();
    let place = Place::at(shared::schema(server.address()).await.unwrap());
    let (database, _) = place.open().await;
    let ask = || query("SELECT COUNT(*) AS number FROM notes");
    ask().fetch_one(database.readers()).await.unwrap();
    let mut begun = database.writer().write().await.unwrap();
    ask().fetch_one(&mut begun).await.unwrap();
    let mut complete = database.writer().write().await.unwrap();
    ask().fetch_one(&mut complete).await.unwrap();

    server.pause().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Client::connect(server.address(), "root", "", Instant::now() + IMPATIENCE)
        .await
        .is_ok()
    {
        assert!(Instant::now() < deadline, "it does not stop");
    }
    // Nothing but deadlines moves from here on, so each of them is over at once.
    time::pause();
    let silent = |error: Option<sqlx::Error>| match error {
        Some(sqlx::Error::Io(error)) => assert!(error.to_string().contains("not answered"), "{error}"),
        other => panic!("{other:?}"),
    };
    match ask().fetch_one(database.readers()).await.err() {
        // One that has rested for a while is tried first, and that took too long.
        Some(sqlx::Error::PoolTimedOut) => {}
        other => silent(other),
    }
    silent(ask().fetch_one(&mut begun).await.err());
    silent(complete.commit().await.err());
    time::resume();
    server.resume().unwrap();

    drop(begun);
    ask().fetch_one(database.readers()).await.unwrap();
    let mut next = database.writer().write().await.unwrap();
    ask().fetch_one(&mut next).await.unwrap();
    next.commit().await.unwrap();
}
