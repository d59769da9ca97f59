//! `obfleet access-key …`

use obfleet_client::{Client, sign::encoded};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    all,
    show::{Shown, text},
};
use crate::cli::client::KeyOrder;

const KEYS: &str = "/api/v2/iam/accessKeys";

/// Runs one of them.
pub async fn run(client: &Client, order: KeyOrder) -> anyhow::Result<Shown> {
    let path = |key: &str| format!("{KEYS}/{}", encoded(key));
    Ok(match order {
        KeyOrder::List => {
            let keys = all(client, KEYS, &[]).await?;
            let row = |key: &Value| {
                ["accessKey", "status", "createTime", "description"]
                    .map(|name| text(&key[name]))
                    .to_vec()
            };
            let rows = keys.as_array().into_iter().flatten().map(row).collect();
            Shown::table(keys, &["ACCESS KEY", "STATUS", "MADE", "DESCRIPTION"], rows)
        }
        KeyOrder::Create { description } => made(create(client, &description).await?),
        KeyOrder::Enable { access_key } => {
            let body = json!({"status": "ENABLED"});
            client.call(Method::PATCH, &path(&access_key), &[], Some(&body)).await?;
            Shown::done("the key is enabled")
        }
        KeyOrder::Disable { access_key } => {
            let body = json!({"status": "DISABLED"});
            client.call(Method::PATCH, &path(&access_key), &[], Some(&body)).await?;
            Shown::done("the key is disabled")
        }
        KeyOrder::Rotate { access_key } => {
            let path = format!("{}/rotate", path(&access_key));
            made(client.call(Method::POST, &path, &[], None).await?)
        }
        KeyOrder::Delete { access_key } => {
            delete(client, &access_key).await?;
            Shown::done("the key is deleted")
        }
    })
}

/// A new key, with its secret.
pub async fn create(client: &Client, description: &str) -> anyhow::Result<Value> {
    let body = json!({"description": description});
    Ok(client.call(Method::POST, KEYS, &[], Some(&body)).await?)
}

/// Deletes a key.
pub async fn delete(client: &Client, access_key: &str) -> anyhow::Result<()> {
    let path = format!("{KEYS}/{}", encoded(access_key));
    client.call(Method::DELETE, &path, &[], None).await?;
    Ok(())
}

fn made(key: Value) -> Shown {
    let row = vec![text(&key["accessKey"]), text(&key["secretKey"])];
    Shown::table(key, &["ACCESS KEY", "SECRET KEY (shown this once)"], vec![row])
}
