//! An upload that the disk has no room for: a process of its own, whose files may have so many bytes and no more.

use std::process::{Command, Stdio};

use crate::support::{Api, OLD};

/// Blocks of 512 bytes that a file of the child's may have: far more than its database has.
const BLOCKS: &str = "16384";
/// More bytes than that, also where the shell counts in blocks of 1024.
const TOO_MANY: usize = 20 << 20;

#[tokio::test]
async fn an_upload_without_room_is_told_so_and_leaves_nothing() {
    let mut child = Command::new("sh");
    child
        // A write that goes too far is to fail, and not to end the process by a signal.
        .args(["-c", r#"trap '' XFSZ; ulimit -f "$1"; shift; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args([BLOCKS, "--exact", "full_disk::child", "--ignored", "--nocapture"])
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || child.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{errors}");
}

#[tokio::test]
#[ignore = "the child of the other test here"]
async fn child() {
    let api = Api::start().await;
    let refused = api.upload_bytes("x.rpm", vec![7; TOO_MANY]).await;
    assert_eq!(refused.refusal().0, 507, "{}", refused.text);
    assert!(
        refused.text.contains("disk of its state directory is full"),
        "{}",
        refused.text
    );
    let left = |dir: &str| {
        std::fs::read_dir(api.dir.path().join("state").join(dir))
            .unwrap()
            .count()
    };
    assert_eq!((left("uploads"), left("packages")), (0, 0));
    api.upload(OLD).await.data();
    assert_eq!((left("uploads"), left("packages")), (0, 1));
}
