//! `alter proxyconfig set`: stored first, then in force; on any failure neither.

use super::Answer;
use crate::config::{Config, ConfigError};
use crate::log::Level;
use crate::proxy::Proxy;

pub(super) async fn answer(proxy: &Proxy, name: &str, value: &str) -> Answer {
    let (item, value) = match Config::prepare_alter(name, value) {
        Ok(prepared) => prepared,
        Err(ConfigError::Unknown) => return Answer::error(5099, "42000", "System config unknown"),
        Err(ConfigError::Invalid) => return Answer::error(4147, "HY000", "Invalid config"),
        Err(ConfigError::Unsupported) => return Answer::not_supported(),
    };
    if proxy.build.faults.refuse_parameter.as_deref() == Some(item.name.as_str()) {
        return Answer::error(4147, "HY000", "Invalid config");
    }
    // Closed from a fork on, and for the whole of a drain.
    let mut store = proxy.store.lock().await;
    let Some(store) = store.as_mut() else {
        return Answer::internal_error();
    };
    if let Err(error) = store.set(item, &value).await {
        proxy.log.write(
            Level::Wdiag,
            format_args!("fail to store config(name={}): {error}", item.name),
        );
        return Answer::internal_error();
    }
    proxy.config().alter(item, value);
    if let Some(server) = &proxy.config_server {
        server.item_altered();
    }
    Answer::Ok
}
