//! arti's configuration: the few settings that Tidegate has an opinion on.
//!
//! Folders are the caller's; their permissions are checked by arti, which refuses folders that others may write to. No
//! exit circuits are built in advance, because nothing here ever leaves Tor. The settings of a private network
//! (`lab::ArtiTestSettings`) exist only with the feature `testnet`: in a release there is no way to switch off
//! the checks, to dial a local address, or to believe other authorities.

use std::path::{Path, PathBuf};

use arti_client::TorClientConfig;
use arti_client::config::{CfgPath, TorClientConfigBuilder};
use tidegate_schemas::config::file::Vanguards;
use tor_config::ExplicitOrAuto;
use tor_guardmgr::VanguardMode;

use super::errors::ArtiError;
#[cfg(feature = "testnet")]
use crate::lab::ArtiTestSettings;

/// How the Tor client of a process is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtiSettings {
    /// Keys of onion services and clients, guards: to be kept, and kept secret. One process at a time.
    pub state_folder: PathBuf,
    /// Directory documents: can be deleted at any time.
    pub cache_folder: PathBuf,
    /// How strongly the first relays of a path are kept.
    pub vanguards: Vanguards,
    /// A private network instead of the public one.
    #[cfg(feature = "testnet")]
    pub testnet: Option<ArtiTestSettings>,
}

impl ArtiSettings {
    /// Settings for the public network with everything below `data`, in `data/tor/state` and `data/tor/cache`.
    #[must_use]
    pub fn below(data: &Path, vanguards: Vanguards) -> Self {
        let tor = data.join("tor");
        Self {
            state_folder: tor.join("state"),
            cache_folder: tor.join("cache"),
            vanguards,
            #[cfg(feature = "testnet")]
            testnet: None,
        }
    }

    /// The same for a private network.
    #[cfg(feature = "testnet")]
    #[must_use]
    pub fn on_testnet(mut self, testnet: ArtiTestSettings) -> Self {
        self.testnet = Some(testnet);
        self
    }

    pub(super) fn build(&self) -> Result<TorClientConfig, ArtiError> {
        let mut builder = TorClientConfig::builder();
        builder
            .storage()
            .state_dir(CfgPath::new_literal(&self.state_folder))
            .cache_dir(CfgPath::new_literal(&self.cache_folder));
        builder.address_filter().allow_onion_addrs(true);
        builder.preemptive_circuits().set_initial_predicted_ports(Vec::new());
        let mode = match self.vanguards {
            Vanguards::Lite => VanguardMode::Lite,
            Vanguards::Full => VanguardMode::Full,
        };
        builder.vanguards().mode(ExplicitOrAuto::Explicit(mode));
        self.apply_testnet(&mut builder)?;
        builder.build().map_err(|error| ArtiError::Config { reason: error.to_string() })
    }

    #[cfg(not(feature = "testnet"))]
    fn apply_testnet(&self, _builder: &mut TorClientConfigBuilder) -> Result<(), ArtiError> {
        Ok(())
    }

    #[cfg(feature = "testnet")]
    fn apply_testnet(&self, builder: &mut TorClientConfigBuilder) -> Result<(), ArtiError> {
        use arti_client::config::dir::FallbackDir;
        use tor_llcrypto::pk::{ed25519::Ed25519Identity, rsa::RsaIdentity};

        let Some(testnet) = &self.testnet else { return Ok(()) };
        let wrong = |what: &str| ArtiError::Config { reason: format!("{what} of the private network is malformed") };
        let rsa = |hex: &str, what: &str| RsaIdentity::from_hex(hex).ok_or_else(|| wrong(what));
        let mut v3idents = Vec::new();
        for authority in &testnet.authorities {
            v3idents.push(rsa(&authority.v3ident, "an authority's identity")?);
        }
        let mut fallbacks = Vec::new();
        for relay in &testnet.fallbacks {
            let ed = Ed25519Identity::from_base64(&relay.ed25519_identity)
                .ok_or_else(|| wrong("a relay's Ed25519 identity"))?;
            let mut fallback = FallbackDir::builder();
            fallback.rsa_identity(rsa(&relay.rsa_fingerprint, "a relay's RSA identity")?).ed_identity(ed);
            fallback.orports().push(relay.or_address);
            fallbacks.push(fallback);
        }
        let directories: Vec<_> = testnet.authorities.iter().map(|authority| vec![authority.directory]).collect();
        builder.tor_network().authorities().set_v3idents(v3idents);
        builder.tor_network().authorities().set_uploads(directories.clone());
        builder.tor_network().authorities().set_downloads(directories.clone());
        builder.tor_network().authorities().set_votes(directories);
        builder.tor_network().set_fallback_caches(fallbacks);
        // Tests run below /tmp, which everybody may write to.
        builder.storage().permissions().dangerously_trust_everyone();
        builder.address_filter().allow_local_addrs(true);
        // All relays are on 127.0.0.1: without this they count as one family, and no path has two of them.
        builder.path_rules().ipv4_subnet_family_prefix(33).ipv6_subnet_family_prefix(129);
        let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let params = builder.override_net_params();
        params.insert("hsdir_interval".to_owned(), number(testnet.hsdir_interval_minutes));
        // A flat time-out for circuits: `cbtinitialtimeout` alone is ignored, and a learned one is far too short.
        params.insert("cbtdisabled".to_owned(), 1);
        params.insert("cbtinitialtimeout".to_owned(), number(testnet.circuit_timeout_ms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_settings_make_a_valid_configuration() {
        for vanguards in [Vanguards::Lite, Vanguards::Full] {
            ArtiSettings::below(Path::new("/var/lib/tidegate"), vanguards).build().unwrap();
        }
    }

    #[cfg(feature = "testnet")]
    #[test]
    fn a_malformed_private_network_is_refused() {
        use crate::lab::state::{AuthorityState, NetworkState, STATE_FORMAT};
        let authority = |ed25519_identity: &str| AuthorityState {
            nickname: "auth0".to_owned(),
            or_port: 15001,
            dir_port: 15002,
            hidden_port: 15003,
            v3ident: "AB".repeat(20),
            rsa_fingerprint: "CD".repeat(20),
            ed25519_identity: ed25519_identity.to_owned(),
        };
        let build = |ed: &str| {
            let state = NetworkState {
                format: STATE_FORMAT,
                lag_ms: 0,
                detached: false,
                authorities: vec![authority(ed)],
                processes: vec![],
            };
            ArtiSettings::below(Path::new("/tmp/x"), Vanguards::Lite).on_testnet(state.arti_settings()).build()
        };
        build(&data_encoding::BASE64_NOPAD.encode(&[7; 32])).unwrap();
        assert!(build("not base64").unwrap_err().to_string().contains("Ed25519"));
    }
}
