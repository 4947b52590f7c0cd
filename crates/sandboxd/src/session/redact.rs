//! Keeps secrets out of what people read: output of commands that knew one, or printed one.

use protocol::sandbox::Secret;

/// Shorter values are too common to be replaced; no token is that short.
const SECRET_BYTES_MIN: usize = 6;

/// Replaces secrets in texts.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Hides each of `secrets`.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut secrets: Vec<String> = secrets
            .into_iter()
            .map(|secret| secret.expose().to_owned())
            .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
            .collect();
        // The longest first: one secret may contain another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// `text` without secrets.
    pub fn clean(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
    }
}

/// `url` without user, password, query and fragment.
pub fn url_for_people(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_the_longest_first() {
        let secrets = [Secret("abcdef".into()), Secret("abcdefghi".into()), Secret("a".into())];
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.clean("a abcdefghi abcdef"), "a [redacted] [redacted]");
    }

    #[test]
    fn a_url_loses_its_credentials() {
        assert_eq!(url_for_people("https://user:pw@git.example/a.git?t=1#x"), "https://git.example/a.git");
        assert_eq!(url_for_people("file:///srv/a.git"), "file:///srv/a.git");
    }
}
