//! What of an agent's work only this disk has, beside what is checked out: commits of its branch when another commit is checked out, of branches
//! that it has been on, and changes that it or git put into a stash.

use super::error::GitFailure;
use super::identity::Pinned;
use super::identity::Worktree;
use super::identity::read;
use super::names::Branch;
use std::collections::BTreeSet;

/// Commits of one agent that are saved. One more is found, to say that there are more.
pub(super) const COMMITS_MAX: usize = 16;
/// Moves between branches, and stashes, that are remembered.
const STEPS_MAX: &str = "--max-count=500";

/// Whose work is looked for.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub worktree: &'a Worktree,
    /// The agent's branch.
    pub own: &'a Branch,
    /// Whom its commits name.
    pub email: &'a str,
}

/// A commit that is on no branch of the remote, and not below `HEAD`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stranded {
    pub kind: Kind,
    pub commit: String,
}

/// What a commit is to its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The newest of its own branch.
    Own,
    /// The newest of another branch that it has been on.
    Side,
    /// Changes put away.
    Stash,
}

impl Kind {
    /// In a word, for a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Own => "own",
            Kind::Side => "side",
            Kind::Stash => "stash",
        }
    }
}

/// All of them, as far as the remote was known when it was last heard of.
pub(super) async fn find(pinned: &Pinned, of: Of<'_>) -> Result<Vec<Stranded>, GitFailure> {
    let mut candidates = of.branches(pinned).await?;
    candidates.extend(of.stashes(pinned).await?);
    let mut found: Vec<Stranded> = Vec::new();
    for candidate in candidates {
        if found.len() > COMMITS_MAX {
            break;
        }
        let is_known = found.iter().any(|known| known.commit == candidate.commit);
        if !is_known && is_only_here(pinned, &candidate.commit).await? {
            found.push(candidate);
        }
    }
    Ok(found)
}

async fn is_only_here(pinned: &Pinned, commit: &str) -> Result<bool, GitFailure> {
    let list = ["rev-list", "--max-count=1", commit, "--not", "HEAD", "--remotes"];
    // None: the commit is not there any more.
    Ok(pinned.ask(&list).await?.is_some_and(|listed| !listed.first_line().is_empty()))
}

impl Of<'_> {
    /// The newest commits of the branches that the agent has been on, its own first.
    async fn branches(self, pinned: &Pinned) -> Result<Vec<Stranded>, GitFailure> {
        let own = self.own.local_ref();
        let mut names = BTreeSet::from([format!("{own}-wip-*")]);
        let moves = ["log", "--walk-reflogs", STEPS_MAX, "--no-show-signature", "--format=%gs", "HEAD", "--"];
        let moves = pinned.ask(&moves).await?.map(|moves| moves.stdout).unwrap_or_default();
        let between = moves.lines().filter_map(|step| step.strip_prefix("checkout: moving from ")?.split_once(" to "));
        let been_on = between.flat_map(|(from, to)| [from, to]).filter_map(|name| Branch::parse(name).ok());
        names.extend(been_on.chain(self.rebased()).filter(|branch| !self.is_anothers(branch)).map(|b| b.local_ref()));
        names.remove(&own);

        let list = ["for-each-ref", "--format=%(objectname)"];
        let mut found = Vec::new();
        for (kind, names) in [(Kind::Own, BTreeSet::from([own])), (Kind::Side, names)] {
            let arguments: Vec<&str> = list.into_iter().chain(names.iter().map(String::as_str)).collect();
            let commits = pinned.run(&arguments).await?.stdout;
            found.extend(commits.lines().map(|commit| Stranded { kind, commit: commit.to_owned() }));
        }
        Ok(found)
    }

    /// What the agent put away, or a rebase or a merge that is not over. All worktrees share one stash, so whose an entry is, is to be found out.
    async fn stashes(self, pinned: &Pinned) -> Result<Vec<Stranded>, GitFailure> {
        let format = "--format=%H%x09%ce%x09%s";
        let list = ["log", "--walk-reflogs", STEPS_MAX, "--no-show-signature", format, "refs/stash", "--"];
        let list = pinned.ask(&list).await?.map(|list| list.stdout).unwrap_or_default();
        let entries = list.lines().filter_map(|line| {
            let (commit, rest) = line.split_once('\t')?;
            let (email, subject) = rest.split_once('\t')?;
            self.has_stashed(email, subject).then(|| commit.to_owned())
        });
        let automatic = ["rebase-merge/autostash", "rebase-apply/autostash", "MERGE_AUTOSTASH"];
        let automatic = automatic.into_iter().filter_map(|file| self.file(file)).filter(|commit| is_hash(commit));
        Ok(entries.chain(automatic).map(|commit| Stranded { kind: Kind::Stash, commit }).collect())
    }

    /// On its own branch, or under its name and on no other agent's.
    fn has_stashed(self, email: &str, subject: &str) -> bool {
        let branch = stashed_on(subject);
        let is_anothers = branch.as_ref().is_some_and(|branch| self.is_anothers(branch));
        branch.as_ref() == Some(self.own) || (email == self.email && !is_anothers)
    }

    /// The branch whose rebase is not over.
    fn rebased(self) -> Option<Branch> {
        let name = self.file("rebase-merge/head-name").or_else(|| self.file("rebase-apply/head-name"))?;
        Branch::parse(name.strip_prefix("refs/heads/")?).ok()
    }

    /// Whether another agent has this branch for its own: it has a worktree of it.
    fn is_anothers(self, branch: &Branch) -> bool {
        branch != self.own && self.worktree.path().with_file_name(branch.folder()).exists()
    }

    fn file(self, name: &str) -> Option<String> {
        read(self.worktree.path(), &self.worktree.git_dir().join(name)).ok()
    }
}

/// The branch that a stash names, such as `WIP on main: 1a2b3c4 subject`.
fn stashed_on(subject: &str) -> Option<Branch> {
    let rest = subject.strip_prefix("WIP on ").or_else(|| subject.strip_prefix("On "))?;
    Branch::parse(rest.split_once(": ")?.0).ok()
}

fn is_hash(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
