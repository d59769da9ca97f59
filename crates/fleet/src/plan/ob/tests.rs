use super::*;
use crate::testing::{self, ob_cluster};

fn servers(text: &str) -> Vec<RootServer> {
    text.split(';').map(|server| server.parse().unwrap()).collect()
}

fn link(name: &str, root_servers: &[&str]) -> ObLinkParam {
    ObLinkParam {
        cluster_name: name.into(),
        cluster_id: None,
        ob_cluster_id: None,
        username: "proxyro".into(),
        root_servers: root_servers.iter().map(ToString::to_string).collect(),
    }
}

/// ob1 alone, ob2 twice, and ob3 that was only named.
fn fleet() -> Snapshot {
    let mut fleet = testing::fleet_of(1, "4.2.1.0-11");
    let known = [
        ob_cluster(71, "ob1", None, ClusterType::Primary, "10.0.0.1:2881;10.0.0.2:2881"),
        ob_cluster(72, "ob2", Some(1), ClusterType::Standby, "10.0.1.1:2881"),
        ob_cluster(73, "ob2", Some(2), ClusterType::Primary, "10.0.2.1:2881"),
        ob_cluster(74, "ob3", None, ClusterType::Primary, ""),
    ];
    fleet.ob_clusters = known.into_iter().map(|known| (known.id, known)).collect();
    fleet
}

fn reason(refusal: &Refusal) -> Option<&Reason> {
    refusal.args.iter().find_map(|arg| match arg {
        obfleet_wire::reason::Arg::Reason(reason) => Some(reason),
        _ => None,
    })
}

#[test]
fn names_that_proxies_take() {
    for good in ["ob1", "1-a.b_c", &"x".repeat(128)] {
        assert!(check_name("name", good).is_ok(), "{good}");
    }
    for bad in ["", "-a", "a#b", "a b", "a&b", "ä", "MetaDataBase", &"x".repeat(129)] {
        assert!(check_name("name", bad).is_err(), "{bad}");
    }
}

#[test]
fn root_servers_are_some_and_each_once() {
    let check = |text: &str| check_root_servers("rootServers", &servers(text)).map(|servers| servers.len());
    assert_eq!(check("10.0.0.1:2881;10.0.0.1:3882:2881;10.0.0.2:2881"), Ok(2));
    assert!(check("0.0.0.0:2881").is_err());
    assert!(check_root_servers("rootServers", &[]).is_err());
    let many = |n: u8| {
        (1..=n)
            .map(|i| format!("10.0.0.{i}:2881"))
            .collect::<Vec<_>>()
            .join(";")
    };
    assert_eq!(check(&many(32)), Ok(32));
    assert!(check(&many(33)).is_err());
    for (id, is_fine) in [
        (None, true),
        (Some(1), true),
        (Some(0), false),
        (Some(MAX_CLUSTER_ID + 1), false),
    ] {
        assert_eq!(check_cluster_id("obClusterId", id).is_ok(), is_fine, "{id:?}");
    }
}

#[test]
fn those_of_one_name_have_an_id_each_and_one_primary() {
    let fleet = fleet();
    let check = |name, id, cluster_type, itself| check_namesakes(&fleet, name, id, cluster_type, itself);
    let standby = ClusterType::Standby;
    assert!(check("new", None, ClusterType::Primary, None).is_ok());
    assert!(check("ob2", Some(3), standby, None).is_ok());
    assert!(
        check("ob2", Some(2), ClusterType::Primary, Some(73)).is_ok(),
        "it is among them"
    );
    assert_eq!(check("ob1", None, standby, None).unwrap_err().code, Code::Com10006);
    assert_eq!(check("ob2", Some(1), standby, None).unwrap_err().code, Code::Com10006);
    for (name, id) in [("ob1", Some(1)), ("ob2", None)] {
        let refused = check(name, id, standby, None).unwrap_err();
        assert!(
            matches!(reason(&refused), Some(Reason::ObClusterIdNeeded { .. })),
            "{refused}"
        );
    }
    let second = check("ob2", Some(3), ClusterType::Primary, None).unwrap_err();
    assert!(
        matches!(reason(&second), Some(Reason::SecondPrimary { id: 73, .. })),
        "{second}"
    );
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let fleet = fleet();
    let change = UpdateObCluster {
        root_servers: Some(servers("10.0.0.7:2881")),
        ..UpdateObCluster::default()
    };
    let facts = plan_update(&fleet, &fleet.ob_clusters[&72], &change).unwrap();
    let expected = Facts {
        root_servers: servers("10.0.0.7:2881"),
        ..Facts::of(&fleet.ob_clusters[&72])
    };
    assert_eq!(facts, expected);
    for wrong in [
        UpdateObCluster {
            cluster_type: Some(ClusterType::Primary),
            ..UpdateObCluster::default()
        },
        UpdateObCluster {
            ob_cluster_id: Some(2),
            ..UpdateObCluster::default()
        },
        UpdateObCluster {
            root_servers: Some(Vec::new()),
            ..UpdateObCluster::default()
        },
    ] {
        assert!(
            plan_update(&fleet, &fleet.ob_clusters[&72], &wrong).is_err(),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_link_means_the_cluster_of_its_name_and_id() {
    let fleet = fleet();
    let plan = |link: ObLinkParam| plan_links(&fleet, &[link], Unknown::Refused).map(|mut links| links.remove(0));
    let with_id = |ob_cluster_id| ObLinkParam {
        ob_cluster_id: Some(ob_cluster_id),
        ..link("ob2", &[])
    };
    assert_eq!(plan(link("ob1", &[])).unwrap().backend, Backend::Known(71));
    assert_eq!(
        plan(link("ob2", &[])).unwrap().backend,
        Backend::Known(73),
        "the PRIMARY"
    );
    assert_eq!(plan(with_id(1)).unwrap().backend, Backend::Known(72));
    // OCP's own ids mean nothing here where there is a name.
    let named = ObLinkParam {
        cluster_id: Some(72),
        ob_cluster_id: Some(9),
        ..link("ob1", &[])
    };
    assert_eq!(plan(named).unwrap().backend, Backend::Known(71));
    let by_id = |id| ObLinkParam {
        cluster_id: Some(id),
        ..link("", &[])
    };
    assert_eq!(plan(by_id(72)).unwrap(), plan(with_id(1)).unwrap());
    for (wrong, is_expected) in [
        (
            by_id(99),
            (|reason| matches!(reason, Reason::UnknownObCluster { .. })) as fn(&Reason) -> bool,
        ),
        (link("", &[]), |reason| matches!(reason, Reason::ObClusterNeeded)),
        (link("a#b", &[]), |reason| matches!(reason, Reason::ObClusterNameForm)),
        (link("ob9", &[]), |reason| {
            matches!(reason, Reason::UnknownObCluster { .. })
        }),
        (link("ob3", &[]), |reason| {
            matches!(reason, Reason::UnknownObCluster { .. })
        }),
        (with_id(9), |reason| matches!(reason, Reason::SecondPrimary { .. })),
        (link("ob9", &["db:2881"]), |reason| {
            matches!(reason, Reason::RootServerForm(_))
        }),
        (link("ob1", &["10.0.0.1:2881"]), |reason| {
            matches!(reason, Reason::OtherRootServers { id: 71, .. })
        }),
    ] {
        let refused = plan(wrong).unwrap_err();
        assert!(reason(&refused).is_some_and(is_expected), "{refused}");
        assert_eq!(refused.field.as_deref(), Some("obLinks"));
    }
}

#[test]
fn a_link_may_bring_its_cluster_and_repeat_what_is_known() {
    let fleet = fleet();
    let links = [
        link("ob1", &["10.0.0.2:2882:2881", "10.0.0.1:2881"]),
        link("ob9", &["10.0.9.1:2881", "10.0.9.1:2881"]),
    ];
    let planned = plan_links(&fleet, &links, Unknown::Refused).unwrap();
    assert_eq!(planned[0].backend, Backend::Known(71));
    let brought = Backend::New {
        ob_cluster_id: None,
        root_servers: servers("10.0.9.1:2881"),
    };
    assert_eq!(planned[1].backend, brought);
    let named = plan_links(&fleet, &[link("ob8", &[])], Unknown::Kept).unwrap();
    assert!(matches!(&named[0].backend, Backend::New { root_servers, .. } if root_servers.is_empty()));
    let by_id = ObLinkParam {
        cluster_id: Some(71),
        ..link("", &[])
    };
    let twice = plan_links(&fleet, &[link("ob1", &[]), by_id], Unknown::Refused).unwrap_err();
    assert!(matches!(reason(&twice), Some(Reason::LinkedTwice { .. })), "{twice}");
}

#[test]
fn rs_list_takes_one_link_with_root_servers_from_wherever_they_are_given() {
    let fleet = fleet();
    let plan = |links: &[ObLinkParam], list: Option<&str>| {
        let parameters = list.map(|value| Parameter {
            name: "rootservice_list".into(),
            value: value.into(),
        });
        plan_first_links(&fleet, WorkMode::RsList, links, parameters.as_slice(), Unknown::Kept)
    };
    let backend = |link: ObLinkParam, list| plan(&[link], list).unwrap().remove(0).backend;
    let brought = |text| Backend::New {
        ob_cluster_id: None,
        root_servers: servers(text),
    };
    assert_eq!(backend(link("ob1", &[]), None), Backend::Known(71));
    assert_eq!(backend(link("ob9", &["10.0.9.1:2881"]), None), brought("10.0.9.1:2881"));
    let both = "10.0.9.1:2881;10.0.9.2:2881";
    assert_eq!(backend(link("ob9", &["10.0.9.3:2881"]), Some(both)), brought(both));
    for (links, list) in [
        (vec![], None),
        (vec![link("ob1", &[]), link("ob2", &[])], None),
        (vec![link("ob9", &[])], None),
        (vec![link("ob3", &[])], None),
        (vec![link("ob9", &["10.0.0.1"])], None),
        (vec![link("ob9", &[])], Some("db:2881")),
    ] {
        assert!(plan(&links, list).is_err(), "{links:?} {list:?}");
    }
    let any = plan_first_links(&fleet, WorkMode::ConfigUrl, &[], &[], Unknown::Refused).unwrap();
    assert!(any.is_empty());
}

#[test]
fn parameters_say_nothing_the_work_mode_says() {
    let parameter = |name: &str| Parameter {
        name: name.into(),
        value: "x".into(),
    };
    let check = |mode, startup: &[&str], running: &[&str]| {
        let parameters = |names: &[&str]| names.iter().map(|name| parameter(name)).collect::<Vec<_>>();
        check_parameters(mode, &parameters(startup), &parameters(running)).is_ok()
    };
    for mode in [WorkMode::ConfigUrl, WorkMode::RsList] {
        assert!(check(mode, &["syslog_level"], &["syslog_level"]));
        assert!(!check(mode, &["obproxy_config_server_url"], &[]));
        assert!(!check(mode, &[], &["rootservice_list"]));
    }
    assert!(check(WorkMode::RsList, &["rootservice_list"], &["enable_metadb_used"]));
    assert!(!check(WorkMode::ConfigUrl, &["rootservice_list"], &[]));
    assert!(!check(WorkMode::ConfigUrl, &[], &["enable_metadb_used"]));
}
