//! Keys of onion client authorization (rend-spec-v3, "restricted discovery"): x25519 pairs.
//!
//! The client keeps the secret; the service is told the public key, as the line that C tor's `authorized_clients` and
//! arti's restricted discovery both read.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::onion::OnionAddress;
use tor_hscrypto::pk::{HsClientDescEncKey, HsClientDescEncSecretKey};
use tor_llcrypto::pk::curve25519::{PublicKey, StaticSecret};

/// A client's key pair for one service. The secret is wiped when it is dropped, and never shown by `Debug`.
pub struct ClientKey(StaticSecret);

impl ClientKey {
    /// A fresh one.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        Self::from_secret(secret)
    }

    /// From a secret that was kept.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(StaticSecret::from(secret))
    }

    /// The secret, for the one who keeps it.
    #[must_use]
    pub fn reveal(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What the service is told: `descriptor:x25519:BASE32`.
    #[must_use]
    pub fn public_line(&self) -> String {
        format!("descriptor:x25519:{}", BASE32_NOPAD.encode(self.public().as_bytes()))
    }

    /// The content of a `.auth_private` file, as C tor reads it: the address without `.onion`, and the secret.
    #[must_use]
    pub fn private_line(&self, service: &OnionAddress) -> String {
        let address = service.reveal();
        let id = address.trim_end_matches(".onion");
        format!("{id}:descriptor:x25519:{}", BASE32_NOPAD.encode(&self.0.to_bytes()))
    }

    fn public(&self) -> PublicKey {
        PublicKey::from(&self.0)
    }

    pub(super) fn arti_public(&self) -> HsClientDescEncKey {
        self.public().into()
    }

    pub(super) fn arti_secret(&self) -> HsClientDescEncSecretKey {
        self.0.clone().into()
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[client key]")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_lines_are_those_of_tor() {
        // RFC 7748, section 6.1: Alice's pair.
        let secret = data_encoding::HEXLOWER
            .decode(b"77076d0a7318a57d3c16c17251b26645e4c6a0ee4b3b6e4f8d3b0e6b0d2b4f2a")
            .unwrap();
        let key = ClientKey::from_secret(secret.try_into().unwrap());
        let line = key.public_line();
        assert_eq!(line.len(), "descriptor:x25519:".len() + 52);
        assert_eq!(line.parse::<HsClientDescEncKey>().unwrap(), key.arti_public());
        let address = OnionAddress::from_public_key([7; 32]);
        let private = key.private_line(&address);
        assert!(private.starts_with(&address.reveal()[..56]) && !private.contains(".onion"));
        assert_eq!(private.len(), 56 + 1 + "descriptor:x25519:".len() + 52);
        assert!(!format!("{key:?}").contains(&private[75..]));
    }
}
