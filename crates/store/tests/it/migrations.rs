//! Schemas of all ages, and servers that start at the same time.

use obfleet_fleet::inventory::Inventory as _;
use obfleet_store::schema::{self, Progress};
use obfleet_store::sql::{self, Pool};
use obfleet_store::{Address, Database, DatabaseError, Location, MigrationError};
use obfleet_testdb::shared;

use crate::support::{Kind, Place, think_long};
use crate::{on_every_database, on_every_server};

on_every_database!(a_newer_schema_is_refused_and_left_alone);

async fn a_newer_schema_is_refused_and_left_alone(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, _) = place.open().await;
    let newer = "INSERT INTO schema_migration (part, version, statements, complete) VALUES ('state', 1000, 1, TRUE)";
    sql::query(newer).execute(database.writer()).await.unwrap();
    database.close().await;
    let refused = place.try_open().await.unwrap_err();
    let DatabaseError::Migrate { source, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert!(matches!(source, MigrationError::Newer { found: 1000, .. }), "{source}");
    assert!(source.to_string().contains("start a release"), "{source}");
}

#[tokio::test]
async fn servers_that_start_together_migrate_once_and_found_one_installation() {
    for address in on_servers().await {
        let (a, b, c) = tokio::join!(
            Database::connect(&address),
            Database::connect(&address),
            Database::connect(&address)
        );
        let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
        let first = a.inventory().installation().await.unwrap();
        assert_eq!(b.inventory().installation().await.unwrap(), first);
        assert_eq!(c.inventory().installation().await.unwrap(), first);
        let rows = sql::query("SELECT id FROM installation").fetch_all(a.readers()).await;
        assert_eq!(rows.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_migration_that_was_cut_off_goes_on_where_it_stopped() {
    for address in on_servers().await {
        let database = Database::connect(&address).await.unwrap();
        // As if the process had been killed after the third statement of the first migration, an INSERT, which it had no
        // time to note, and before the fourth.
        let tables = [
            "subtask_instance",
            "subtask_dependencies",
            "task_event",
            "resource_lock",
            "engine_server",
        ];
        for table in ["task_instance"].iter().chain(&tables) {
            run(database.writer(), format!("DROP TABLE {table}")).await;
        }
        let cut_off =
            "UPDATE schema_migration SET statements = 2, complete = FALSE WHERE part = 'state' AND version = 1";
        run(database.writer(), cut_off.to_owned()).await;
        database.close().await;
        let database = Database::connect(&address).await.unwrap();
        for table in tables {
            run(database.writer(), format!("DELETE FROM {table}")).await;
        }
        let ids = sql::query("SELECT name FROM id_sequence")
            .fetch_all(database.readers())
            .await;
        assert_eq!(ids.unwrap().len(), 4, "nothing was done twice");
    }
}

async fn run(pool: &Pool, statement: String) {
    sql::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

async fn on_servers() -> [Address; 2] {
    let urls = [shared::mariadb().await.unwrap(), shared::seekdb().await.unwrap()];
    urls.map(|url| url.parse().unwrap())
}

#[tokio::test]
async fn who_cannot_get_in_is_told_what_to_do() {
    let nobody: Address = "mysql://root:hush@127.0.0.1:1/obfleet".parse().unwrap();
    let mut refusals = vec![(nobody, "start the server")];
    for url in [shared::mariadb().await.unwrap(), shared::seekdb().await.unwrap()] {
        let no_database: Address = format!("{url}_not_there").parse().unwrap();
        refusals.push((no_database, "CREATE DATABASE"));
        let wrong_password: Address = url.parse().unwrap();
        refusals.push((wrong_password.with_password("wrong-hush"), "correct user and password"));
    }
    for (address, advice) in refusals {
        let refused = Database::connect(&address).await.unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains(&address.to_string()) && said.contains(advice),
            "{refused:?}"
        );
        assert!(!format!("{refused:?}").contains("hush"));
    }
}

on_every_database!(a_schema_is_looked_at_brought_up_to_date_and_repaired);

async fn a_schema_is_looked_at_brought_up_to_date_and_repaired(kind: Kind) {
    let place = Place::new(kind).await;
    let location = place.location();
    if let Location::File(path) = &location {
        assert!(schema::status(&location).await.is_err());
        assert!(!path.exists(), "looking makes nothing");
    } else {
        let all = schema::status(&location).await.unwrap();
        assert!(all.iter().all(|step| step.progress == Progress::Missing), "{all:?}");
    }
    schema::up(&location).await.unwrap();
    let complete = schema::status(&location).await.unwrap();
    assert!(
        complete.iter().all(|step| step.progress == Progress::Complete),
        "{complete:?}"
    );
    assert!(complete.iter().any(|step| step.part == "logs"));

    let database = place.try_open().await.unwrap();
    let installation = database.inventory().installation().await.unwrap();
    run(
        database.writer(),
        "DELETE FROM schema_migration WHERE version = 1".into(),
    )
    .await;
    let cut_off = "UPDATE schema_migration SET statements = 0, complete = FALSE WHERE part = 'state' AND version = 3";
    run(database.writer(), cut_off.into()).await;
    database.close().await;
    let damaged = schema::status(&location).await.unwrap();
    assert_eq!(damaged[0].progress, Progress::Missing);
    assert_eq!(damaged[2].progress, Progress::Partial { done: 0, of: 1 });
    let refused = schema::up(&location).await.unwrap_err();
    let DatabaseError::Migrate { source, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert!(source.to_string().contains("obfleet migrate repair"), "{source}");
    schema::repair(&location).await.unwrap();
    assert_eq!(schema::status(&location).await.unwrap(), complete);
    let database = place.try_open().await.unwrap();
    assert_eq!(database.inventory().installation().await.unwrap(), installation);

    let newer = "INSERT INTO schema_migration (part, version, statements, complete) VALUES ('state', 1000, 1, TRUE)";
    run(database.writer(), newer.into()).await;
    let later = schema::status(&location).await.unwrap();
    assert!(
        later
            .iter()
            .any(|step| step.progress == Progress::Unknown && step.version == 1000)
    );
}

on_every_server!(what_is_up_to_date_is_opened_whoever_has_the_lock);

/// An outage may leave the lock with a session that nobody has any more.
async fn what_is_up_to_date_is_opened_whoever_has_the_lock(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, _store) = place.open().await;
    let mut theirs = database.writer().write().await.unwrap();
    think_long(&mut theirs).await;
    let lock = sql::query("SELECT only_row FROM schema_lock FOR UPDATE");
    assert_eq!(lock.fetch_all(&mut theirs).await.unwrap().len(), 1);
    place.try_open().await.unwrap();
    theirs.commit().await.unwrap();
}
