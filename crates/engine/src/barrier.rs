//! The nodes that do nothing but join edges, known by OCP's class names. Once READY they pass within the same commit,
//! except a root in the submit commit, whose reply shows it READY.

use crate::action::Spec;

/// One root for graphs that begin with a fan-out.
pub const START_NODE: &str = "com.alipay.ocp.service.task.business.StartNode";
/// Joins one fan-out to the next.
pub const WAIT_NODE: &str = "com.alipay.ocp.service.task.business.WaitNode";
/// One sink.
pub const FINISH_TASK: &str = "com.alipay.ocp.service.task.business.obproxy.FinishTask";

/// The spec of a barrier class, or `None` for any other.
pub fn spec(class_name: &str) -> Option<Spec> {
    match class_name {
        START_NODE => Some(Spec::new(START_NODE, "Start node", 30)),
        WAIT_NODE => Some(Spec::new(WAIT_NODE, "Wait node", 30)),
        FINISH_TASK => Some(Spec::new(FINISH_TASK, "Finish node", 0)),
        _ => None,
    }
}
