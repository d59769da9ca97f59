//! Every route as nobody, as somebody without its right, and as somebody who has no other.

use std::path::Path;

use obfleet_server::{
    auth::{
        access::Access,
        password,
        right::Right,
        role::{self, ADMIN},
    },
    router,
    routes::Route,
};
use obfleet_store::{
    Database,
    users::{User, UserRole, roles::CustomRole},
};
use obfleet_wire::time::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Api, PASSWORD, Reply};

/// For each right somebody who has nothing else, and somebody who has everything else. Made before the server runs.
async fn populate(state: &Path) {
    std::fs::create_dir_all(state).unwrap();
    let database = Database::open(&state.join("obfleet.db")).await.unwrap();
    let users = database.users();
    let hash = password::hash(PASSWORD).unwrap();
    for (id, right) in (200..).step_by(2).zip(Right::ALL) {
        let others = Right::ALL
            .iter()
            .filter(|other| *other != right && **other != Right::UserManage);
        for (id, name, rights) in [
            (id, format!("only-{right:?}"), vec![right.name().to_owned()]),
            (
                id + 1,
                format!("without-{right:?}"),
                others.map(|other| other.name().to_owned()).collect(),
            ),
        ] {
            let role = CustomRole {
                name: format!("R{id}"),
                description: String::new(),
                rights,
                created: Timestamp(1),
                changed: Timestamp(1),
            };
            assert!(users.insert_role(&role).await.unwrap());
            let role = match (*right, id % 2) {
                // No other role has it.
                (Right::UserManage, 0) => ADMIN,
                _ => &role.name,
            };
            let user = User::new(id, &name, hash.clone(), vec![UserRole::everywhere(role)]);
            assert!(users.insert(&user, Timestamp(1)).await.unwrap());
        }
    }
    let nothing = User::new(199, "nothing", hash, Vec::new());
    assert!(users.insert(&nothing, Timestamp(1)).await.unwrap());
    database.close().await;
}

/// The path with ids that nothing has.
fn path(route: &Route) -> String {
    let parts = route.path.split('/');
    let filled: Vec<&str> = parts
        .map(|part| if part.starts_with('{') { "999999" } else { part })
        .collect();
    filled.join("/")
}

async fn ask(api: &Api, route: &Route, user: Option<&str>) -> Reply {
    let request = api.bare(route.method.clone(), &path(route));
    let request = match user {
        Some(user) => request.basic_auth(user, Some(PASSWORD)),
        None => request,
    };
    // Not from here: see `Access::NeedsUnlessLocal`.
    let request = request.header("X-Forwarded-For", "192.0.2.1");
    Reply::of(match route.method {
        Method::GET => request,
        _ => request.json(&json!({})),
    })
    .await
}

#[tokio::test]
async fn every_route_takes_its_right_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    populate(&state).await;
    let api = Api::start_with(|options| options.state_dir = state).await;
    let declared = router::routes().declared();
    assert!(declared.len() > 60, "only {} routes are declared", declared.len());
    for route in &declared {
        let what = format!("{} {}", route.method, route.path);
        if matches!(route.access, Access::Open | Access::Servers) {
            continue;
        }
        let nobody = ask(&api, route, None).await;
        assert_eq!(nobody.status, 401, "{what}: {}", nobody.text);
        assert_eq!(nobody.refusal().1, "IAM10000", "{what}");
        let Some(right) = route.access.right() else {
            let anybody = ask(&api, route, Some("nothing")).await;
            assert!(
                ![401, 403].contains(&anybody.status.as_u16()),
                "{what}: {}",
                anybody.text
            );
            continue;
        };
        let wrong = ask(&api, route, Some(&format!("without-{right:?}"))).await;
        assert_eq!(wrong.refusal(), (403, "IAM11000".into(), String::new()), "{what}");
        assert!(
            wrong.text.contains(right.name()) && wrong.text.contains(&role::with(right)),
            "{what}: {}",
            wrong.text
        );
        let right = ask(&api, route, Some(&format!("only-{right:?}"))).await;
        let status = right.status.as_u16();
        assert!(![401, 403].contains(&status) && status < 500, "{what}: {}", right.text);
    }
}

#[tokio::test]
async fn a_method_that_is_not_declared_is_not_served() {
    let api = Api::start().await;
    let declared = router::routes().declared();
    let mut seen = std::collections::BTreeSet::new();
    for route in &declared {
        let known = (route.method.to_string(), route.path.clone());
        assert!(seen.insert(known), "{} {} is declared twice", route.method, route.path);
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let serves = |other: &Route| other.method == method && other.path == route.path;
            if route.access == Access::Servers || declared.iter().any(serves) {
                continue;
            }
            let reply = Reply::of(api.request(method.clone(), &path(route)).json(&json!({}))).await;
            assert!(
                [StatusCode::BAD_REQUEST, StatusCode::METHOD_NOT_ALLOWED].contains(&reply.status),
                "{method} {}: {} {}",
                route.path,
                reply.status,
                reply.text
            );
        }
    }
}
