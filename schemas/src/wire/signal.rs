//! A destination's signal to its gateway, signed: "ready", "not now" or "forget it", for so many seconds.
//!
//! A JSON body `{"word", "ttl_s", "sequence", "signature"}`. The signature is the receiver's, by the key of its receipts, over
//! `"tidegate signal v1" 0x00 service[32] word[1] ttl_s[4, big endian] sequence[8, big endian]`. `service` is the public key in the onion
//! address at which the gateway hears this destination alone, so that a signal means nothing to any other gateway. The sequence number
//! rises with every signal: the gateway takes each once, whatever any clock says.

use super::encode::minute_of;
use crate::{messages::outbox::SignalWord, onion::OnionAddress, signal::SIGNAL_TTL_S_MAX};
use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Sets what is signed apart from everything else that the key could sign.
const DOMAIN: &[u8] = b"tidegate signal v1\0";
/// Where it is sent to.
pub const SIGNAL_PATH: &str = "/signal";
/// Longest body that is looked at, in bytes; a real one has at most 190.
pub const SIGNED_BYTES_MAX: usize = 256;

/// A signal that does not hold: not this form, not by this key, not for this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signal does not verify")]
pub struct SignalInvalid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Ready,
    NotNow,
    Clear,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    word: Word,
    ttl_s: u32,
    sequence: u64,
    signature: String,
}

fn signed_bytes(service: &OnionAddress, word: Word, ttl_s: u32, sequence: u64) -> Vec<u8> {
    let code = match word {
        Word::Ready => 1_u8,
        Word::NotNow => 2,
        Word::Clear => 3,
    };
    [DOMAIN, service.public_key(), &[code], &ttl_s.to_be_bytes(), &sequence.to_be_bytes()].concat()
}

/// The body that says this, signed.
#[must_use]
pub fn issue(seed: &[u8; 32], service: &OnionAddress, word: SignalWord, sequence: u64) -> String {
    let (word, ttl_s) = match word {
        SignalWord::Ready(ttl_s) => (Word::Ready, ttl_s),
        SignalWord::NotNow(ttl_s) => (Word::NotNow, ttl_s),
        SignalWord::Clear => (Word::Clear, 0),
    };
    let signature = SigningKey::from_bytes(seed).sign(&signed_bytes(service, word, ttl_s, sequence));
    let signature = BASE64.encode(&signature.to_bytes());
    // A struct of text and numbers always has a JSON form.
    serde_json::to_string(&Signed { word, ttl_s, sequence, signature }).unwrap_or_default()
}

/// What a body says, and its sequence number.
///
/// # Errors
/// [`SignalInvalid`]; it doesn't say why.
pub fn verify(body: &[u8], receipt_key: &[u8; 32], service: &OnionAddress) -> Result<(SignalWord, u64), SignalInvalid> {
    read(body, receipt_key, service).ok_or(SignalInvalid)
}

fn read(body: &[u8], receipt_key: &[u8; 32], service: &OnionAddress) -> Option<(SignalWord, u64)> {
    let body = (body.len() <= SIGNED_BYTES_MAX).then_some(body)?;
    let Signed { word, ttl_s, sequence, signature } = serde_json::from_slice(body).ok()?;
    let said = match word {
        Word::Ready => SignalWord::Ready(ttl_s),
        Word::NotNow => SignalWord::NotNow(ttl_s),
        Word::Clear => SignalWord::Clear,
    };
    let within = if word == Word::Clear { ttl_s == 0 } else { (1..=SIGNAL_TTL_S_MAX).contains(&ttl_s) };
    let signature = Signature::from_slice(&BASE64.decode(signature.as_bytes()).ok()?).ok()?;
    let key = VerifyingKey::from_bytes(receipt_key).ok()?;
    let by_it = key.verify_strict(&signed_bytes(service, word, ttl_s, sequence), &signature).is_ok();
    (within && by_it).then_some((said, sequence))
}

/// The number of the next signal: above the last one and, so that a sender that lost its memory is heard again, not below the minute
/// (in seconds since 1970) of its clock. A clock that is wrong can't make it fall.
#[must_use]
pub fn next_sequence(last: Option<u64>, now: Timestamp) -> u64 {
    let by_clock = u64::try_from(minute_of(now)).unwrap_or_default();
    last.map_or(by_clock, |last| last.saturating_add(1).max(by_clock))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::wire::receipt::public_key;
    use proptest::prelude::*;

    const SEED: [u8; 32] = [7; 32];

    fn service(byte: u8) -> OnionAddress {
        OnionAddress::from_public_key([byte; 32])
    }

    #[test]
    fn a_signal_is_one_keys_word_to_one_service() {
        let body = issue(&SEED, &service(1), SignalWord::Ready(600), 9);
        let key = public_key(&SEED);
        assert!(body.len() < SIGNED_BYTES_MAX, "{}", body.len());
        assert_eq!(verify(body.as_bytes(), &key, &service(1)), Ok((SignalWord::Ready(600), 9)));
        assert_eq!(verify(body.as_bytes(), &key, &service(2)), Err(SignalInvalid));
        assert_eq!(verify(body.as_bytes(), &public_key(&[8; 32]), &service(1)), Err(SignalInvalid));
        for (from, to) in [("600", "601"), ("\"ready\"", "\"not_now\""), (":9,", ":10,"), ("{", "{\"to\":1,")] {
            let forged = body.replacen(from, to, 1);
            assert_ne!(forged, body);
            assert_eq!(verify(forged.as_bytes(), &key, &service(1)), Err(SignalInvalid), "{forged}");
        }
        let clear = issue(&SEED, &service(1), SignalWord::Clear, u64::MAX);
        assert!(clear.len() < SIGNED_BYTES_MAX);
        assert_eq!(verify(clear.as_bytes(), &key, &service(1)), Ok((SignalWord::Clear, u64::MAX)));
        for beyond in [SignalWord::Ready(0), SignalWord::NotNow(SIGNAL_TTL_S_MAX + 1)] {
            let body = issue(&SEED, &service(1), beyond, 1);
            assert_eq!(verify(body.as_bytes(), &key, &service(1)), Err(SignalInvalid), "{beyond:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_rise_whatever_the_clock_does(clocks in prop::collection::vec(-10_000_i64..4_000_000_000, 1..40)) {
            let mut last = None;
            for second in clocks {
                let next = next_sequence(last, Timestamp::from_second(second).unwrap());
                prop_assert!(last.is_none_or(|last| next > last));
                last = Some(next);
            }
        }

        #[test]
        fn nothing_else_verifies(body in prop::collection::vec(any::<u8>(), 0..300), flip in 0_usize..200, bit in 0_u8..8) {
            let key = public_key(&SEED);
            prop_assert_eq!(verify(&body, &key, &service(1)), Err(SignalInvalid));
            let good = issue(&SEED, &service(1), SignalWord::NotNow(60), 5);
            let mut bad = good.clone().into_bytes();
            let at = flip % bad.len();
            bad[at] ^= 1 << bit;
            // Case and blanks of JSON don't matter; what is said does.
            if let Ok(said) = verify(&bad, &key, &service(1)) {
                prop_assert_eq!(said, (SignalWord::NotNow(60), 5));
            }
        }
    }
}
