//! What a kill must not have cost: steps that had succeeded and ran again.

use serde_json::Value;

use super::point::in_order;

/// The steps that stood as successful in `before` and have another attempt or another end in `after`; both are the same
/// task as the API shows it.
pub fn ran_again(before: &Value, after: &Value) -> Vec<String> {
    let mut again = Vec::new();
    for (then, now) in in_order(before).into_iter().zip(in_order(after)) {
        if then["status"] == "SUCCESSFUL" && trace(then) != trace(now) {
            again.push(format!("{}: {:?} became {:?}", then["name"], trace(then), trace(now)));
        }
    }
    again
}

/// What any further attempt changes.
fn trace(step: &Value) -> [&Value; 5] {
    ["status", "operation", "runTime", "startTime", "finishTime"].map(|member| &step[member])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_had_succeeded_is_held_to_it() {
        let task = |first: &str, second: &str| {
            json!({"subtasks": [
                {"id": 1, "name": "a", "status": "SUCCESSFUL", "finishTime": first},
                {"id": 2, "name": "b", "status": second, "finishTime": second},
            ]})
        };
        let before = task("10:00", "RUNNING");
        assert!(ran_again(&before, &task("10:00", "SUCCESSFUL")).is_empty());
        let again = ran_again(&before, &task("10:01", "SUCCESSFUL"));
        assert!(again.len() == 1 && again[0].contains("\"a\""), "{again:?}");
    }
}
