//! Onion addresses, version 3, and nothing else: what does not parse here can never be a place to send data to (PR-5).
//!
//! An address is 56 base32 characters and `.onion`; they hold a 32-byte public key, a 2-byte checksum and the version byte 3
//! (Tor's rend-spec-v3, section 6). Sensitive: `Debug` and `Display` redact it, [`OnionAddress::reveal`] is the greppable way out.

use serde::{Deserialize, Serialize};
use sha3::{Digest, Sha3_256};
use std::{fmt, str::FromStr};

/// The label of the checksum, from rend-spec-v3.
const CHECKSUM_LABEL: &[u8] = b".onion checksum";

/// Length of an address before `.onion`.
const ADDRESS_CHARACTERS: usize = 56;

/// A version 3 onion address whose checksum is right.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OnionAddress {
    public_key: [u8; 32],
}

/// Why a text is not an onion address. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseOnionAddressError {
    /// Not under `.onion`.
    #[error("destinations are onion services only: the address must end in \".onion\"")]
    NotOnion,
    /// A sub-domain.
    #[error("an onion address has no sub-domain here: give the 56 characters and \".onion\" alone")]
    SubDomain,
    /// An address of the old version 2, which Tor no longer carries.
    #[error(
        "this is a version 2 onion address (16 characters): Tor dropped them in 2021, ask for the version 3 address"
    )]
    Version2,
    /// Not 56 characters.
    #[error("a version 3 onion address has 56 characters before \".onion\", this one has {0}")]
    Length(usize),
    /// Not base32.
    #[error("an onion address has the characters a-z and 2-7 only")]
    Base32,
    /// The checksum doesn't fit.
    #[error("the checksum of this onion address is wrong: it has a typing error, or was cut")]
    Checksum,
    /// Another version byte.
    #[error("this onion address has version {0}, not 3")]
    Version(u8),
}

impl OnionAddress {
    /// The address of the service with this ed25519 public key.
    #[must_use]
    pub fn from_public_key(public_key: [u8; 32]) -> Self {
        Self { public_key }
    }

    /// The service's ed25519 public key, which is the address.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The whole address in clear, for the one who dials it or prints it on request.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = [0_u8; 35];
        bytes[..32].copy_from_slice(&self.public_key);
        bytes[32..34].copy_from_slice(&checksum(&self.public_key));
        bytes[34] = 3;
        format!("{}.onion", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

fn checksum(public_key: &[u8; 32]) -> [u8; 2] {
    let digest = Sha3_256::new().chain_update(CHECKSUM_LABEL).chain_update(public_key).chain_update([3]).finalize();
    [digest[0], digest[1]]
}

impl FromStr for OnionAddress {
    type Err = ParseOnionAddressError;

    fn from_str(text: &str) -> Result<Self, ParseOnionAddressError> {
        let lower = text.trim().to_ascii_lowercase();
        let name = lower.strip_suffix(".onion").ok_or(ParseOnionAddressError::NotOnion)?;
        if name.contains('.') {
            return Err(ParseOnionAddressError::SubDomain);
        }
        if name.len() == 16 {
            return Err(ParseOnionAddressError::Version2);
        }
        if name.len() != ADDRESS_CHARACTERS {
            return Err(ParseOnionAddressError::Length(name.len()));
        }
        let bytes = data_encoding::BASE32_NOPAD
            .decode(name.to_ascii_uppercase().as_bytes())
            .map_err(|_| ParseOnionAddressError::Base32)?;
        let public_key: [u8; 32] = bytes[..32].try_into().map_err(|_| ParseOnionAddressError::Base32)?;
        if bytes[34] != 3 {
            return Err(ParseOnionAddressError::Version(bytes[34]));
        }
        if bytes[32..34] != checksum(&public_key) {
            return Err(ParseOnionAddressError::Checksum);
        }
        Ok(Self { public_key })
    }
}

impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[onion address]")
    }
}
impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[onion address]")
    }
}

/// A text of somebody else's, such as an error of a server, with every onion address in it replaced. Those are taken for one that
/// stand before `.onion` and are long enough, and what has just the length and the characters of one.
#[must_use]
pub fn without_onion_addresses(text: &str) -> String {
    const SUFFIX: &str = ".onion";
    let is_base32 = |c: char| c.is_ascii_alphabetic() || ('2'..='7').contains(&c);
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_base32) {
        let (before, word) = rest.split_at(start);
        let length = word.find(|c| !is_base32(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(length);
        let suffix = after.get(..SUFFIX.len()).is_some_and(|next| next.eq_ignore_ascii_case(SUFFIX));
        clean.push_str(before);
        if length == ADDRESS_CHARACTERS || (suffix && length > ADDRESS_CHARACTERS) {
            clean.push_str("[onion address]");
            rest = if suffix { &after[SUFFIX.len()..] } else { after };
        } else {
            clean.push_str(word);
            rest = after;
        }
    }
    clean.push_str(rest);
    clean
}

/// Where an onion service listens: its address and a port. Text form `ADDRESS.onion:PORT`; the port is 80 unless said.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OnionEndpoint {
    /// The service.
    pub address: OnionAddress,
    /// Its virtual port.
    pub port: u16,
}

/// Why a text is not an onion endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseOnionEndpointError {
    /// The address part is wrong.
    #[error(transparent)]
    Address(#[from] ParseOnionAddressError),
    /// The port part is wrong.
    #[error("the port after the onion address must be a number from 1 to 65535")]
    Port,
}

impl FromStr for OnionEndpoint {
    type Err = ParseOnionEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseOnionEndpointError> {
        let (address, port) = match text.rsplit_once(':') {
            Some((address, port)) => {
                (address, port.parse().ok().filter(|p| *p != 0).ok_or(ParseOnionEndpointError::Port)?)
            }
            None => (text, 80),
        };
        Ok(Self { address: address.parse()?, port })
    }
}

impl OnionEndpoint {
    /// `ADDRESS.onion:PORT` in clear.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}:{}", self.address.reveal(), self.port)
    }
}
impl fmt::Debug for OnionEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[onion endpoint]")
    }
}
impl Serialize for OnionEndpoint {
    /// In clear: only stores and files of the gateway's own serialise this type; views carry aliases.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.reveal())
    }
}
impl<'de> Deserialize<'de> for OnionEndpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    /// The Tor Project's own web site.
    const REAL: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

    #[test]
    fn addresses_are_taken_out_of_what_others_say() {
        let address = OnionAddress::from_public_key([7; 32]).reveal();
        let bare = address.trim_end_matches(".onion");
        for (text, clean) in [
            (format!("User @gateway:{address} not in room"), "User @gateway:[onion address] not in room"),
            (format!("({}:80)", address.to_ascii_uppercase()), "([onion address]:80)"),
            (format!("x{address}"), "[onion address]"),
            (bare.to_owned(), "[onion address]"),
            (format!("ä {bare}ä{bare}.oni"), "ä [onion address]ä[onion address].oni"),
            (format!("{} .onion short.onion", &bare[..55]), &*format!("{} .onion short.onion", &bare[..55])),
            (String::new(), ""),
        ] {
            assert_eq!(without_onion_addresses(&text), clean);
        }
    }

    #[test]
    fn a_real_address_parses_and_comes_back() {
        assert_eq!(REAL.parse::<OnionAddress>().unwrap().reveal(), REAL);
    }

    #[test]
    fn one_wrong_character_is_seen_by_the_checksum() {
        let wrong = REAL.replacen('g', "h", 1);
        assert_eq!(wrong.parse::<OnionAddress>(), Err(ParseOnionAddressError::Checksum));
    }

    #[test]
    fn what_is_not_an_onion_address_is_refused_with_its_reason() {
        for (text, error) in [
            ("example.com", ParseOnionAddressError::NotOnion),
            ("127.0.0.1", ParseOnionAddressError::NotOnion),
            ("duskgytldkxiuqc6.onion", ParseOnionAddressError::Version2),
            ("abc.onion", ParseOnionAddressError::Length(3)),
            (&format!("www.{REAL}"), ParseOnionAddressError::SubDomain),
        ] {
            assert_eq!(text.parse::<OnionAddress>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_address_redacts_itself() {
        let endpoint: OnionEndpoint = format!("{REAL}:8080").parse().unwrap();
        assert!(!format!("{endpoint:?} {:?} {}", endpoint.address, endpoint.address).contains("2gzyxa"));
        assert_eq!(endpoint.port, 8080);
    }

    proptest! {
        #[test]
        fn every_key_has_an_address_that_parses_back(key: [u8; 32]) {
            let address = OnionAddress::from_public_key(key);
            prop_assert_eq!(address.reveal().parse::<OnionAddress>().unwrap(), address);
        }

        #[test]
        fn no_text_panics(text in ".{0,90}") {
            let _ = text.parse::<OnionEndpoint>();
        }
    }
}
