//! Building a task's graph.
//!
//! Nodes name actions by class name; what else a subtask is (its name, timeout, …) comes from the action's
//! [`crate::Spec`] at submit. A built [`Template`] is acyclic and in topological order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::barrier;
use crate::state::Graph;

/// Most nodes a task may have.
pub const MAX_NODES: usize = 10_000;

/// A node of the builder that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRef(usize);

/// A node before submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateNode {
    /// Which action.
    pub class_name: String,
    /// Which element of the context's lists it works on.
    pub parallel_idx: Option<u32>,
}

/// Why a template cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No nodes.
    #[error("a task needs at least one node")]
    Empty,
    /// The edges close a circle.
    #[error("the edges through {class_name} close a circle")]
    Cycle {
        /// One node on it.
        class_name: String,
    },
    /// More nodes than [`MAX_NODES`].
    #[error("{nodes} nodes are more than the {MAX_NODES} a task may have")]
    TooLarge {
        /// How many there were.
        nodes: usize,
    },
}

/// An acyclic graph, nodes in topological order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<TemplateNode>,
    graph: Arc<Graph>,
}

impl Template {
    /// Nodes in topological order.
    pub fn nodes(&self) -> &[TemplateNode] {
        &self.nodes
    }

    /// Edges by index into [`Self::nodes`], each from a lower to a higher one.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
}

/// Collects nodes and edges.
///
/// ```
/// # use obfleet_engine::{TemplateBuilder, barrier};
/// let mut template = TemplateBuilder::new();
/// let start = template.node(barrier::START_NODE, None);
/// let prepared = template.fan_out(&[start], 3, "Prepare");
/// let all = template.barrier(&prepared);
/// let switched = template.then(&[all], "Switch", None);
/// template.then(&[switched], barrier::FINISH_TASK, None);
/// assert_eq!(template.build().unwrap().nodes().len(), 7);
/// ```
#[derive(Clone, Debug, Default)]
pub struct TemplateBuilder {
    nodes: Vec<TemplateNode>,
    edges: Vec<(usize, usize)>,
}

impl TemplateBuilder {
    /// No nodes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node without edges.
    pub fn node(&mut self, class_name: impl Into<String>, parallel_idx: Option<u32>) -> NodeRef {
        self.nodes.push(TemplateNode {
            class_name: class_name.into(),
            parallel_idx,
        });
        NodeRef(self.nodes.len() - 1)
    }

    /// `to` waits for `from`.
    pub fn edge(&mut self, from: NodeRef, to: NodeRef) {
        self.edges.push((from.0, to.0));
    }

    /// A new node that waits for all of `after`.
    pub fn then(&mut self, after: &[NodeRef], class_name: impl Into<String>, parallel_idx: Option<u32>) -> NodeRef {
        let node = self.node(class_name, parallel_idx);
        for &before in after {
            self.edge(before, node);
        }
        node
    }

    /// `n` new nodes of one class with `parallel_idx` 0..n, each waiting for all of `after`.
    pub fn fan_out(&mut self, after: &[NodeRef], n: u32, class_name: &str) -> Vec<NodeRef> {
        (0..n).map(|index| self.then(after, class_name, Some(index))).collect()
    }

    /// A new *Wait node* that waits for all of `after`: turns n × m edges into n + m.
    pub fn barrier(&mut self, after: &[NodeRef]) -> NodeRef {
        self.then(after, barrier::WAIT_NODE, None)
    }

    /// Checks the graph and puts it in topological order (insertion order where the edges leave a choice).
    pub fn build(self) -> Result<Template, TemplateError> {
        let count = self.nodes.len();
        match count {
            0 => return Err(TemplateError::Empty),
            nodes if nodes > MAX_NODES => return Err(TemplateError::TooLarge { nodes }),
            _ => {}
        }
        let order = topological_order(count, &self.edges).map_err(|node| TemplateError::Cycle {
            class_name: self.nodes[node].class_name.clone(),
        })?;
        let mut position = vec![0; count];
        for (new, &old) in order.iter().enumerate() {
            position[old] = new;
        }
        let edges: Vec<_> = self
            .edges
            .iter()
            .map(|&(from, to)| (position[from], position[to]))
            .collect();
        let nodes: Vec<_> = order.iter().map(|&old| self.nodes[old].clone()).collect();
        match Graph::new(count, &edges) {
            Some(graph) => Ok(Template {
                nodes,
                graph: Arc::new(graph),
            }),
            // Not reached: what has a topological order has no circle.
            None => Err(TemplateError::Cycle {
                class_name: nodes[0].class_name.clone(),
            }),
        }
    }
}

/// Kahn's algorithm, lowest index first. `Err` names a node on a circle.
fn topological_order(count: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, usize> {
    let mut waits = vec![0_usize; count];
    let mut downstreams = vec![Vec::new(); count];
    for &(from, to) in edges {
        waits[to] += 1;
        downstreams[from].push(to);
    }
    let mut free: BinaryHeap<_> = (0..count).filter(|&node| waits[node] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(node)) = free.pop() {
        order.push(node);
        for &down in &downstreams[node] {
            waits[down] -= 1;
            if waits[down] == 0 {
                free.push(Reverse(down));
            }
        }
    }
    match waits.iter().position(|&open| open > 0) {
        None => Ok(order),
        Some(node) => Err(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_follows_edges_not_insertion() {
        let mut template = TemplateBuilder::new();
        let last = template.node("last", None);
        let first = template.node("first", None);
        template.edge(first, last);
        template.edge(first, last);
        let built = template.build().unwrap();
        assert_eq!(built.nodes()[0].class_name, "first");
        assert_eq!(built.graph().edges().collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn circles_emptiness_and_size_are_refused() {
        assert_eq!(TemplateBuilder::new().build(), Err(TemplateError::Empty));

        let mut circle = TemplateBuilder::new();
        let a = circle.node("a", None);
        let b = circle.then(&[a], "b", None);
        circle.edge(b, a);
        assert!(matches!(circle.build(), Err(TemplateError::Cycle { .. })));

        let mut own = TemplateBuilder::new();
        let a = own.node("a", None);
        own.edge(a, a);
        assert_eq!(own.build(), Err(TemplateError::Cycle { class_name: "a".into() }));

        let mut large = TemplateBuilder::new();
        large.fan_out(&[], 10_001, "x");
        assert_eq!(large.build(), Err(TemplateError::TooLarge { nodes: 10_001 }));
    }

    #[test]
    fn barrier_joins_a_fan_out() {
        let mut template = TemplateBuilder::new();
        let start = template.node(barrier::START_NODE, None);
        let fan = template.fan_out(&[start], 3, "work");
        template.barrier(&fan);
        let built = template.build().unwrap();
        let edges: Vec<_> = built.graph().edges().collect();
        assert_eq!(edges, [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]);
        assert_eq!(built.nodes()[2].parallel_idx, Some(1));
        assert_eq!(built.nodes()[4].class_name, barrier::WAIT_NODE);
    }
}
