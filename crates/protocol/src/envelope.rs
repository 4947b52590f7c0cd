//! A secret that only the deployment's private key opens (spec/session.md 8.2).
//!
//! `encryptedData` is AES-256-GCM: an IV of 16 bytes, the ciphertext, the tag of 16 bytes. `encryptedDEK` is its key, wrapped with RSA-OAEP-SHA256. An
//! envelope is stored as it was given.

use serde::Deserialize;
use serde::Serialize;

/// The IV, in bytes.
pub const IV_BYTES: usize = 16;
/// The tag, in bytes.
pub const TAG_BYTES: usize = 16;
/// The largest secret, in bytes: what an environment variable may hold.
pub const VALUE_BYTES_MAX: usize = 4096;
/// What a key of 2,048 bits wraps to, in bytes, and one of 8,192.
const WRAPPED_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// One secret, closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// Base64.
    pub encrypted_data: String,
    /// Base64.
    #[serde(rename = "encryptedDEK")]
    pub encrypted_dek: String,
    pub algorithm: Algorithm,
    /// 1.
    pub version: u8,
}

/// How an envelope is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "rsa-aes-256-gcm")]
    RsaAes256Gcm,
}

impl Envelope {
    /// Whether it has the form of one. Whether it opens shows when it is opened.
    pub fn is_well_formed(&self) -> bool {
        let frame = IV_BYTES.saturating_add(TAG_BYTES);
        let data = frame..=frame.saturating_add(VALUE_BYTES_MAX);
        self.version == 1
            && decoded_len(&self.encrypted_data).is_some_and(|bytes| data.contains(&bytes))
            && decoded_len(&self.encrypted_dek).is_some_and(|bytes| WRAPPED_BYTES.contains(&bytes))
    }
}

/// How many bytes a text of base64 stands for; None if it is not base64.
fn decoded_len(text: &str) -> Option<usize> {
    let symbols = text.trim_end_matches('=');
    let padding = text.len().saturating_sub(symbols.len());
    let valid = text.len().is_multiple_of(4)
        && padding <= 2
        && symbols.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    valid.then(|| (text.len() / 4).saturating_mul(3).saturating_sub(padding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(data: &str, dek: &str) -> Envelope {
        serde_json::from_value(json!({
            "encryptedData": data, "encryptedDEK": dek, "algorithm": "rsa-aes-256-gcm", "version": 1,
        }))
        .unwrap()
    }

    #[test]
    fn sizes_decide_the_form() {
        let dek = "A".repeat(344);
        let data = |bytes: usize| "A".repeat(bytes.div_ceil(3) * 4);
        assert!(envelope(&data(33), &dek).is_well_formed());
        assert!(envelope(&data(4128), &dek).is_well_formed());
        for (bad_data, bad_dek) in [
            (data(30), dek.clone()),
            (data(4131), dek.clone()),
            (data(33), "A".repeat(336)),
            (format!("{}_", &data(33)[1..]), dek.clone()),
            (data(33)[1..].to_owned(), dek.clone()),
            (String::new(), dek),
        ] {
            assert!(!envelope(&bad_data, &bad_dek).is_well_formed(), "{} {}", bad_data.len(), bad_dek.len());
        }
    }

    #[test]
    fn another_algorithm_is_none() {
        let other = json!({"encryptedData": "", "encryptedDEK": "", "algorithm": "rot13", "version": 1});
        assert!(serde_json::from_value::<Envelope>(other).is_err());
    }

    #[test]
    fn padding_counts() {
        assert_eq!([decoded_len("AAAA"), decoded_len("AAA="), decoded_len("AA==")], [Some(3), Some(2), Some(1)]);
        assert_eq!([decoded_len("A==="), decoded_len("A=AA"), decoded_len("AA-_")], [None; 3]);
    }
}
