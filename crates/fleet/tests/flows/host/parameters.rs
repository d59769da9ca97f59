//! What proxies are configured with: some items stand for all.

use std::collections::BTreeMap;

use obfleet_config_items as config_items;
use obfleet_wire::agent::{ParameterReading, ProxyParameters, SECRET_VALUE};

use super::{Job, Machine};

type Result<T> = std::result::Result<T, String>;

const ITEMS: [&str; 7] = [
    "observer_sys_password",
    "observer_sys_password1",
    "prometheus_sync_interval",
    "proxy_idc_name",
    "rootservice_list",
    "syslog_level",
    "work_thread_num",
];

impl Machine {
    /// What a proxy that runs has, secrets as well.
    pub(super) fn values(&self, id: i64) -> Result<BTreeMap<&'static str, String>> {
        self.facts(id)?;
        let owned = self.get(id)?;
        let started: BTreeMap<_, _> = owned.spec.parameters.iter().cloned().collect();
        let value = |name: &'static str| {
            let value = owned.parameters.get(name).or_else(|| started.get(name));
            (
                name,
                value.unwrap_or(&config_items::find(name).unwrap().default).clone(),
            )
        };
        Ok(ITEMS.into_iter().map(value).collect())
    }

    /// What a proxy has that was given nothing.
    pub(super) fn defaults(&self) -> Vec<(String, String)> {
        let item = |name: &str| (name.to_owned(), config_items::find(name).unwrap().default.clone());
        ITEMS.into_iter().map(item).collect()
    }

    /// The configuration of a proxy that runs.
    pub fn parameters(&self, id: i64) -> Result<ProxyParameters> {
        let version = self.facts(id)?.version;
        let values = self.values(id)?;
        let item = |(name, value): (&str, String)| {
            let item = config_items::find(name).unwrap();
            let secret = name.contains("password");
            ParameterReading {
                name: name.to_owned(),
                value: if secret { SECRET_VALUE.to_owned() } else { value },
                in_force: None,
                info: String::new(),
                need_restart: item.need_reboot,
                range: item.range.clone(),
                visible: "USER".to_owned(),
            }
        };
        let items: Vec<_> = values.into_iter().map(item).collect();
        let shown: Vec<_> = items.iter().map(|item| (&item.name, &item.value)).collect();
        Ok(ProxyParameters {
            digest: format!("{version} {shown:?}"),
            version,
            items,
        })
    }

    /// Somebody sets a value by SQL.
    pub fn set_by_sql(&mut self, id: i64, name: &str, value: &str) {
        let owned = self.get_mut(id).unwrap();
        owned.parameters.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn set_parameters(&mut self, id: i64, values: Vec<(String, String)>, job: &Job<'_>) -> Result<()> {
        // What a failure had set is put back.
        job.may_go_on()?;
        let had = self.values(id)?;
        for (name, value) in values {
            let before = had.get(name.as_str()).ok_or_else(|| format!("no parameter {name}"))?;
            self.get_mut(id)?.parameters.insert(name.clone(), value.clone());
            if *before != value {
                self.changed(job, format!("{name} of proxy {id} set"));
            }
        }
        Ok(())
    }
}
