//! Standard Webhooks, asymmetric (`v1a`): an ed25519 signature over `id.timestamp.body`, so that a receiver can tell its gateway
//! from anyone else who learned the write key. The key is the destination's own.

use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Says which kind of signature follows.
const SCHEME: &str = "v1a,";
/// Says that a text is a public key.
const KEY_PREFIX: &str = "whpk_";

fn signed_bytes(id: &str, second: i64, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{id}.{second}.").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The value of `webhook-signature`. `second` is the value of `webhook-timestamp`.
#[must_use]
pub fn sign(seed: &[u8; 32], id: &str, second: i64, body: &[u8]) -> String {
    let signature = SigningKey::from_bytes(seed).sign(&signed_bytes(id, second, body));
    format!("{SCHEME}{}", BASE64.encode(&signature.to_bytes()))
}

/// Whether one of the signatures in a `webhook-signature` (separated by blanks, for the time of a key change) is by this key.
#[must_use]
pub fn verify(public_key: &[u8; 32], id: &str, second: i64, body: &[u8], header: &str) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public_key) else { return false };
    let signed = signed_bytes(id, second, body);
    header
        .split(' ')
        .filter_map(|text| signature(text.strip_prefix(SCHEME)?))
        .any(|signature| key.verify_strict(&signed, &signature).is_ok())
}

fn signature(base64: &str) -> Option<Signature> {
    Signature::from_slice(&BASE64.decode(base64.as_bytes()).ok()?).ok()
}

/// The public key that belongs to a seed, as Standard Webhooks writes it.
#[must_use]
pub fn public_key_text(seed: &[u8; 32]) -> String {
    format!("{KEY_PREFIX}{}", BASE64.encode(SigningKey::from_bytes(seed).verifying_key().as_bytes()))
}
