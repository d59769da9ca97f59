//! `obfleet context …`

use anyhow::{Context as _, bail};
use obfleet_client::{Client, Context, Contexts, Credentials, contexts::path};
use serde_json::{Value, json};

use super::{
    authority, credentials, keys, language,
    show::{Shown, text},
};
use crate::cli::client::{Asked, ContextOrder};

/// Runs one of them.
pub async fn run(asked: &Asked, order: ContextOrder) -> anyhow::Result<Shown> {
    let path = path()?;
    let mut all = Contexts::load(&path)?;
    let missing = |name: &str| format!("there is no context {name}; `obfleet context list` shows all");
    match order {
        ContextOrder::Add { name } => {
            let url = asked.url.as_deref().context("the server is missing; give --url")?;
            if all.contexts.contains_key(&name) {
                bail!("there is a context {name} already; remove it first, or choose another name");
            }
            let ca = authority(asked)?;
            let client = Client::new(url, ca.as_deref(), credentials(asked)?, &language())?;
            let key = keys::create(&client, &format!("context {name}")).await?;
            let access_key = text(&key["accessKey"]);
            let context = Context {
                access_key: access_key.clone(),
                ca,
                secret_key: text(&key["secretKey"]),
                url: url.to_owned(),
            };
            all.contexts.insert(name.clone(), context);
            all.current = Some(name.clone());
            if let Err(error) = all.save(&path) {
                // Nobody has its secret now.
                keys::delete(&client, &access_key).await?;
                return Err(error.into());
            }
            Ok(Shown::done(&format!(
                "{name} is the current context, with access key {access_key}"
            )))
        }
        ContextOrder::List => {
            let current = all.current.as_deref();
            let is_current = |name: &str| current == Some(name);
            let json: Vec<Value> = all
                .contexts
                .iter()
                .map(|(name, context)| {
                    let (url, key) = (&context.url, &context.access_key);
                    json!({"accessKey": key, "current": is_current(name), "name": name, "url": url})
                })
                .collect();
            let row = |one: &Value| {
                ["name", "current", "url", "accessKey"]
                    .map(|member| text(&one[member]))
                    .to_vec()
            };
            let rows = json.iter().map(row).collect();
            Ok(Shown::table(
                Value::Array(json),
                &["NAME", "CURRENT", "URL", "ACCESS KEY"],
                rows,
            ))
        }
        ContextOrder::Use { name } => {
            if !all.contexts.contains_key(&name) {
                bail!(missing(&name));
            }
            all.current = Some(name.clone());
            all.save(&path)?;
            Ok(Shown::done(&format!("{name} is the current context")))
        }
        ContextOrder::Remove { name, force } => {
            let context = all.contexts.remove(&name).with_context(|| missing(&name))?;
            let key = Credentials::Key {
                access_key: context.access_key.clone(),
                secret_key: context.secret_key,
            };
            let ca = authority(asked)?.or(context.ca);
            let client = Client::new(&context.url, ca.as_deref(), key, &language())?;
            let deleted = keys::delete(&client, &context.access_key).await;
            if !force {
                deleted.context("the access key is still on the server; --force forgets the context all the same")?;
            }
            if all.current.as_deref() == Some(&name) {
                all.current = None;
            }
            all.save(&path)?;
            Ok(Shown::done(&format!("{name} is forgotten")))
        }
    }
}
