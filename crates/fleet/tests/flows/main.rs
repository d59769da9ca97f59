//! Every flow in every kind of trouble, step by step: a real database and the real engine, on hosts that are a model
//! of what the agent does.
//!
//! For each flow the steps are taken from the task itself, and the calls of each step from a run in which nothing is
//! wrong ([`baseline`]); so a new step, or a new call, is covered without anybody adding it. [`repeated`], [`failing`]
//! and [`stuck`] each say what they prove. A case that fails is named, and can be run alone:
//! `OBFLEET_FLOW_CASES='HotRestart[0]' cargo test -p obfleet-fleet --test flows upgrade_hot`.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod actions;
mod agents;
mod baseline;
mod failing;
mod flow;
mod host;
mod machines;
mod matrix;
mod repeated;
mod stuck;
mod trouble;
mod world;

use std::{collections::BTreeSet, sync::Arc};

use flow::Flow;

macro_rules! of_flow {
    ($($name:ident: $flow:expr;)*) => {$(
        mod $name {
            use super::Flow;

            #[tokio::test]
            async fn steps_are_repeated() {
                crate::repeated::repeated($flow).await;
            }

            #[tokio::test]
            async fn steps_fail() {
                crate::failing::failing($flow).await;
            }

            #[tokio::test]
            async fn undos_fail() {
                crate::stuck::stuck($flow).await;
            }
        }
    )*};
}

of_flow! {
    create_cluster: Flow::CreateCluster;
    create_empty_cluster: Flow::CreateEmptyCluster;
    add: Flow::Add;
    add_beside: Flow::AddBeside;
    upgrade_hot: Flow::UpgradeHot;
    upgrade_cold: Flow::UpgradeCold;
    delete: Flow::Delete;
    delete_mixed: Flow::DeleteMixed;
    remove_mixed: Flow::RemoveMixed;
    remove_without_host: Flow::RemoveWithoutHost;
    stop: Flow::Stop;
    start: Flow::Start;
    restart_hot: Flow::RestartHot;
    restart_old: Flow::RestartOld;
    restart_forced: Flow::RestartForced;
    go_offline: Flow::GoOffline;
    go_online: Flow::GoOnline;
    change_sys_password: Flow::ChangeSysPassword;
    delete_cluster: Flow::DeleteCluster;
    edit_parameters: Flow::EditParameters;
    refresh_parameters: Flow::RefreshParameters;
    repair_drift: Flow::RepairDrift;
    accept_drift: Flow::AcceptDrift;
    create_config_url: Flow::CreateConfigUrl;
    upgrade_config_url: Flow::UpgradeConfigUrl;
    add_links: Flow::AddLinks;
    add_link_without_proxies: Flow::AddLinkWithoutProxies;
    delete_link: Flow::DeleteLink;
    update_ob_cluster: Flow::UpdateObCluster;
    take_over: Flow::TakeOver;
    move_out: Flow::MoveOut;
    add_host: Flow::AddHost;
    delete_host: Flow::DeleteHost;
}

/// A new action that no flow of these tests has is not tested: add the flow to [`Flow`].
#[tokio::test]
async fn every_action_is_part_of_a_flow() {
    let mut exercised = BTreeSet::new();
    for flow in Flow::ALL {
        let baseline = baseline::Baseline::of(flow).await.unwrap();
        exercised.extend(baseline.steps.into_iter().map(|step| step.class));
    }
    let world = world::World::found().await.unwrap();
    let actions = obfleet_fleet::flows::actions(&Arc::clone(world.fleet.crew()));
    let registered: BTreeSet<_> = actions
        .iter()
        .map(|action| action.spec().class_name.to_owned())
        .collect();
    let missing: Vec<_> = registered.difference(&exercised).collect();
    assert!(missing.is_empty(), "in no flow: {missing:#?}");
    world.end().await;
}

/// What a host that was deleted has left on its machine is in nobody's way.
#[tokio::test]
async fn an_agent_that_was_left_behind_is_removed_before_another_is_put_there() {
    let mut world = world::World::found().await.unwrap();
    world.machines.leave_agent(flow::MACHINE, 777);
    let task = Flow::AddHost.start(&world).await.unwrap();
    let view = world.rest(task).await.unwrap();
    assert_eq!(view.status, obfleet_engine::TaskStatus::Successful, "{view:?}");
    let effects = world.machines.effects();
    for what in ["agent ended", "directory removed", "directory made", "agent started"] {
        let done = effects.get(&format!("{}: {what}", flow::MACHINE));
        assert_eq!(done, Some(&1), "{effects:?}");
    }
    world.end().await;
}
