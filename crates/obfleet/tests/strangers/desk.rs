//! Somebody at a terminal with a context for a fleet's server.

use std::{fs, path::PathBuf, process::Output};

use obfleet_lab::testbed::Testbed;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::EXE;

pub struct Desk {
    dir: TempDir,
}

impl Desk {
    /// With the administrator's context of the bed's server.
    pub async fn at(bed: &Testbed) -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let api = bed.api().unwrap();
        let password = desk.file("password", &api.password);
        let words = [
            "context",
            "add",
            "bed",
            "--url",
            &api.url,
            "--user",
            "admin",
            "--password-file",
        ];
        desk.says(&[&words[..], &[password.to_str().unwrap()]].concat()).await;
        desk
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(EXE);
        command.args(args).env_clear().kill_on_drop(true);
        command.env("OBFLEET_CONTEXTS", self.dir.path().join("contexts.json"));
        let output = command.output().await.unwrap();
        // Read by whoever has the test show what it prints.
        println!("$ obfleet {}", args.join(" "));
        print!("{}", String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// What it prints; it succeeds.
    pub async fn says(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{error}");
        out
    }

    /// What it prints, which has all of these in it.
    pub async fn shows(&self, args: &[&str], words: &[&str]) -> String {
        let said = self.says(args).await;
        for word in words {
            assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
        }
        said
    }

    /// What it complains of, and what it has printed before.
    pub async fn refuses(&self, args: &[&str]) -> (String, String) {
        let output = self.run(args).await;
        assert!(!output.status.success(), "{args:?}: {}", text(&output.stdout));
        (text(&output.stderr), text(&output.stdout))
    }

    pub async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[args, &["-o", "json"]].concat()).await).unwrap()
    }

    /// A command that starts a task. → its id
    pub async fn starts(&self, args: &[&str]) -> String {
        self.json(args).await["id"].to_string()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
