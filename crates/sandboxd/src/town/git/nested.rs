//! Repositories inside a worktree: its commits hold the name of one of their commits, and none of their files.

use super::error::GitFailure;
use super::identity::Pinned;

/// Those whose state is not the one that the commit below names. Asked between staging and committing.
pub(super) async fn changed(pinned: &Pinned) -> Result<Vec<String>, GitFailure> {
    let status = ["status", "--porcelain=v2", "--untracked-files=no", "--ignore-submodules=none"];
    let status = pinned.run(&status).await?.stdout;
    Ok(status.lines().filter_map(nested_path).map(str::to_owned).collect())
}

/// The path of a line that is about a repository inside: such as `1 A. S... 000000 160000 160000 <hash> <hash> <path>`.
fn nested_path(line: &str) -> Option<&str> {
    // The path is the last one, and may hold spaces.
    let fields = match line.chars().next()? {
        '1' => 9,
        '2' => 10,
        'u' => 11,
        _ => return None,
    };
    let mut fields = line.splitn(fields, ' ');
    let is_nested = fields.nth(2)?.starts_with('S');
    let path = fields.last()?.split('\t').next()?;
    is_nested.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_a_repository_inside_has_its_path() {
        let hash = "0".repeat(40);
        let nested = format!("1 A. S... 000000 160000 160000 {hash} {hash} a nest");
        assert_eq!(nested_path(&nested), Some("a nest"));
        assert_eq!(nested_path(&format!("2 R. SCMU 160000 160000 160000 {hash} {hash} R100 new\told")), Some("new"));
        assert_eq!(nested_path(&format!("u UU S..U 1 2 3 4 {hash} {hash} {hash} in")), Some("in"));
        assert_eq!(nested_path(&format!("1 M. N... 100644 100644 100644 {hash} {hash} file")), None);
        assert_eq!(nested_path("# branch.head main"), None);
    }
}
