use std::fs;

use obfleet_wire::agent::Outcome;

use super::*;

fn key(subtask: i64, run: i64) -> AttemptKey {
    format!("inst.1.5.{subtask}.EXECUTE.{run}").parse().unwrap()
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, Timestamp(RETENTION_MS)).unwrap()
}

const NOW: Timestamp = Timestamp(RETENTION_MS);

#[test]
fn fences_and_results_survive() {
    let dir = tempfile::tempdir().unwrap();
    let subtask = Subtask::from(&key(7, 1));
    let mut journal = open(dir.path());
    journal.raise(&subtask, 3, NOW).unwrap();
    journal.raise(&subtask, 2, NOW).unwrap();
    journal.begin(&key(7, 1), "inspect", NOW).unwrap();
    journal.begin(&key(7, 2), "inspect", NOW).unwrap();
    let done = Ended::Done { outcome: Outcome::Done };
    journal.end(&key(7, 1), 1, done.clone(), NOW).unwrap();
    drop(journal);

    let journal = open(dir.path());
    assert_eq!(journal.admit(&subtask, 2), Err(Stale::Epoch { epoch: 2, highest: 3 }));
    assert_eq!(journal.admit(&subtask, 3), Ok(()));
    assert_eq!(journal.ended(&key(7, 1)), Some(&done));
    assert_eq!(journal.ended(&key(7, 2)), None, "begun only");
    let other = Subtask::from(&key(8, 1));
    assert_eq!(journal.admit(&other, 0), Ok(()), "a fence is for one subtask");
}

#[test]
fn a_failure_is_no_answer_to_a_later_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let failed = Ended::Failed { message: "m".into() };
    let done = Ended::Done { outcome: Outcome::Done };
    journal.end(&key(7, 1), 2, failed.clone(), NOW).unwrap();
    journal.end(&key(7, 2), 2, done.clone(), NOW).unwrap();
    drop(journal);
    let journal = open(dir.path());
    assert_eq!(journal.answer_to(&key(7, 1), 2), Some(&failed));
    assert_eq!(journal.answer_to(&key(7, 1), 3), None);
    assert_eq!(journal.answer_to(&key(7, 2), 3), Some(&done));
}

#[test]
fn an_older_era_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let now = Subtask::from(&key(7, 1));
    let next = Subtask { era: 2, ..now.clone() };
    journal.raise(&next, 1, NOW).unwrap();
    assert!(matches!(journal.admit(&now, 9), Err(Stale::Era { highest: 2, .. })));
    assert_eq!(journal.admit(&next, 1), Ok(()), "epochs of the old era do not count");
}

#[test]
fn a_torn_last_line_is_cut_off_and_a_torn_middle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    journal.begin(&key(7, 1), "inspect", NOW).unwrap();
    drop(journal);
    let path = dir.path().join("journal.jsonl");
    let good = fs::read(&path).unwrap();
    for torn in [&good[..good.len() / 2], b"\0\0\0\0", b"{\"record\":\"en\n"] {
        fs::write(&path, [&good[..], torn].concat()).unwrap();
        let mut journal = open(dir.path());
        assert!(journal.attempts.contains_key(&key(7, 1)));
        let failed = Ended::Failed { message: "m".into() };
        journal.end(&key(7, 1), 1, failed.clone(), NOW).unwrap();
        drop(journal);
        assert_eq!(open(dir.path()).ended(&key(7, 1)), Some(&failed));
    }
    fs::write(&path, [b"{\"record\"\n", &good[..]].concat()).unwrap();
    assert!(matches!(Journal::open(dir.path(), NOW), Err(FileError::Damaged { .. })));
}

#[test]
fn old_records_are_forgotten_with_what_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let old = Timestamp(1);
    journal.begin(&key(7, 1), "inspect", old).unwrap();
    let end = Ended::Done { outcome: Outcome::Done };
    journal.end(&key(7, 1), 1, end.clone(), old).unwrap();
    journal.begin(&key(7, 2), "inspect", Timestamp(99)).unwrap();
    fs::write(journal.lines_file(&key(7, 1)), "said\n").unwrap();
    drop(journal);

    let mut journal = Journal::open(dir.path(), Timestamp(RETENTION_MS + 50)).unwrap();
    assert!(!journal.attempts.contains_key(&key(7, 1)));
    assert!(!journal.lines_file(&key(7, 1)).exists());
    journal.end(&key(7, 2), 1, end.clone(), Timestamp(100)).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).ended(&key(7, 2)), Some(&end));
}
