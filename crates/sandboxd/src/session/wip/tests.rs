//! Work in progress from one container to the next, with real git and a real remote.

use super::*;
use crate::session::config::Author;
use crate::session::config::Config;
use crate::session::git::GitUrl;
use crate::session::redact::Redactor;
use protocol::sandbox::WorkspacePlan;
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A remote with one commit on `main`, and the containers of one session, one after the other.
struct Stage {
    folder: TempDir,
    session: SessionId,
    plan: WorkspacePlan,
    containers: usize,
}

/// One container: its disk, with the workspace in place.
struct Container {
    paths: SessionPaths,
    git: Git,
    applied: Option<Applied>,
}

impl Stage {
    fn new(shallow: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seed = folder.path().join("seed");
        fs::create_dir(&seed).unwrap();
        run(
            &seed,
            "git init --quiet --initial-branch main && echo one > file && git add -A && git commit --quiet -m one",
        );
        run(&seed, "echo two > two && git add -A && git commit --quiet -m two");
        run(folder.path(), "git clone --quiet --bare seed remote.git");
        Self::on(folder, shallow)
    }

    /// With a remote that has no commit. The session's branch is its own.
    fn empty(shallow: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), "git init --quiet --bare --initial-branch main remote.git");
        let mut stage = Self::on(folder, shallow);
        stage.plan.upstream_branch = None;
        stage
    }

    fn on(folder: TempDir, shallow: bool) -> Self {
        let session = SessionId::parse("agent_01234567-89ab-cdef-0123-456789abcdef").unwrap();
        let plan = serde_json::from_value(json!({
            "sessionId": session,
            "kiloSessionId": "ses_0123456789abABCDEFGHIJKLMN",
            "gitUrl": format!("file://{}", folder.path().join("remote.git").display()),
            "upstreamBranch": "main",
            "shallow": shallow,
        }));
        Self { folder, session, plan: plan.unwrap(), containers: 0 }
    }

    /// A cold start in a new container.
    async fn container(&mut self) -> Container {
        self.containers += 1;
        let root = self.folder.path().join(format!("container-{}", self.containers));
        let config = Config {
            root: root.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            token: None,
            allow_loopback: true,
            path: std::env::var("PATH").unwrap(),
            kilo: None,
            model: None,
            author: Author { name: "Kilo".into(), email: "kilo@example.com".into() },
            limits: Default::default(),
        };
        let paths = SessionPaths::new(&root, &self.session);
        paths.create().unwrap();
        let url = GitUrl::parse(&self.plan.git_url, true).unwrap();
        let git = Git::new(&config, &self.session, &paths, url, None, Redactor::default());
        workspace::clone(&git, &paths, self.plan.shallow).await.unwrap();
        let found = fetch(&git, &paths.cloning, &self.session).await.unwrap();
        let mut plan = self.plan.clone();
        plan.last_branch = found.as_ref().and_then(|found| found.branch.clone());
        workspace::set_branch(&git, &paths, &plan, &config.author).await.unwrap();
        let mut applied = None;
        if let Some(found) = found {
            applied = Some(apply(&git, &paths, &paths.cloning, &found).await.unwrap());
        }
        workspace::put_in_place(&paths).await.unwrap();
        Container { paths, git, applied }
    }

    async fn save(&self, container: &Container) -> Saved {
        save(&container.git, &container.paths, &self.session).await.unwrap()
    }

    fn remote(&self, script: &str) -> String {
        run(&self.folder.path().join("remote.git"), script)
    }

    /// Somebody pushes to `main`.
    fn push(&self, script: &str) {
        let clone = tempfile::tempdir_in(self.folder.path()).unwrap();
        let all = format!(
            "git clone --quiet ../remote.git . 2>/dev/null && {script} && git add -A && git commit --quiet -m theirs"
        );
        run(clone.path(), &format!("{all} && git push --quiet origin main"));
    }

    fn wip(&self) -> String {
        self.remote("git for-each-ref --format='%(refname)' refs/heads/holdfast")
    }
}

impl Container {
    fn run(&self, script: &str) -> String {
        run(&self.paths.workspace, script)
    }
}

fn run(folder: &Path, script: &str) -> String {
    let identity = ["AUTHOR", "COMMITTER"].map(|who| {
        [(format!("GIT_{who}_NAME"), "Test".to_owned()), (format!("GIT_{who}_EMAIL"), "test@example.com".to_owned())]
    });
    let output = Command::new("bash")
        .args(["-ec", script])
        .env("HOME", "/nonexistent")
        .envs(identity.into_iter().flatten())
        .current_dir(PathBuf::from(folder))
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn dirty_files_and_unpushed_commits_come_back_as_they_were() {
    let mut stage = Stage::new(false);
    let first = stage.container().await;
    first.run("echo mine > own && git add own && git commit --quiet -m unpushed");
    first.run(
        "echo '*.log' > .gitignore; echo x > x.log; rm two; echo changed > file; echo staged > staged; git add staged",
    );
    first.run("mkdir -p 'a b' && printf '\\0binary' > 'a b/é' && ln -s file link && touch run && chmod +x run");
    first.run("printf '#!/bin/sh\\ntouch ran' > .git/hooks/post-index-change && chmod +x .git/hooks/*");
    let before = first.run("cat .git/HEAD .git/refs/heads/main; sha256sum .git/index");
    assert!(matches!(stage.save(&first).await, Saved::Pushed { .. }));
    assert_eq!(first.run("cat .git/HEAD .git/refs/heads/main; sha256sum .git/index"), before);
    assert_eq!(
        (first.run("ls -a | grep -c '^ran$' || true"), stage.remote("git log --format=%s main")),
        ("0".into(), "two\none".into())
    );

    let second = stage.container().await;
    assert_eq!(second.applied, Some(Applied::AsItWas));
    assert_eq!(second.run("git log --format=%s"), "unpushed\ntwo\none");
    let status = " M file\n D two\n?? .gitignore\n?? \"a b/\"\n?? link\n?? run\n?? staged";
    assert_eq!(second.run("git -c core.quotePath=false status --porcelain"), status);
    assert_eq!(
        second.run("cat file; cat link; test -x run; ls"),
        "changed\nchanged\na b\nfile\nlink\nown\nrun\nstaged"
    );
    assert_eq!(second.run("tail -c 6 'a b/é'"), "binary");
}

#[tokio::test]
async fn it_is_taken_off_the_remote_once_it_is_on_a_branch_there_and_not_before() {
    let mut stage = Stage::new(false);
    let first = stage.container().await;
    assert_eq!((stage.save(&first).await, stage.wip()), (Saved::Nothing, String::new()));
    first.run("git commit --quiet --allow-empty -m own && echo dirty > dirty");
    stage.save(&first).await;
    let name = format!("refs/heads/holdfast/wip/{}", stage.session);
    assert_eq!(stage.wip(), name);

    let second = stage.container().await;
    let tidied = async |container: &Container| tidy(&container.git, &container.paths, &stage.session).await.unwrap();
    tidied(&second).await;
    assert_eq!(stage.wip(), name);
    // On a branch, but only here; and the remote's copy of it is not one.
    second.run("rm dirty && git fetch --quiet origin");
    tidied(&second).await;
    assert_eq!(stage.wip(), name);
    second.run("git push --quiet origin main");
    tidied(&second).await;
    assert_eq!(stage.wip(), "");

    // What a container gave up is not brought back to the next one.
    second.run("echo more > more");
    stage.save(&second).await;
    second.run("rm more");
    assert_eq!((stage.save(&second).await, stage.wip()), (Saved::Nothing, String::new()));
}

#[tokio::test]
async fn a_branch_that_has_moved_gets_what_fits_and_nobody_finds_a_conflict() {
    for shallow in [false, true] {
        let mut stage = Stage::new(shallow);
        let first = stage.container().await;
        first.run("echo dirty > dirty; echo mine > file");
        stage.save(&first).await;
        stage.push("echo theirs > other");
        let second = stage.container().await;
        assert_eq!(second.applied, Some(Applied::Merged), "shallow: {shallow}");
        assert_eq!(
            second.run("git log -1 --format=%s; git status --porcelain; cat file"),
            "theirs\n M file\n?? dirty\nmine"
        );

        stage.save(&second).await;
        stage.push("echo theirs > file");
        let third = stage.container().await;
        assert_eq!(third.applied, Some(Applied::Behind), "shallow: {shallow}");
        assert_eq!(third.run("git rev-parse HEAD"), stage.remote("git rev-parse main^"));
        assert_eq!(third.run("git status --porcelain; cat file"), " M file\n?? dirty\nmine");
    }
}

#[tokio::test]
async fn unpushed_commits_beside_newer_ones_of_the_remote_are_kept_where_they_were() {
    let mut stage = Stage::new(false);
    let first = stage.container().await;
    first.run("git commit --quiet --allow-empty -m unpushed");
    stage.save(&first).await;
    stage.push("echo theirs > other");
    let second = stage.container().await;
    assert_eq!(second.applied, Some(Applied::Behind));
    assert_eq!(
        second.run("git log --format=%s; git branch --show-current; git status --porcelain"),
        "unpushed\ntwo\none\nmain"
    );
}

#[tokio::test]
async fn a_branch_that_only_the_container_had_and_a_detached_head_come_back() {
    let mut stage = Stage::new(true);
    let first = stage.container().await;
    first.run("git checkout --quiet -b feature && git commit --quiet --allow-empty -m unpushed");
    stage.save(&first).await;
    let second = stage.container().await;
    assert_eq!(second.run("git branch --show-current; git log -1 --format=%s"), "feature\nunpushed");

    second.run("git checkout --quiet --detach && echo x > x");
    stage.save(&second).await;
    let third = stage.container().await;
    let state = "git symbolic-ref --quiet HEAD || echo detached; git log -1 --format=%s; git status --porcelain";
    assert_eq!(third.run(state), "detached\nunpushed\n?? x");
}

#[tokio::test]
async fn the_commits_of_a_pull_request_are_not_the_sessions_own() {
    let mut stage = Stage::new(false);
    stage.remote("git update-ref refs/pull/7/head $(git commit-tree -m pr -p main 'main^{tree}')");
    stage.plan.upstream_branch = Some(BranchName::parse("refs/pull/7/head").unwrap());
    let first = stage.container().await;
    assert_eq!((stage.save(&first).await, first.run("git log -1 --format=%s")), (Saved::Nothing, "pr".into()));
    first.run("echo dirty > dirty");
    stage.save(&first).await;
    let second = stage.container().await;
    assert_eq!(second.run("git log -1 --format=%s; git status --porcelain"), "pr\n?? dirty");
}

#[tokio::test]
async fn what_is_pushed_to_another_branch_is_no_work_in_progress() {
    for shallow in [false, true] {
        let mut stage = Stage::new(shallow);
        stage.plan.upstream_branch = None;
        let first = stage.container().await;
        first.run("git commit --quiet --allow-empty -m own && git push --quiet -u origin HEAD");
        assert_eq!((stage.save(&first).await, stage.wip()), (Saved::Nothing, String::new()), "shallow: {shallow}");
        let second = stage.container().await;
        let upstream = format!("own\norigin/session/{}", stage.session);
        assert_eq!(second.run("git log -1 --format=%s; git rev-parse --abbrev-ref @{u}"), upstream);
    }
}

#[tokio::test]
async fn a_shallow_clone_that_needs_the_history_fetches_no_other_branch() {
    let mut stage = Stage::new(true);
    let first = stage.container().await;
    first.run("echo dirty > dirty");
    stage.save(&first).await;
    stage.push("git branch beside && git push --quiet origin beside && echo theirs > other");
    let second = stage.container().await;
    assert_eq!((second.applied, second.run("git log --format=%s")), (Some(Applied::Merged), "theirs\ntwo\none".into()));
    assert_eq!(second.run("git branch --remotes --list '*beside'"), "");
}

#[tokio::test]
async fn a_repository_inside_keeps_nothing_else_out() {
    let mut stage = Stage::new(false);
    let first = stage.container().await;
    first
        .run("git init --quiet nested; git clone --quiet . cloned; mkdir a; git clone --quiet . a/b; echo x > a/other");
    let before = first.run("git status --porcelain; sha256sum .git/index");
    assert!(matches!(stage.save(&first).await, Saved::Pushed { .. }));
    assert_eq!(first.run("git status --porcelain; sha256sum .git/index"), before);
    let second = stage.container().await;
    assert_eq!(second.run("find * -type d -or -type f | sort"), "a\na/other\nfile\ntwo");

    second.run("rm -r a; git init --quiet nested; git clone --quiet . cloned");
    assert_eq!((stage.save(&second).await, stage.wip()), (Saved::Nothing, String::new()));
}

#[tokio::test]
async fn work_in_progress_before_the_first_commit_comes_back() {
    for shallow in [false, true] {
        let mut stage = Stage::empty(shallow);
        let first = stage.container().await;
        assert_eq!((stage.save(&first).await, stage.wip()), (Saved::Nothing, String::new()), "shallow: {shallow}");
        first.run("mkdir a && echo x > a/file");
        stage.save(&first).await;
        let state =
            "git symbolic-ref HEAD; git rev-parse --verify --quiet HEAD; git status --porcelain -uall; cat a/file";
        let as_it_was = format!("refs/heads/session/{}\n?? a/file\nx", stage.session);
        let second = stage.container().await;
        assert_eq!(second.applied, Some(Applied::AsItWas), "shallow: {shallow}");
        assert_eq!(second.run(&format!("set +e; {state}")), as_it_was, "shallow: {shallow}");

        // As a host does that takes the first branch that is pushed for its default one.
        stage.remote(&format!("git symbolic-ref HEAD {}", stage.wip()));
        let third = stage.container().await;
        assert_eq!(third.applied, Some(Applied::AsItWas), "shallow: {shallow}");
        assert_eq!(third.run(&format!("set +e; {state}")), as_it_was, "shallow: {shallow}");
        stage.remote("git symbolic-ref HEAD refs/heads/main");

        // Somebody makes the first commit.
        stage.push("git checkout --quiet -B main && echo theirs > other");
        let fourth = stage.container().await;
        assert_eq!(fourth.applied, Some(Applied::Merged), "shallow: {shallow}");
        assert_eq!(
            fourth.run("git log --format=%s; git status --porcelain -uall; cat other"),
            "theirs\n?? a/file\ntheirs"
        );
        stage.save(&fourth).await;
    }
}

#[tokio::test]
async fn a_first_commit_of_somebody_else_that_conflicts_is_not_put_under_the_work() {
    let mut stage = Stage::empty(false);
    let first = stage.container().await;
    first.run("echo mine > file");
    stage.save(&first).await;
    stage.push("git checkout --quiet -B main && echo theirs > file && touch other");
    let second = stage.container().await;
    assert_eq!(second.applied, Some(Applied::Behind));
    assert_eq!(second.run("cat file; git status --porcelain"), "mine\n?? file");
}
