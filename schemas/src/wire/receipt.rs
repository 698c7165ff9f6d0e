//! The receiver's signed acknowledgement of one message: "I have this content under this id since this minute."
//!
//! Text form `v1,<minute>,<signature>`: the minute in seconds since 1970, the ed25519 signature in base64, over
//! `"tidegate receipt v1" 0x00 id[16] sha256(content)[32] minute[8, big endian]`. The content is the reading's bytes as the receiver
//! got them (of the paper's format the text in `data`), so that anyone who keeps the reading can check the receipt.

use super::encode::minute_of;
use crate::id::MessageId;
use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// Sets what is signed apart from everything else that the key could sign.
const DOMAIN: &[u8] = b"tidegate receipt v1\0";
/// Longest receipt that is looked at, in bytes; a real one has at most 112.
pub const RECEIPT_BYTES_MAX: usize = 128;

/// A receipt that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receipt does not verify")]
pub struct ReceiptInvalid;

/// The hash by which a receipt names its content.
#[must_use]
pub fn content_hash(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

fn signed_bytes(id: MessageId, content_hash: &[u8; 32], minute: i64) -> Vec<u8> {
    [DOMAIN, id.as_bytes(), content_hash, &minute.to_be_bytes()].concat()
}

/// Signs a receipt, with the time rounded down to the minute.
#[must_use]
pub fn issue(seed: &[u8; 32], id: MessageId, content_hash: &[u8; 32], at: Timestamp) -> String {
    let minute = minute_of(at);
    let signature = SigningKey::from_bytes(seed).sign(&signed_bytes(id, content_hash, minute));
    format!("v1,{minute},{}", BASE64.encode(&signature.to_bytes()))
}

/// The public key that belongs to a receiver's seed.
#[must_use]
pub fn public_key(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// Checks a receipt and returns the minute that it names.
///
/// # Errors
/// [`ReceiptInvalid`] if it is not by this key, not about this message, or not a receipt at all.
pub fn verify(
    receipt: &str,
    public_key: &[u8; 32],
    id: MessageId,
    content_hash: &[u8; 32],
) -> Result<Timestamp, ReceiptInvalid> {
    parse(receipt)
        .and_then(|(minute, signature)| {
            let key = VerifyingKey::from_bytes(public_key).ok()?;
            key.verify_strict(&signed_bytes(id, content_hash, minute), &signature).ok()?;
            Timestamp::from_second(minute).ok()
        })
        .ok_or(ReceiptInvalid)
}

fn parse(receipt: &str) -> Option<(i64, Signature)> {
    let rest = (receipt.len() <= RECEIPT_BYTES_MAX).then(|| receipt.strip_prefix("v1,"))??;
    let (minute, signature) = rest.split_once(',')?;
    let signature = Signature::from_slice(&BASE64.decode(signature.as_bytes()).ok()?).ok()?;
    Some((minute.parse().ok()?, signature))
}
