//! `obfleet user …` and `obfleet role …`

use anyhow::{Context as _, bail};
use obfleet_client::{Client, sign::encoded};
use rand::Rng as _;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    all, secret,
    show::{Shown, clusters, text},
};
use crate::cli::client::{Grants, RoleOrder, UserOrder};

const USERS: &str = "/api/v2/iam/users";
const ROLES: &str = "/api/v2/iam/roles";

/// No `0O1lI`: a password is read from a terminal.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
const GENERATED_LENGTH: usize = 20;

/// Runs a command about users.
pub async fn user(client: &Client, order: UserOrder) -> anyhow::Result<Shown> {
    match order {
        UserOrder::List => Ok(listed(all(client, USERS, &[]).await?)),
        UserOrder::Show { name } => Ok(listed(Value::Array(vec![find(client, &name).await?]))),
        UserOrder::Add {
            name,
            grants,
            description,
            first_password,
            keep_password,
        } => {
            let given = first_password.as_deref().map(secret).transpose()?;
            let password = given.clone().unwrap_or_else(generate);
            let body = json!({
                "description": description, "name": name, "needChangePassword": !keep_password,
                "password": password, "roles": roles(&grants)?,
            });
            let user = client.call(Method::POST, USERS, &[], Some(&body)).await?;
            Ok(match given {
                Some(_) => listed(Value::Array(vec![user])),
                None => with_password(&name, &password),
            })
        }
        UserOrder::Change {
            name,
            grants,
            no_roles,
            description,
            enable,
            disable,
        } => {
            let mut body = Map::new();
            if no_roles || !grants.role.is_empty() {
                body.insert("roles".to_owned(), roles(&grants)?.into());
            }
            if let Some(description) = description {
                body.insert("description".to_owned(), description.into());
            }
            if enable || disable {
                body.insert("enabled".to_owned(), enable.into());
            }
            let path = path(&find(client, &name).await?);
            let user = client.call(Method::PATCH, &path, &[], Some(&body.into())).await?;
            Ok(listed(Value::Array(vec![user])))
        }
        UserOrder::Delete { name } => {
            let path = path(&find(client, &name).await?);
            client.call(Method::DELETE, &path, &[], None).await?;
            Ok(Shown::done("the user is deleted"))
        }
        UserOrder::ResetPassword {
            name,
            new_password,
            keep_password,
        } => {
            let given = new_password.as_deref().map(secret).transpose()?;
            let password = given.clone().unwrap_or_else(generate);
            let path = format!("{}/resetPassword", path(&find(client, &name).await?));
            let body = json!({"needChangePassword": !keep_password, "password": password});
            client.call(Method::POST, &path, &[], Some(&body)).await?;
            Ok(match given {
                Some(_) => Shown::done("the password is set"),
                None => with_password(&name, &password),
            })
        }
        UserOrder::Unlock { name } => {
            let path = format!("{}/unlock", path(&find(client, &name).await?));
            client.call(Method::POST, &path, &[], None).await?;
            Ok(Shown::done("the user is unlocked"))
        }
    }
}

/// Runs a command about roles.
pub async fn role(client: &Client, order: RoleOrder) -> anyhow::Result<Shown> {
    let path = |name: &str| format!("{ROLES}/{}", encoded(name));
    let role = match order {
        RoleOrder::List => return Ok(roles_listed(all(client, ROLES, &[]).await?)),
        RoleOrder::Add {
            name,
            right,
            description,
        } => {
            let body = json!({"description": description, "name": name, "rights": right});
            client.call(Method::POST, ROLES, &[], Some(&body)).await?
        }
        RoleOrder::Change {
            name,
            right,
            description,
        } => {
            let mut body = Map::new();
            if !right.is_empty() {
                body.insert("rights".to_owned(), right.into());
            }
            if let Some(description) = description {
                body.insert("description".to_owned(), description.into());
            }
            client
                .call(Method::PATCH, &path(&name), &[], Some(&body.into()))
                .await?
        }
        RoleOrder::Delete { name } => {
            client.call(Method::DELETE, &path(&name), &[], None).await?;
            return Ok(Shown::done("the role is deleted"));
        }
    };
    Ok(roles_listed(Value::Array(vec![role])))
}

/// The user of exactly this name.
async fn find(client: &Client, name: &str) -> anyhow::Result<Value> {
    let Value::Array(users) = all(client, USERS, &[]).await? else {
        bail!("the server lists no users");
    };
    let user = users.into_iter().find(|user| user["name"] == name);
    user.with_context(|| format!("there is no user {name}; `obfleet user list` shows all"))
}

fn path(user: &Value) -> String {
    format!("{USERS}/{}", user["id"])
}

/// Reads `ROLE` and `ROLE=1,2`.
fn roles(grants: &Grants) -> anyhow::Result<Vec<Value>> {
    let role = |given: &String| {
        let Some((name, ids)) = given.split_once('=') else {
            return Ok(json!({"name": given}));
        };
        let ids: Result<Vec<i64>, _> = ids.split(',').map(|id| id.trim().parse()).collect();
        let ids =
            ids.with_context(|| format!("'{given}' is not a role and ids of proxy clusters, such as {name}=1,2"))?;
        Ok(json!({"clusterIds": ids, "name": name}))
    };
    grants.role.iter().map(role).collect()
}

/// Of all three classes that the rule for passwords asks for.
fn generate() -> String {
    let mut rng = rand::rng();
    loop {
        let letter = |_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
        let password: String = (0..GENERATED_LENGTH).map(letter).collect();
        let has = |class: fn(&char) -> bool| password.chars().any(|c| class(&c));
        if has(char::is_ascii_digit) && has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase) {
            return password;
        }
    }
}

fn with_password(name: &str, password: &str) -> Shown {
    let json = json!({"name": name, "password": password});
    let row = vec![name.to_owned(), password.to_owned()];
    Shown::table(json, &["USER", "PASSWORD (shown this once)"], vec![row])
}

fn listed(users: Value) -> Shown {
    let of_user = |roles: &Value| {
        let role = |role: &Value| match role["clusterIds"].is_null() {
            true => text(&role["name"]),
            false => format!("{}={}", text(&role["name"]), clusters(&role["clusterIds"])),
        };
        let roles = roles.as_array().into_iter().flatten().map(role);
        roles.collect::<Vec<_>>().join(" ")
    };
    let state = |user: &Value| match (&user["enabled"], &user["lockedUntil"]) {
        (Value::Bool(false), _) => "DISABLED",
        (_, Value::String(_)) => "LOCKED",
        _ => "ENABLED",
    };
    let row = |user: &Value| {
        vec![
            text(&user["id"]),
            text(&user["name"]),
            state(user).to_owned(),
            of_user(&user["roles"]),
            text(&user["description"]),
        ]
    };
    let rows = users.as_array().into_iter().flatten().map(row).collect();
    Shown::table(users, &["ID", "NAME", "STATE", "ROLES", "DESCRIPTION"], rows)
}

fn roles_listed(roles: Value) -> Shown {
    let rights = |role: &Value| {
        let rights = role["rights"].as_array().into_iter().flatten().map(text);
        rights.collect::<Vec<_>>().join(" ")
    };
    let row = |role: &Value| {
        vec![
            text(&role["name"]),
            text(&role["type"]),
            rights(role),
            text(&role["description"]),
        ]
    };
    let rows = roles.as_array().into_iter().flatten().map(row).collect();
    Shown::table(roles, &["NAME", "TYPE", "RIGHTS", "DESCRIPTION"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_for_everything_or_for_clusters() {
        let grants = |given: &[&str]| Grants {
            role: given.iter().map(|role| (*role).to_owned()).collect(),
        };
        let read = roles(&grants(&["TASK_VIEWER", "OBPROXY_MANAGER=1, 2"])).unwrap();
        assert_eq!(
            Value::Array(read),
            json!([{"name": "TASK_VIEWER"}, {"clusterIds": [1, 2], "name": "OBPROXY_MANAGER"}])
        );
        assert!(roles(&grants(&["OBPROXY_MANAGER=one"])).is_err());
        assert!(generate() != generate() && generate().len() == GENERATED_LENGTH);
    }
}
