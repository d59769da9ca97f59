//! Tasks that may have something to claim, in the order in which they were woken.
//!
//! Nearly every commit wakes its task, and a large task makes hundreds while others wait for a slot. A task has its turn once for all of
//! that: it stands in the queue once, and what wakes it in its turn gives it one more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::state::TaskId;

#[derive(Default)]
pub(super) struct Wakes {
    queue: Mutex<Queue>,
    news: Notify,
}

/// A task's turn, which ends with this.
pub(super) struct Turn {
    pub task: TaskId,
    wakes: Arc<Wakes>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.wakes.end(self.task);
    }
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<TaskId>,
    /// Where each task stands that was woken.
    stands: HashMap<TaskId, Stand>,
}

#[derive(Clone, Copy)]
enum Stand {
    InQueue,
    InTurn { woken_again: bool },
}

impl Wakes {
    /// Has the task looked at.
    pub fn wake(&self, task: TaskId) {
        let mut queue = self.queue();
        match queue.stands.get_mut(&task) {
            Some(Stand::InQueue) => {}
            Some(Stand::InTurn { woken_again }) => *woken_again = true,
            None => self.enqueue(&mut queue, task),
        }
    }

    /// Waits for a task whose turn it is. There is one who asks.
    pub async fn next(self: &Arc<Self>) -> Turn {
        loop {
            if let Some(task) = self.begin() {
                let wakes = Arc::clone(self);
                return Turn { task, wakes };
            }
            self.news.notified().await;
        }
    }

    fn begin(&self) -> Option<TaskId> {
        let mut queue = self.queue();
        let task = queue.tasks.pop_front()?;
        queue.stands.insert(task, Stand::InTurn { woken_again: false });
        Some(task)
    }

    fn end(&self, task: TaskId) {
        let mut queue = self.queue();
        if let Some(Stand::InTurn { woken_again: true }) = queue.stands.remove(&task) {
            self.enqueue(&mut queue, task);
        }
    }

    fn enqueue(&self, queue: &mut Queue, task: TaskId) {
        queue.tasks.push_back(task);
        queue.stands.insert(task, Stand::InQueue);
        self.news.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn next(wakes: &Arc<Wakes>) -> Option<Turn> {
        wakes.next().now_or_never()
    }

    fn tasks<const N: usize>(turns: &[Option<Turn>; N]) -> [Option<i64>; N] {
        turns.each_ref().map(|turn| turn.as_ref().map(|turn| turn.task.0))
    }

    #[test]
    fn a_task_has_its_turn_once_however_often_it_was_woken() {
        let wakes = Arc::new(Wakes::default());
        for task in [1, 2, 1, 1, 3, 2] {
            wakes.wake(TaskId(task));
        }
        let turns = [(); 4].map(|()| next(&wakes));
        assert_eq!(tasks(&turns), [Some(1), Some(2), Some(3), None]);
        drop(turns);
        assert!(next(&wakes).is_none());
    }

    #[test]
    fn what_wakes_a_task_in_its_turn_gives_it_one_more_behind_the_others() {
        let wakes = Arc::new(Wakes::default());
        wakes.wake(TaskId(1));
        let first = next(&wakes);
        for task in [1, 2, 1] {
            wakes.wake(TaskId(task));
        }
        let others = [next(&wakes), next(&wakes)];
        assert_eq!(tasks(&others), [Some(2), None], "the first one's turn is not over");
        drop(first);
        assert_eq!(tasks(&[(); 2].map(|()| next(&wakes))), [Some(1), None]);
        wakes.wake(TaskId(1));
        assert_eq!(tasks(&[next(&wakes)]), [Some(1)], "that turn is over as well");
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let wakes = Arc::new(Wakes::default());
        let (turn, ()) = tokio::join!(wakes.next(), async { wakes.wake(TaskId(7)) });
        assert_eq!(turn.task, TaskId(7));
    }
}
