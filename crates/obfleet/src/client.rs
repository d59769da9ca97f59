//! Asking a server from the command line: which one and as whom, one command, one answer shown.

mod contexts;
mod fleet;
mod hosts;
mod keys;
mod ob;
mod packages;
mod parameters;
mod show;
mod take_over;
mod tasks;
mod users;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use obfleet_client::{Client, Contexts, Credentials, contexts as kept};
use reqwest::Method;
use serde_json::{Value, json};

use self::show::Shown;
use crate::cli::{
    client::{Asked, ClientCommand},
    fleet::Request,
};

/// Runs a command and shows what comes of it.
pub async fn run(command: ClientCommand) -> anyhow::Result<()> {
    let (output, shown) = match command {
        ClientCommand::Context { asked, order } => (asked.output, contexts::run(&asked, order).await?),
        ClientCommand::Whoami { asked } => (asked.output, whoami(&client(&asked)?).await?),
        ClientCommand::Passwd { asked, current, new } => {
            let body = json!({"currentPassword": secret(&current)?, "newPassword": secret(&new)?});
            let path = "/api/v2/profiles/me/changePassword";
            client(&asked)?.call(Method::POST, path, &[], Some(&body)).await?;
            (asked.output, Shown::done("the password is changed"))
        }
        ClientCommand::Cluster { asked, order } => {
            let output = asked.output;
            (output, fleet::cluster(&client(&asked)?, order, output).await?)
        }
        ClientCommand::Proxy { asked, order } => {
            let output = asked.output;
            (output, fleet::proxy(&client(&asked)?, order, output).await?)
        }
        ClientCommand::Host { asked, order } => {
            let output = asked.output;
            (output, hosts::host(&client(&asked)?, order, output).await?)
        }
        ClientCommand::Credential { asked, order } => (asked.output, hosts::credential(&client(&asked)?, order).await?),
        ClientCommand::Package { asked, order } => (asked.output, packages::run(&client(&asked)?, order).await?),
        ClientCommand::Parameter { asked, order } => {
            let output = asked.output;
            (output, parameters::run(&client(&asked)?, order, output).await?)
        }
        ClientCommand::Link { asked, order } => {
            let output = asked.output;
            (output, ob::link(&client(&asked)?, order, output).await?)
        }
        ClientCommand::ObCluster { asked, order } => {
            let output = asked.output;
            (output, ob::cluster(&client(&asked)?, order, output).await?)
        }
        ClientCommand::TakeOver { asked, order } => {
            let output = asked.output;
            (output, take_over::run(&client(&asked)?, order, output).await?)
        }
        ClientCommand::Task { asked, order } => {
            let output = asked.output;
            (output, tasks::run(&client(&asked)?, order, output).await?)
        }
        ClientCommand::Api { asked, request } => (asked.output, any(&client(&asked)?, &request).await?),
        ClientCommand::User { asked, order } => (asked.output, users::user(&client(&asked)?, order).await?),
        ClientCommand::Role { asked, order } => (asked.output, users::role(&client(&asked)?, order).await?),
        ClientCommand::AccessKey { asked, order } => (asked.output, keys::run(&client(&asked)?, order).await?),
    };
    println!("{}", shown.text(output));
    Ok(())
}

async fn whoami(client: &Client) -> anyhow::Result<Shown> {
    let me = client.call(Method::GET, "/api/v2/profiles/me", &[], None).await?;
    let rights = me["rights"].as_array().cloned().unwrap_or_default();
    let rows = rights
        .iter()
        .map(|right| {
            let name = right["name"].as_str().unwrap_or_default().to_owned();
            vec![show::text(&me["name"]), name, show::clusters(&right["clusterIds"])]
        })
        .collect();
    Ok(Shown::table(me, &["USER", "RIGHT", "CLUSTERS"], rows))
}

/// A request as it was given.
async fn any(client: &Client, request: &Request) -> anyhow::Result<Shown> {
    let method = request.method.to_ascii_uppercase().parse();
    let method =
        method.with_context(|| format!("{} is no method; give GET, POST, PUT, PATCH or DELETE", request.method))?;
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let body = match request.body.as_deref() {
        None => None,
        Some(file) if file == Path::new("-") => Some(io::read_to_string(io::stdin())?),
        Some(file) => Some(fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?),
    };
    let body: Option<Value> = body
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .context("the body is no JSON")?;
    let data = client.call(method, path, &parameters, body.as_ref()).await?;
    let text = format!("{data:#}");
    Ok(Shown::text_of(data, text))
}

/// A client of the server that is meant.
fn client(asked: &Asked) -> anyhow::Result<Client> {
    let given = authority(asked)?;
    let (url, credentials, kept) = match &asked.url {
        Some(url) => (url.clone(), credentials(asked)?, None),
        None => {
            let path = kept::path()?;
            let mut all = Contexts::load(&path)?;
            let name = asked.context.clone().or(all.current);
            let name = name.context("no server is named; give --url, or keep one with `obfleet context add`")?;
            let context = all.contexts.remove(&name);
            let context = context.with_context(|| format!("there is no context {name} in {}", path.display()))?;
            let key = Credentials::Key {
                access_key: context.access_key,
                secret_key: context.secret_key,
            };
            (context.url, key, context.ca)
        }
    };
    let ca = given.or(kept);
    Ok(Client::new(&url, ca.as_deref(), credentials, &language())?)
}

/// What is in the file of `--ca`.
fn authority(asked: &Asked) -> anyhow::Result<Option<String>> {
    let read = |file: &PathBuf| fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()));
    asked.ca.as_ref().map(read).transpose()
}

/// Who asks the server of `--url`.
fn credentials(asked: &Asked) -> anyhow::Result<Credentials> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(user) = &asked.user {
        let password = match (&asked.password_file, variable("OBFLEET_PASSWORD")) {
            (Some(file), _) => secret(file)?,
            (None, Some(password)) => password,
            (None, None) => {
                bail!("the password of {user} is missing; give --password-file, or OBFLEET_PASSWORD in the environment")
            }
        };
        let user = user.clone();
        return Ok(Credentials::Password { user, password });
    }
    match (variable("OBFLEET_ACCESS_KEY"), variable("OBFLEET_SECRET_KEY")) {
        (Some(access_key), Some(secret_key)) => Ok(Credentials::Key { access_key, secret_key }),
        _ => bail!(
            "nobody is named to ask as; give --user, or OBFLEET_ACCESS_KEY and OBFLEET_SECRET_KEY in the environment"
        ),
    }
}

/// The first line of a file.
fn secret(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The language of the terminal: the server speaks English and Chinese.
fn language() -> String {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(variable);
    match locale.is_some_and(|locale| locale.starts_with("zh")) {
        true => "zh-CN".to_owned(),
        false => "en-US".to_owned(),
    }
}

/// All of a list that a filter leaves, page by page.
async fn all(client: &Client, path: &str, filter: &[(&str, &str)]) -> anyhow::Result<Value> {
    let mut contents = Vec::new();
    for page in 1.. {
        let number = page.to_string();
        let mut parameters = filter.to_vec();
        parameters.extend([("page", number.as_str()), ("size", "1000")]);
        let mut data = client.call(Method::GET, path, &parameters, None).await?;
        if let Some(more) = data["contents"].as_array_mut() {
            contents.append(more);
        }
        if data["page"]["totalPages"].as_u64().unwrap_or_default() <= page {
            break;
        }
    }
    Ok(Value::Array(contents))
}
