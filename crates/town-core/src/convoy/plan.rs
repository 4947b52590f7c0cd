//! What a new convoy is made from: who waits for whom, and the name of its branch (spec/town.md 8.5).

use crate::error::Fault;
use crate::error::Refusal;
use protocol::town::convoy::ConvoyTask;

/// The longest name of a convoy in its branch.
const SLUG_MAX: usize = 40;

/// Who waits for whom, by number. Its own number and numbers of nobody are ignored; a cycle is refused before anything is written.
pub fn edges_of(tasks: &[ConvoyTask]) -> Result<Vec<(usize, usize)>, Fault> {
    let mut edges: Vec<(usize, usize)> = Vec::new();
    for (waiting, task) in tasks.iter().enumerate() {
        for blocker in &task.depends_on {
            let edge = (waiting, *blocker);
            if *blocker != waiting && *blocker < tasks.len() && !edges.contains(&edge) {
                edges.push(edge);
            }
        }
    }
    // Kahn: take away whoever waits for nobody that is left, until nobody is left.
    let mut left: Vec<usize> = (0..tasks.len()).collect();
    loop {
        let stuck: Vec<usize> = left
            .iter()
            .copied()
            .filter(|task| edges.iter().any(|(waiting, blocker)| waiting == task && left.contains(blocker)))
            .collect();
        if stuck.is_empty() {
            return Ok(edges);
        }
        if stuck.len() == left.len() {
            return Err(Refusal::DependencyCycle {}.into());
        }
        left = stuck;
    }
}

/// A name that fits into a branch: lower case, everything else one dash.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let short: String = slug.trim_matches('-').chars().take(SLUG_MAX).collect();
    if short.is_empty() { "convoy".into() } else { short.trim_end_matches('-').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(depends_on: &[&[usize]]) -> Vec<ConvoyTask> {
        let task = |on: &&[usize]| ConvoyTask { title: "t".into(), body: None, depends_on: on.to_vec() };
        depends_on.iter().map(task).collect()
    }

    #[test]
    fn slugs_fit_into_a_branch() {
        assert_eq!(slug("Fix: Bug #123 with special characters!!!"), "fix-bug-123-with-special-characters");
        assert_eq!(slug("!!!"), "convoy");
        assert_eq!(slug(&"abc ".repeat(40)).len(), 40 - 1, "no dash at the end");
    }

    #[test]
    fn the_own_number_and_numbers_of_nobody_are_ignored_and_a_cycle_is_refused() {
        assert_eq!(edges_of(&tasks(&[&[0, 7], &[0, 0], &[1]])).unwrap(), [(1, 0), (2, 1)]);
        assert_eq!(edges_of(&tasks(&[&[2], &[0], &[1]])), Err(Refusal::DependencyCycle {}.into()));
        assert_eq!(edges_of(&tasks(&[&[], &[0], &[0], &[1, 2]])).unwrap().len(), 4);
    }
}
