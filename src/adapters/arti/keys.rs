//! Keys of onion client authorization (rend-spec-v3, "restricted discovery"): x25519 pairs. And the identity of an onion service whose
//! address has to be known before it runs.
//!
//! The client keeps the secret; the service is told the public key, as the line that C tor's `authorized_clients` and
//! arti's restricted discovery both read.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::onion::OnionAddress;
use tor_hscrypto::pk::{HsClientDescEncKey, HsClientDescEncSecretKey, HsIdKeypair};
use tor_llcrypto::pk::curve25519::{PublicKey, StaticSecret};
use tor_llcrypto::pk::ed25519::{ExpandedKeypair, Keypair};

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

/// The identity of an onion service: an ed25519 seed, of which the address is the public key. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceKey([u8; 32]);

impl ServiceKey {
    /// A fresh one.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = [0; 32];
        entropy.fill(&mut seed);
        Self(seed)
    }

    /// From a seed that was kept.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The seed, for the one who keeps it.
    #[must_use]
    pub fn reveal(&self) -> [u8; 32] {
        self.0
    }

    /// The service's address.
    #[must_use]
    pub fn address(&self) -> OnionAddress {
        OnionAddress::from_public_key(SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }

    pub(super) fn arti_keypair(&self) -> HsIdKeypair {
        ExpandedKeypair::from(&Keypair::from_bytes(&self.0)).into()
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[service key]")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_lines_are_those_of_tor() {
        let key = ClientKey::from_secret(std::array::from_fn(|index| u8::try_from(index).unwrap()));
        // Computed by OpenSSL from the same secret.
        assert_eq!(key.public_line(), "descriptor:x25519:R5AMLLNWR4SWESXFWIKOU5T2N3EU3AU5HV5V4GWRXJXT4IJYFBPQ");
        assert_eq!(key.public_line().parse::<HsClientDescEncKey>().unwrap(), key.arti_public());
        let address = OnionAddress::from_public_key([7; 32]);
        let private = key.private_line(&address);
        assert!(private.starts_with(&address.reveal()[..56]) && !private.contains(".onion"));
        assert_eq!(private.len(), 56 + 1 + "descriptor:x25519:".len() + 52);
        assert!(!format!("{key:?}").contains(&private[75..]));
    }

    #[test]
    fn a_service_key_is_artis_key_of_the_same_address() {
        use tor_hscrypto::pk::{HsId, HsIdKey};
        let key = ServiceKey::from_seed([9; 32]);
        let id: HsId = HsIdKey::from(key.arti_keypair()).into();
        assert_eq!(OnionAddress::from_public_key(id.into()), key.address());
        assert_eq!(ServiceKey::from_seed(key.reveal()), key);
        assert_eq!(format!("{key:?}"), "[service key]");
    }
}
