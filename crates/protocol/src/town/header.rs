//! A town's configuration as every request to its container carries it (spec/town.md 3.8): what of it, in which form, and how much.

use super::config::TownConfig;
use serde_json::json;

/// The longest value of [`super::TOWN_CONFIG_HEADER`], in bytes: a longer one is not taken by every server on its way.
pub const CONFIG_HEADER_BYTES_MAX: usize = 32 * 1024;

/// Of that, what a town's configuration may take. The rest is for the address of the service, which goes with it.
pub const CONFIG_BYTES_MAX: usize = 30 * 1024;

impl TownConfig {
    /// The value of [`super::TOWN_CONFIG_HEADER`]: JSON in ASCII.
    pub fn header(&self, api_url: Option<&str>) -> String {
        let value = json!({
            "env_vars": self.env_vars, "default_model": self.default_model, "small_model": self.small_model, "git_auth": self.git_auth,
            "kilocode_token": self.kilocode_token, "github_cli_pat": self.github_cli_pat, "git_author_name": self.git_author_name,
            "git_author_email": self.git_author_email, "disable_ai_coauthor": self.disable_ai_coauthor, "gastown_api_url": api_url,
            "organization_id": self.organization_id,
        });
        ascii(&value.to_string())
    }
}

/// JSON without a character that a header cannot carry.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_header_is_ascii_and_reads_as_what_was_written() {
        let config = TownConfig { git_author_name: Some("Zoë 🚀".into()), ..TownConfig::default() };
        let header = config.header(Some("https://w.example"));
        assert!(header.is_ascii(), "{header}");
        let read: Value = serde_json::from_str(&header).unwrap();
        assert_eq!(
            (&read["git_author_name"], &read["gastown_api_url"]),
            (&json!("Zoë 🚀"), &json!("https://w.example"))
        );
    }

    /// A letter that takes two bytes in the ledger takes six in the header.
    #[test]
    fn a_configuration_is_measured_as_it_goes_into_the_header() {
        let with = |value: String| TownConfig { env_vars: [("A".to_owned(), value)].into(), ..TownConfig::default() };
        let rest = with(String::new()).header(None).len();
        assert_eq!(with("x".repeat(CONFIG_BYTES_MAX - rest)).check(), Ok(()));
        assert!(with("x".repeat(CONFIG_BYTES_MAX - rest + 1)).check().unwrap_err().contains("30 KiB"));
        assert_eq!(with("ë".repeat(5_000)).check(), Ok(()));
        assert!(with("ë".repeat(5_200)).check().is_err());
    }
}
