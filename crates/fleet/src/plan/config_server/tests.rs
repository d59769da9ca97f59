use obfleet_wire::{ob::ClusterType, obproxy::LinkStatus};

use super::*;
use crate::testing::{self, ob_cluster};

fn link(cluster_id: i64, name: &str, ob_cluster: i64, told: bool) -> ObLink {
    ObLink {
        cluster_id,
        name: name.into(),
        ob_cluster,
        username: "proxyro".into(),
        status: LinkStatus::Running,
        told,
    }
}

/// Cluster 1 asks, and is told of ob1 and ob2 (twice), not of ob3 (not yet) and ob4 (no root servers). Cluster 2 is RS_LIST
/// and has ob5.
fn backends() -> Snapshot {
    let mut backends = testing::fleet_of(0, "4.2.1.0-11");
    let cluster = backends.clusters.get_mut(&1).unwrap();
    cluster.work_mode = WorkMode::ConfigUrl;
    cluster.settings.config_base = "http://10.9.9.9:8080".into();
    let other = Cluster {
        id: 2,
        name: "test2".into(),
        work_mode: WorkMode::RsList,
        ..cluster.clone()
    };
    backends.clusters.insert(2, other);
    let known = [
        ob_cluster(
            71,
            "ob1",
            None,
            ClusterType::Primary,
            "10.0.0.1:3882:3881;10.0.0.2:2881",
        ),
        ob_cluster(72, "ob2", Some(1), ClusterType::Standby, "10.0.1.1:2881"),
        ob_cluster(73, "ob2", Some(2), ClusterType::Primary, "[::1]:2881"),
        ob_cluster(74, "ob3", None, ClusterType::Primary, "10.0.3.1:2881"),
        ob_cluster(75, "ob4", None, ClusterType::Primary, ""),
        ob_cluster(76, "ob5", None, ClusterType::Primary, "10.0.5.1:2881"),
    ];
    backends.ob_clusters = known.into_iter().map(|known| (known.id, known)).collect();
    backends.ob_links = vec![
        link(1, "ob2", 73, true),
        link(1, "ob1", 71, true),
        link(1, "ob3", 74, false),
        link(1, "ob4", 75, true),
        link(2, "ob5", 76, true),
    ];
    backends
}

fn version(backends: &Snapshot) -> String {
    config(backends, &backends.clusters[&1]).version
}

#[test]
fn a_configuration_names_the_clusters_to_be_told_and_where_to_ask_for_them() {
    let backends = backends();
    let cluster = &backends.clusters[&1];
    let config = config(&backends, cluster);
    let list: Vec<_> = config
        .ob_root_service_info_url_list
        .iter()
        .map(|url| (url.ob_region.as_str(), url.ob_root_service_info_url.as_str()))
        .collect();
    let url = "http://10.9.9.9:8080/services?Action=ObRootServiceInfo&User_ID=alibaba&UID=admin&ObRegion=";
    assert_eq!(list, [("ob1", &*format!("{url}ob1")), ("ob2", &*format!("{url}ob2"))]);
    let database = &config.ob_proxy_database_info;
    assert_eq!(
        database.meta_data_base,
        format!("{url}MetaDataBase&ObproxyClusterName=test1")
    );
    for word in [
        &config.ob_proxy_bin_url,
        &database.data_base,
        &database.password,
        &database.user,
    ] {
        assert!(!word.is_empty(), "{config:?}");
    }
    assert_eq!(
        config_url(cluster, "http://elsewhere"),
        "http://10.9.9.9:8080/services?Action=GetObProxyConfig&User_ID=alibaba&UID=admin&ObproxyClusterName=test1"
    );
}

#[test]
fn the_version_changes_with_the_content_and_only_so() {
    let mut backends = backends();
    let before = version(&backends);
    assert_eq!(before.len(), 32);
    backends.ob_links.reverse();
    assert_eq!(
        version(&backends),
        before,
        "the order in which links are kept is no content"
    );
    backends.ob_clusters.get_mut(&71).unwrap().root_servers.truncate(1);
    assert_eq!(version(&backends), before, "root servers are asked for by themselves");
    for link in &mut backends.ob_links {
        link.told |= link.name == "ob3";
    }
    let more = version(&backends);
    assert_ne!(more, before);
    backends.ob_links.retain(|link| link.name != "ob1");
    assert!(![more, before].contains(&version(&backends)));
}

#[test]
fn root_servers_are_told_one_cluster_or_all_of_a_name() {
    let backends = backends();
    let ask = |name, id, all| root_service_info(&backends, Asked { name, id, all });
    let one = |name, id, all| match ask(name, id, all) {
        Some(OneOrAll::One(info)) => info,
        other => panic!("{other:?}"),
    };
    let ob1 = one("ob1", None, true);
    let servers: Vec<_> = ob1
        .rs_list
        .iter()
        .map(|server| (server.address.as_str(), server.role.as_str(), server.sql_port))
        .collect();
    assert_eq!(
        servers,
        [("10.0.0.1:3882", "LEADER", 3881), ("10.0.0.2:2882", "FOLLOWER", 2881)]
    );
    assert_eq!((ob1.ob_region.as_str(), ob1.ob_region_id), ("ob1", 0));
    assert_eq!((ob1.ob_cluster.as_str(), ob1.cluster_type.as_str()), ("ob1", "PRIMARY"));

    let Some(OneOrAll::All(both)) = ask("ob2", None, true) else {
        panic!("both are told")
    };
    let told: Vec<_> = both
        .iter()
        .map(|info| (info.ob_region_id, info.cluster_type.as_str()))
        .collect();
    assert_eq!(told, [(2, "PRIMARY"), (1, "STANDBY")]);
    assert_eq!(
        one("ob2", None, false).ob_region_id,
        2,
        "who understands one only is told the PRIMARY"
    );
    assert_eq!(one("ob2", Some(1), true).ob_region_id, 1);
    assert_eq!(one("ob2", Some(2), true).rs_list[0].address, "[::1]:2882");
    assert_eq!(ask("ob2", Some(9), true), None);
    assert_eq!(
        one("ob3", None, false).ob_region,
        "ob3",
        "a proxy that was told before may still ask"
    );
    for nothing in ["ob4", "ob5", "ob6", META_CLUSTER] {
        assert_eq!(ask(nothing, None, true), None, "{nothing}");
    }
}

#[test]
fn idcs_are_none_of_a_cluster_that_is_served() {
    let backends = backends();
    let ask = |name, id| idc_region_info(&backends, Asked { name, id, all: true });
    let ob2 = ask("ob2", Some(1)).unwrap();
    assert_eq!(
        (ob2.ob_region.as_str(), ob2.ob_region_id, ob2.idc_list.len()),
        ("ob2", 1, 0)
    );
    assert_eq!(ask("ob1", None).unwrap().ob_region_id, 0);
    assert!(ask("ob5", None).is_none() && ask("ob2", Some(7)).is_none());
}

#[test]
fn the_metadb_is_the_first_cluster_told() {
    let mut backends = backends();
    assert_eq!(meta_root_service_info(&backends, "test1").unwrap().ob_region, "ob1");
    assert!(meta_root_service_info(&backends, "test2").is_none(), "it does not ask");
    backends.ob_links.clear();
    assert!(meta_root_service_info(&backends, "test1").is_none());
    assert!(
        config(&backends, &backends.clusters[&1])
            .ob_root_service_info_url_list
            .is_empty()
    );
}
