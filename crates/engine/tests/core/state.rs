//! What is read off a task's rows and edges.

use obfleet_engine::Cause;
use obfleet_engine::state::Graph;

use crate::hand::{Hand, nothing};
use crate::support::node;

#[test]
fn edges_go_forward_and_are_told_once() {
    for bad in [(0, 0), (1, 0), (1, 3)] {
        assert_eq!(Graph::new(3, &[bad]), None, "{bad:?}");
    }
    let graph = Graph::new(4, &[(1, 3), (0, 3), (0, 1), (1, 3)]).unwrap();
    assert_eq!(graph.edges().collect::<Vec<_>>(), [(0, 1), (0, 3), (1, 3)]);
    assert_eq!((graph.upstreams(3), graph.downstreams(0)), (&[0, 1][..], &[1, 3][..]));
    assert_eq!((graph.upstreams(2), graph.downstreams(2)), (&[][..], &[][..]));
}

#[test]
fn ancestors_are_found_over_any_distance() {
    let graph = Graph::new(5, &[(0, 1), (1, 3), (3, 4)]).unwrap();
    assert_eq!(graph.ancestors(4), [true, true, false, true, false]);
    assert_eq!(graph.ancestors(2), [false; 3]);
}

#[test]
fn the_rows_that_a_move_changed_are_known() {
    let mut hand = Hand::new(vec![node(0); 4], &[(1, 3)]);
    let before = hand.state.clone();
    assert_eq!(before.changed_since(&before).count(), 0);
    hand.finish(1, nothing());
    assert_eq!(hand.state.changed_since(&before).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn what_would_fail_again_is_not_tried_again() {
    let tried_again = [
        (Cause::Error, true),
        (Cause::Panic, true),
        (Cause::Timeout, true),
        (Cause::Interrupted, true),
        (Cause::Unrecorded, true),
        (Cause::Cancelled, false),
        (Cause::Context, false),
        (Cause::UnknownClass, false),
    ];
    for (cause, again) in tried_again {
        assert_eq!(cause.is_transient(), again, "{cause}");
    }
}
