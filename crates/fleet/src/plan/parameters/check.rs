//! Whether values can be given to proxies, before anything is sent.

use std::collections::BTreeSet;

use obfleet_config_items::{self as config_items, ConfigItem, ConfigValueError};
use obfleet_wire::{Code, Refusal, obproxy::Parameter, reason::Reason};

use super::{ParameterFacts, managed};
use crate::inventory::ProxyConfig;

/// Characters a value may have.
const MAX_VALUE: usize = 4096;

/// A list of parameters with the member of the request they come in.
fn field(list: &str, index: usize, member: &str) -> String {
    format!("{list}[{index}].{member}")
}

/// Checks parameters a cluster is made with, in its members `startupParameters` and `parameters`. Its proxies may have
/// items that nobody here knows yet, but a misspelt name is likelier.
pub fn check_new_cluster(startup: &[Parameter], parameters: &[Parameter]) -> Result<(), Refusal> {
    check_names("startupParameters", startup, managed::is_managed_at_start)?;
    check_names("parameters", parameters, managed::is_managed)?;
    for (list, parameters) in [("startupParameters", startup), ("parameters", parameters)] {
        for (index, parameter) in parameters.iter().enumerate() {
            let item = known(&parameter.name).ok_or_else(|| unknown(list, index, &parameter.name))?;
            check_value(list, index, &parameter.value, Some(item))?;
        }
    }
    Ok(())
}

/// Checks parameters that are to be set on these proxies. → with the names as proxies write them
pub fn check_edit(
    facts: &ParameterFacts,
    parameters: &[Parameter],
    targets: &[i64],
) -> Result<Vec<(String, String)>, Refusal> {
    const LIST: &str = "parameters";
    if parameters.is_empty() {
        return Err(Refusal::invalid(LIST, Reason::Empty));
    }
    check_names(LIST, parameters, managed::is_managed)?;
    let configs: Vec<_> = targets.iter().filter_map(|id| facts.configs.get(id)).collect();
    let mut checked = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let name = parameter.name.to_ascii_lowercase();
        let item = known(&name);
        let has = |config: &&&ProxyConfig| config.values.shown.contains_key(&name);
        if item.is_none() && !configs.iter().any(|config| has(&config)) {
            return Err(unknown(LIST, index, &parameter.name));
        }
        if let Some(config) = configs.iter().find(|config| !has(config)) {
            let reason = Reason::ParameterNotThere {
                name,
                proxy: config.proxy_id,
                version: config.version.to_string(),
            };
            return Err(Refusal::invalid(&field(LIST, index, "name"), reason));
        }
        check_value(LIST, index, &parameter.value, item)?;
        // Other versions may have other bounds.
        for config in &configs {
            let seen = facts
                .seen
                .get(&config.version.version)
                .and_then(|items| items.get(&name));
            if let (Some(item), Some(seen)) = (item, seen) {
                let range = seen.range.clone();
                check_value(
                    LIST,
                    index,
                    &parameter.value,
                    Some(&ConfigItem { range, ..item.clone() }),
                )?;
            }
        }
        checked.push((name, parameter.value.clone()));
    }
    Ok(checked)
}

fn known(name: &str) -> Option<&'static ConfigItem> {
    config_items::find(name)
}

fn unknown(list: &str, index: usize, name: &str) -> Refusal {
    Refusal::invalid(&field(list, index, "name"), Reason::ParameterUnknown(name.to_owned()))
}

fn check_names(list: &str, parameters: &[Parameter], refused: fn(&str) -> bool) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    for (index, Parameter { name, .. }) in parameters.iter().enumerate() {
        let field = field(list, index, "name");
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(Refusal::invalid(&field, Reason::ParameterTwice(name.clone())));
        }
        if refused(name) {
            return Err(Refusal::new(Code::Odp21105, [name]).field(field));
        }
    }
    Ok(())
}

/// Whether the value can be sent to a proxy at all, and fits the item where that is known.
fn check_value(list: &str, index: usize, value: &str, item: Option<&ConfigItem>) -> Result<(), Refusal> {
    let refused = |reason| Err(Refusal::invalid(&field(list, index, "value"), reason));
    // There is no way to escape anything in the admin SQL of a proxy.
    let quotes = value.contains('\'') && value.contains('"');
    if quotes || value.contains('\\') || value.chars().any(char::is_control) || value.chars().count() > MAX_VALUE {
        return refused(Reason::ParameterText { longest: MAX_VALUE });
    }
    match item.map(|item| item.check(value)) {
        Some(Err(ConfigValueError::WrongType {
            name,
            value,
            value_type,
        })) => refused(Reason::ParameterType {
            name,
            value,
            wanted: value_type.to_string(),
        }),
        Some(Err(ConfigValueError::OutOfRange { name, value, range })) => {
            refused(Reason::ParameterRange { name, value, range })
        }
        Some(Ok(())) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};
    use crate::inventory::SeenItem;

    fn refused(result: Result<impl std::fmt::Debug, Refusal>) -> (Code, String) {
        let refusal = result.unwrap_err();
        (refusal.code, refusal.field.unwrap_or_default())
    }

    fn edit(facts: &ParameterFacts, parameters: &[(&str, &str)]) -> Result<Vec<(String, String)>, Refusal> {
        let parameters: Vec<_> = parameters.iter().map(|(n, v)| parameter(n, v)).collect();
        let targets: Vec<_> = facts.configs.keys().copied().collect();
        check_edit(facts, &parameters, &targets)
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_sent() {
        let facts = facts(Vec::new(), &[&[]]);
        for (parameters, code, field) in [
            (&[][..], Code::Com10001, "parameters"),
            (&[("no_such_item", "1")], Code::Com10001, "parameters[0].name"),
            (&[("syslog_level", "LOUD")], Code::Com10001, "parameters[0].value"),
            (
                &[("syslog_level", "INFO"), ("work_thread_num", "129")],
                Code::Com10001,
                "parameters[1].value",
            ),
            (
                &[("syslog_level", "INFO"), ("Syslog_Level", "WARN")],
                Code::Com10001,
                "parameters[1].name",
            ),
            (&[("listen_port", "2883")], Code::Odp21105, "parameters[0].name"),
            (&[("observer_sys_password", "x")], Code::Odp21105, "parameters[0].name"),
            (&[("proxy_local_cmd", "2")], Code::Odp21105, "parameters[0].name"),
            (&[("proxy_idc_name", "a\\b")], Code::Com10001, "parameters[0].value"),
            (&[("proxy_idc_name", "'\"")], Code::Com10001, "parameters[0].value"),
            (&[("proxy_idc_name", "a\nb")], Code::Com10001, "parameters[0].value"),
        ] {
            assert_eq!(
                refused(edit(&facts, parameters)),
                (code, field.to_owned()),
                "{parameters:?}"
            );
        }
        let long = "x".repeat(MAX_VALUE + 1);
        assert_eq!(refused(edit(&facts, &[("proxy_idc_name", &long)])).0, Code::Com10001);
        assert_eq!(
            edit(&facts, &[("Syslog_Level", "warn"), ("proxy_idc_name", "")]).unwrap(),
            [
                ("syslog_level".to_owned(), "warn".to_owned()),
                ("proxy_idc_name".to_owned(), String::new())
            ]
        );
    }

    #[test]
    fn what_proxies_say_of_their_items_counts() {
        let mut facts = facts(Vec::new(), &[&[("of_a_later_version", "1")], &[]]);
        // Known to one of two only.
        let refusal = edit(&facts, &[("of_a_later_version", "2")]).unwrap_err();
        assert!(format!("{refusal}").contains("ParameterNotThere"), "{refusal}");
        facts.configs.remove(&11);
        assert!(edit(&facts, &[("of_a_later_version", "2")]).is_ok());

        let seen = SeenItem {
            info: String::new(),
            need_restart: true,
            range: "[1,16]".into(),
            visible: "USER".into(),
        };
        let items = [("work_thread_num".to_owned(), seen)].into();
        facts.seen.insert("4.2.1.0".into(), items);
        assert!(edit(&facts, &[("work_thread_num", "16")]).is_ok());
        assert_eq!(refused(edit(&facts, &[("work_thread_num", "17")])).0, Code::Com10001);
    }

    #[test]
    fn a_new_cluster_may_name_for_the_start_what_is_not_changed_later() {
        let at_start = [
            parameter("rootservice_list", "10.0.0.1:2881"),
            parameter("local_bound_ip", "10.0.0.5"),
        ];
        assert_eq!(check_new_cluster(&at_start, &[]), Ok(()));
        let checked = |startup: &[Parameter], parameters: &[Parameter]| refused(check_new_cluster(startup, parameters));
        assert_eq!(
            checked(&[], &at_start),
            (Code::Odp21105, "parameters[0].name".to_owned())
        );
        assert_eq!(
            checked(&[parameter("obproxy_sys_password", "x")], &[]),
            (Code::Odp21105, "startupParameters[0].name".to_owned())
        );
        assert_eq!(
            checked(&[parameter("proxy_mem_limited", "1")], &[]),
            (Code::Com10001, "startupParameters[0].value".to_owned())
        );
    }
}
