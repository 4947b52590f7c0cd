//! `sandboxd restore` with the real Kilo CLI and a real download.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use support::Recorder;
use support::sandboxd;
use tempfile::TempDir;

const SESSION: &str = "ses_0123456789abABCDEFGHIJKLMN";

/// A workspace, a home, and what is to be restored.
struct Stage {
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let made = Command::new("git").args(["init", "--quiet", "workspace"]).current_dir(folder.path()).status();
        assert!(made.unwrap().success());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, export: &Value) -> PathBuf {
        let file = self.path("export.json");
        fs::write(&file, export.to_string()).unwrap();
        file
    }

    /// Runs the tool and returns its exit code and its line.
    fn restore(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, Value) {
        let workspace = self.path("workspace");
        let output = sandboxd(["restore"])
            .args(arguments)
            .args([SESSION, workspace.to_str().unwrap()])
            .envs(self.environment())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        (output.status.code(), serde_json::from_str(&line).unwrap())
    }

    fn environment(&self) -> [(&'static str, String); 5] {
        let path = std::env::var("PATH").unwrap();
        [
            ("PATH", format!("{}:{path}", kilo().parent().unwrap().display())),
            ("HOME", self.path("home").display().to_string()),
            ("HOLDFAST_ROOT", self.path("root").display().to_string()),
            ("KILO_DISABLE_MODELS_FETCH", "1".to_owned()),
            ("KILO_TELEMETRY_LEVEL", "off".to_owned()),
        ]
    }

    /// What the agent's storage holds of the session now.
    fn stored(&self) -> Value {
        let file = self.path("stored.json");
        let ended = Command::new(kilo())
            .args(["export", SESSION])
            .envs(self.environment())
            .current_dir(self.path("workspace"))
            .stdout(fs::File::create(&file).unwrap())
            .stderr(Stdio::null())
            .status();
        assert!(ended.unwrap().success());
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }
}

fn kilo() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let of_project = project.join("node_modules/@kilocode/cli-linux-x64/bin/kilo");
    let path = std::env::var_os("PATH").unwrap();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("kilo")).chain([of_project]);
    programs
        .find(|program| program.is_file())
        .expect("the Kilo CLI is missing: run `npm install` in the project's root folder")
}

/// A conversation of one message, with the changes that the agent made after it.
fn export(diffs: &Value) -> Value {
    let message = "msg_1fc6c1a310012lwLI9naWIlYL9";
    json!({
        "info": {
            "id": SESSION, "slug": "a", "projectID": "p", "directory": "/elsewhere", "title": "Kept", "version": "7.7.9",
            "time": { "created": 1_795_236_305_441_i64, "updated": 1_795_236_305_716_i64 },
        },
        "messages": [{
            "info": {
                "id": message, "sessionID": SESSION, "role": "user", "agent": "code",
                "time": { "created": 1_795_236_305_457_i64 },
                "model": { "providerID": "holdfast", "modelID": "scripted" },
                "summary": { "diffs": diffs },
            },
            "parts": [{
                "id": "prt_1fc6c1a32001j64T4U9mNNhbbV", "sessionID": SESSION, "messageID": message,
                "type": "text", "text": "remember me",
            }],
        }],
    })
}

#[test]
fn a_file_is_imported_its_diffs_applied_and_it_is_deleted() {
    let stage = Stage::new();
    fs::write(stage.path("workspace/old"), "old").unwrap();
    fs::write(stage.path("kept"), "kept").unwrap();
    let file = stage.write(&export(&json!([
        { "file": "new/file", "status": "added", "after": "first", "additions": 1, "deletions": 0 },
        { "file": "new/file", "status": "modified", "after": "last", "additions": 1, "deletions": 1 },
        { "file": "old", "status": "deleted", "after": "", "additions": 0, "deletions": 1 },
        { "file": "../kept", "status": "deleted", "after": "", "additions": 0, "deletions": 1 },
    ])));
    let (code, line) = stage.restore(&["--file", file.to_str().unwrap()], &[]);
    let diffs = json!({ "applied": 2, "skipped": 1, "total": 3 });
    assert_eq!((code, line), (Some(0), json!({ "ok": true, "downloaded": false, "imported": true, "diffs": diffs })));
    assert_eq!(fs::read_to_string(stage.path("workspace/new/file")).unwrap(), "last");
    assert!(!stage.path("workspace/old").exists() && stage.path("kept").exists());
    assert!(!file.exists());
    let stored = stage.stored();
    assert_eq!(stored["messages"][0]["parts"][0]["text"], "remember me");
    // The agent's session is about this workspace from now on.
    assert_eq!(stored["info"]["directory"], stage.path("workspace").canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn whatever_is_wrong_is_said_by_step_and_the_file_is_deleted() {
    let stage = Stage::new();
    let mut other = export(&json!([]));
    other["info"]["id"] = json!("ses_another");
    let mut broken = export(&json!([]));
    broken["messages"][0]["info"]["role"] = json!(7);
    for (content, words) in [
        (json!({ "detail": "Internal error" }), "no info.id"),
        (other, "of session ses_another"),
        (broken, "kilo import failed"),
    ] {
        let file = stage.write(&content);
        let (code, line) = stage.restore(&["--file", file.to_str().unwrap()], &[]);
        assert_eq!((code, &line["ok"], &line["step"]), (Some(1), &json!(false), &json!("import")), "{line}");
        assert!(line["error"].as_str().unwrap().contains(words), "{line}");
        assert!(!file.exists());
    }
}

#[test]
fn without_a_file_the_export_is_downloaded() {
    let stage = Stage::new();
    let (code, line) = stage.restore(&[], &[("KILO_SESSION_INGEST_URL", "http://127.0.0.1:9")]);
    assert_eq!(
        (code, &line["step"], &line["error"]),
        (Some(1), &json!("download"), &json!("missing env vars: KILOCODE_TOKEN"))
    );

    let service = Recorder::start(&[404, 502]);
    let variables = [("KILO_SESSION_INGEST_URL", service.url.as_str()), ("KILOCODE_TOKEN", "kilo-token-1234")];
    let (code, line) = stage.restore(&[], &variables);
    let not_found = json!({ "ok": false, "error": "snapshot not found (404)", "code": 404, "step": "download" });
    assert_eq!((code, line), (Some(1), not_found));
    let (_, line) = stage.restore(&[], &variables);
    assert_eq!((&line["code"], &line["step"]), (&json!(502), &json!("download")));
    // Some other answer with 200.
    let (_, line) = stage.restore(&[], &variables);
    assert_eq!((&line["code"], &line["step"]), (&Value::Null, &json!("download")));

    service.give(&export(&json!([])));
    let (code, line) = stage.restore(&[], &variables);
    assert_eq!((code, &line["downloaded"], &line["imported"]), (Some(0), &json!(true), &json!(true)), "{line}");
    for call in service.calls() {
        assert_eq!(call.path, format!("/api/session/{SESSION}/export"));
        assert_eq!(call.authorization, "Bearer kilo-token-1234");
    }
    assert_eq!(fs::read_dir(stage.path("root/tmp")).unwrap().count(), 0);
    assert_eq!(stage.stored()["info"]["title"], "Kept");
}
