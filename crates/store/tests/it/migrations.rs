//! Schemas of all ages, and servers that start at the same time.

use obfleet_fleet::inventory::Inventory as _;
use obfleet_store::sql::{self, Pool};
use obfleet_store::{Database, DatabaseError, MigrationError};
use obfleet_testdb::shared;

use crate::on_every_database;
use crate::support::{Kind, Place};

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
    for url in [shared::mariadb().await.unwrap(), shared::seekdb().await.unwrap()] {
        let (a, b, c) = tokio::join!(
            Database::connect(&url),
            Database::connect(&url),
            Database::connect(&url)
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
    for url in [shared::mariadb().await.unwrap(), shared::seekdb().await.unwrap()] {
        let database = Database::connect(&url).await.unwrap();
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
        let database = Database::connect(&url).await.unwrap();
        for table in tables {
            run(database.writer(), format!("DELETE FROM {table}")).await;
        }
        let ids = sql::query("SELECT name FROM id_sequence")
            .fetch_all(database.readers())
            .await;
        assert_eq!(ids.unwrap().len(), 2, "nothing was done twice");
    }
}

async fn run(pool: &Pool, statement: String) {
    sql::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_url_without_a_database_is_refused_without_showing_the_password() {
    for url in ["mysql://root:hush@127.0.0.1:1", "/var/lib/obfleet.db"] {
        let refused = Database::connect(url).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::Url), "{refused:?}");
    }
    let refused = Database::connect("mysql://root:hush@127.0.0.1:1/obfleet")
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("obfleet on 127.0.0.1:1"), "{refused}");
    assert!(!format!("{refused:?}").contains("hush"));
}
