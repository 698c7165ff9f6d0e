//! What a receiver needs to signal to a gateway: where the gateway hears it, the key to find that place, the key that signs, and the
//! number of its last signal.
//!
//! The first two are the line that the gateway's `tidegate destination signal-key` printed; it lies in the receiver's folder as
//! `GATEWAY.signal_key`. The number lies beside it as `GATEWAY.signal_sequence`, and is on disk before a signal leaves: whatever becomes of
//! one, the next has a higher number. One process at a time may take numbers; the lock of the Tor client's folder sees to that.

use super::rights::{self, RightsError};
use crate::adapters::arti::ClientKey;
use data_encoding::BASE32_NOPAD;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use tidegate_schemas::{
    id::DestinationId,
    messages::outbox::SignalWord,
    onion::{OnionAddress, OnionEndpoint},
    wire::signal::{issue, next_sequence},
};

/// Ends the name of the file with what the gateway printed.
pub const SIGNAL_KEY_SUFFIX: &str = "signal_key";
/// Ends the name of the file with the number of the last signal.
const SEQUENCE_SUFFIX: &str = "signal_sequence";

/// Why a receiver can't signal.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// Its own keys.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The receiver never ran.
    #[error("there is no receiver in {}: start it once, or name its folder with --folder", .0.display())]
    NoReceiver(PathBuf),
    /// The gateway's line is missing.
    #[error(
        "there is no {}: run `tidegate destination signal-key NAME` at the gateway, and put what it prints there",
        .0.display()
    )]
    NoKey(PathBuf),
    /// It is not that line.
    #[error("{} is not what `tidegate destination signal-key` printed", .0.display())]
    BadKey(PathBuf),
}

/// A receiver's voice at one gateway. `Debug` shows no key and no address.
pub struct Speaker {
    service: OnionAddress,
    client_secret: [u8; 32],
    seed: [u8; 32],
    sequence: PathBuf,
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[speaker]")
    }
}

/// Where the gateway's line belongs.
#[must_use]
pub fn signal_key_file(folder: &Path, gateway: &DestinationId) -> PathBuf {
    folder.join(format!("{gateway}.{SIGNAL_KEY_SUFFIX}"))
}

impl Speaker {
    /// Reads what the folder of a receiver has for this gateway. Blocks.
    ///
    /// # Errors
    /// When something is missing or damaged; the error says what to do.
    pub fn open(folder: &Path, gateway: &DestinationId) -> Result<Self, SpeakerError> {
        let seed = rights::kept_receipt_seed(folder)?.ok_or_else(|| SpeakerError::NoReceiver(folder.to_owned()))?;
        let path = signal_key_file(folder, gateway);
        let line = rights::read_file(&path)?.ok_or_else(|| SpeakerError::NoKey(path.clone()))?;
        let (service, client_secret) = parse(line.trim()).ok_or(SpeakerError::BadKey(path))?;
        Ok(Self { service, client_secret, seed, sequence: folder.join(format!("{gateway}.{SEQUENCE_SUFFIX}")) })
    }

    /// Where the gateway hears it.
    #[must_use]
    pub fn endpoint(&self) -> OnionEndpoint {
        OnionEndpoint { address: self.service.clone(), port: 80 }
    }

    /// The key to find that place.
    #[must_use]
    pub fn client_key(&self) -> ClientKey {
        ClientKey::from_secret(self.client_secret)
    }

    /// The signed body that says this, with a number of its own that is on disk now. It may be sent several times. Blocks.
    ///
    /// # Errors
    /// When the number can't be read or kept.
    pub fn say(&self, word: SignalWord, now: Timestamp) -> Result<String, SpeakerError> {
        let last = match rights::read_file(&self.sequence)? {
            Some(text) => Some(text.trim().parse().map_err(|_| RightsError::Damaged(self.sequence.clone()))?),
            None => None,
        };
        let sequence = next_sequence(last, now);
        rights::write_private(&self.sequence, &format!("{sequence}\n"))?;
        Ok(issue(&self.seed, &self.service, word, sequence))
    }
}

/// `ADDRESS:descriptor:x25519:KEY`, the form of tor's `.auth_private` files.
fn parse(line: &str) -> Option<(OnionAddress, [u8; 32])> {
    let (address, key) = line.split_once(":descriptor:x25519:")?;
    let address = format!("{address}.onion").parse().ok()?;
    let key = BASE32_NOPAD.decode(key.trim_end_matches('=').to_ascii_uppercase().as_bytes()).ok()?;
    Some((address, key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::receiver::rights::Rights;
    use std::fs;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;
    use tidegate_schemas::wire::{receipt::public_key, signal::verify};

    #[test]
    fn what_it_says_is_signed_numbered_and_for_that_gateway_alone() {
        let folder = tempfile::tempdir().unwrap();
        let gateway: DestinationId = "ward".parse().unwrap();
        let open = || Speaker::open(folder.path(), &gateway);
        assert!(matches!(open(), Err(SpeakerError::NoReceiver(_))));
        Rights::open(folder.path(), &[], false, &SeededEntropy::new(1)).unwrap();
        assert!(matches!(open(), Err(SpeakerError::NoKey(_))));
        let file = signal_key_file(folder.path(), &gateway);
        for bad in ["", "x:descriptor:x25519:y", "descriptor:x25519:AAAA"] {
            fs::write(&file, bad).unwrap();
            assert!(matches!(open(), Err(SpeakerError::BadKey(_))), "{bad}");
        }
        let service = OnionAddress::from_public_key([7; 32]);
        let key = ClientKey::from_secret([9; 32]);
        fs::write(&file, format!("{}\n", key.private_line(&service))).unwrap();
        let speaker = open().unwrap();
        assert_eq!((speaker.endpoint().address, speaker.client_key().reveal()), (service.clone(), [9; 32]));
        let seed = rights::kept_receipt_seed(folder.path()).unwrap().unwrap();
        let now: Timestamp = "2027-01-04T12:00:30Z".parse().unwrap();
        let mut last = 0;
        for _ in 0..3 {
            // Anew each time, as after a restart.
            let body = open().unwrap().say(SignalWord::Ready(60), now).unwrap();
            let (word, number) = verify(body.as_bytes(), &public_key(&seed), &service).unwrap();
            assert!(word == SignalWord::Ready(60) && number > last);
            last = number;
        }
        fs::write(folder.path().join("ward.signal_sequence"), "many").unwrap();
        assert!(speaker.say(SignalWord::Clear, now).is_err(), "a number that is not known is not guessed");
    }
}
