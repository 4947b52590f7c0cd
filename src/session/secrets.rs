//! Opens the secrets of a session with the deployment's private key (spec/session.md 8.2), when its container is asked to work and not before.
//!
//! The platform's own cryptography does the work. An error names the variable, never a value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use js_sys::Array;
use js_sys::Object;
use js_sys::Promise;
use js_sys::Reflect;
use js_sys::Uint8Array;
use protocol::envelope::Envelope;
use protocol::envelope::IV_BYTES;
use protocol::envelope::VALUE_BYTES_MAX;
use protocol::sandbox::Secret;
use std::collections::BTreeMap;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
    fn import_key(
        format: &str,
        key: &Uint8Array,
        algorithm: &JsValue,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], catch)]
    fn decrypt(algorithm: &JsValue, key: &JsValue, data: &Uint8Array) -> Result<Promise, JsValue>;
}

/// Why the secrets of a session cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The key is not one.
    #[error("AGENT_ENV_VARS_PRIVATE_KEY is not an RSA private key in PKCS#8 PEM")]
    BadKey,
    /// One does not open, or holds no text.
    #[error("encryptedSecrets: {0} cannot be opened with this deployment's key")]
    Closed(String),
    /// The deployment has no key.
    #[error("encryptedSecrets cannot be opened: AGENT_ENV_VARS_PRIVATE_KEY is not configured")]
    NoKey,
}

impl SecretsError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            SecretsError::BadKey | SecretsError::NoKey => "SECRETS_NOT_CONFIGURED",
            SecretsError::Closed(_) => "SECRETS_INVALID",
        }
    }
}

/// Opens all of them.
pub async fn open(
    pem: Option<&str>,
    secrets: &BTreeMap<String, Envelope>,
) -> Result<BTreeMap<String, Secret>, SecretsError> {
    if secrets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let der = der_of(pem.ok_or(SecretsError::NoKey)?).ok_or(SecretsError::BadKey)?;
    let key = rsa_key(&der).await.map_err(|_| SecretsError::BadKey)?;
    let mut opened = BTreeMap::new();
    for (name, envelope) in secrets {
        let closed = || SecretsError::Closed(name.clone());
        let bytes = open_one(&key, envelope).await.ok_or_else(closed)?;
        opened.insert(name.clone(), Secret(text_of(bytes).ok_or_else(closed)?));
    }
    Ok(opened)
}

async fn open_one(key: &JsValue, envelope: &Envelope) -> Option<Vec<u8>> {
    let data = STANDARD.decode(&envelope.encrypted_data).ok()?;
    let (iv, sealed) = data.split_at_checked(IV_BYTES)?;
    let wrapped = STANDARD.decode(&envelope.encrypted_dek).ok()?;
    let inner = decrypted(&algorithm(&[("name", "RSA-OAEP".into())]), key, &wrapped).await.ok()?;
    let usages = Array::of1(&"decrypt".into());
    let inner = import_key("raw", &inner, &"AES-GCM".into(), false, &usages).ok()?;
    let inner = JsFuture::from(inner).await.ok()?;
    // A tag of 16 bytes at the end is what AES-GCM has unless told otherwise.
    let gcm = algorithm(&[("name", "AES-GCM".into()), ("iv", Uint8Array::from(iv).into())]);
    Some(decrypted(&gcm, &inner, sealed).await.ok()?.to_vec())
}

async fn rsa_key(der: &[u8]) -> Result<JsValue, JsValue> {
    let oaep = algorithm(&[("name", "RSA-OAEP".into()), ("hash", "SHA-256".into())]);
    let usages = Array::of1(&"decrypt".into());
    JsFuture::from(import_key("pkcs8", &Uint8Array::from(der), &oaep, false, &usages)?).await
}

async fn decrypted(algorithm: &JsValue, key: &JsValue, data: &[u8]) -> Result<Uint8Array, JsValue> {
    let buffer = JsFuture::from(decrypt(algorithm, key, &Uint8Array::from(data))?).await?;
    Ok(Uint8Array::new(&buffer))
}

fn algorithm(parameters: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in parameters {
        // Fails on frozen objects only.
        drop(Reflect::set(&object, &JsValue::from_str(name), value));
    }
    object.into()
}

/// The bytes between the marks of a PEM. Its lines may be joined by `\n` in two characters, as variables of one line have them.
fn der_of(pem: &str) -> Option<Vec<u8>> {
    let pem = pem.replace("\\n", "\n");
    let body = pem.split_once("-----BEGIN PRIVATE KEY-----")?.1.split_once("-----END PRIVATE KEY-----")?.0;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

/// What may be the value of a variable.
fn text_of(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| text.len() <= VALUE_BYTES_MAX && !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_between_its_marks_however_its_lines_are_joined() {
        for pem in [
            "-----BEGIN PRIVATE KEY-----\nAQID\nBAU=\n-----END PRIVATE KEY-----\n",
            r"-----BEGIN PRIVATE KEY-----\nAQIDBAU=\n-----END PRIVATE KEY-----",
        ] {
            assert_eq!(der_of(pem), Some(vec![1, 2, 3, 4, 5]));
        }
        for bad in ["", "AQID", "-----BEGIN RSA PRIVATE KEY-----\nAQID\n-----END RSA PRIVATE KEY-----"] {
            assert_eq!(der_of(bad), None);
        }
    }

    #[test]
    fn only_text_is_a_value() {
        assert_eq!(text_of(b"pass\nword".to_vec()).as_deref(), Some("pass\nword"));
        for bad in [vec![0xff], b"a\0b".to_vec(), vec![b'a'; VALUE_BYTES_MAX + 1]] {
            assert_eq!(text_of(bad), None);
        }
    }
}
