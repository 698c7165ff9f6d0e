//! The configuration files of the private network's tor processes.
//!
//! Every line was measured to be needed, or to make the start quicker. The ones that aren't evident:
//!
//! * `VanguardsLiteEnabled 0`: a C tor that comes up together with its network picks layer-2 guards from a half-full
//!   consensus, then fails to build circuits through them. (arti's vanguards, which Tidegate uses, do work.)
//! * The voting interval of 20 s makes an onion service time period of 8 minutes (24 intervals in a testing network),
//!   which arti has to be told ([`HSDIR_INTERVAL_MINUTES`]). Its own bounds are 5 to 14400 minutes.
//! * Five authorities are also guards, middles, exits and onion service directories: no other relay is needed. With
//!   three, C tor can't build its onion service paths.
//! * `AuthDirVoteStableGuarantee..`: else only relays that have been up for at least the median time are Stable, and one that
//!   started a second after the others isn't. arti builds onion service circuits of Stable relays only, and five leave no
//!   choice.
//! * `OrPort .. NoListen` beside `OrPort .. NoAdvertise` puts the delaying proxy between a relay and all who call it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::control::{COOKIE_FILE, PORT_FILE};
use super::state::AuthorityState;

/// How often the authorities vote, in seconds, after the first votes.
pub const VOTING_INTERVAL_SECONDS: u32 = 20;
/// How often they vote until there is a first consensus, in seconds. A start is aligned to a multiple of it.
pub const FIRST_VOTING_INTERVAL_SECONDS: u32 = 5;
/// How long authorities wait for each other's votes and signatures, in seconds.
const VOTE_DELAY_SECONDS: u32 = 2;
/// For how many intervals a consensus holds.
const CONSENSUS_INTERVALS: u32 = 3;
/// The length of an onion service time period in this network, in minutes.
pub const HSDIR_INTERVAL_MINUTES: u32 = 24 * VOTING_INTERVAL_SECONDS / 60;

/// The lines that every node has: who it is, and which network it belongs to.
#[must_use]
pub fn common(folder: &Path, nickname: &str, authorities: &[AuthorityState]) -> String {
    let data = folder.display();
    let mut torrc = format!(
        "TestingTorNetwork 1\n\
         DataDirectory {data}\n\
         Nickname {nickname}\n\
         RunAsDaemon 0\n\
         ShutdownWaitLength 0\n\
         Log notice stdout\n\
         VanguardsLiteEnabled 0\n"
    );
    for authority in authorities {
        let AuthorityState { nickname, or_port, dir_port, v3ident, rsa_fingerprint, .. } = authority;
        // Writing to a String can't fail.
        let _ = writeln!(
            torrc,
            "DirAuthority {nickname} orport={or_port} no-v2 v3ident={v3ident} 127.0.0.1:{dir_port} {rsa_fingerprint}"
        );
    }
    torrc
}

/// The lines that make a node an authority and a relay. `hidden_port` is where it really listens behind the proxy.
#[must_use]
pub fn authority(or_port: u16, dir_port: u16, hidden_port: Option<u16>) -> String {
    let or_lines = match hidden_port {
        None => format!("OrPort 127.0.0.1:{or_port} IPv4Only\n"),
        Some(hidden) => format!(
            "OrPort 127.0.0.1:{or_port} NoListen IPv4Only\n\
             OrPort 127.0.0.1:{hidden} NoAdvertise IPv4Only\n"
        ),
    };
    format!(
        "SocksPort 0\n\
         Address 127.0.0.1\n\
         {or_lines}\
         DirPort 127.0.0.1:{dir_port}\n\
         ExitRelay 1\n\
         ExitPolicy accept 127.0.0.0/8:*\n\
         ExitPolicyRejectPrivate 0\n\
         AssumeReachable 1\n\
         NumCPUs 1\n\
         AuthoritativeDirectory 1\n\
         V3AuthoritativeDirectory 1\n\
         ContactInfo test@invalid\n\
         TestingV3AuthInitialVotingInterval {FIRST_VOTING_INTERVAL_SECONDS}\n\
         TestingV3AuthInitialVoteDelay {VOTE_DELAY_SECONDS}\n\
         TestingV3AuthInitialDistDelay {VOTE_DELAY_SECONDS}\n\
         V3AuthVotingInterval {VOTING_INTERVAL_SECONDS}\n\
         V3AuthVoteDelay {VOTE_DELAY_SECONDS}\n\
         V3AuthDistDelay {VOTE_DELAY_SECONDS}\n\
         V3AuthNIntervalsValid {CONSENSUS_INTERVALS}\n\
         TestingDirAuthVoteExit *\n\
         TestingDirAuthVoteGuard *\n\
         TestingDirAuthVoteHSDir *\n\
         TestingMinExitFlagThreshold 0\n\
         AuthDirFastGuarantee 1 KBytes\n\
         AuthDirVoteStableGuaranteeMinUptime 1 second\n\
         AuthDirVoteStableGuaranteeMTBF 1 second\n"
    )
}

/// The lines that give a client or an onion service host a control port.
#[must_use]
pub fn control(folder: &Path) -> String {
    let data = folder.display();
    format!(
        "ControlPort 127.0.0.1:auto\n\
         ControlPortWriteToFile {data}/{PORT_FILE}\n\
         CookieAuthentication 1\n\
         CookieAuthFile {data}/{COOKIE_FILE}\n"
    )
}

/// The lines of a client. Port 0 lets tor choose; `flags` follow it (`ExtendedErrors`, for one).
#[must_use]
pub fn client(socks_port: u16, flags: &str, keys: &Path) -> String {
    let port = if socks_port == 0 { "auto".to_owned() } else { socks_port.to_string() };
    format!("SocksPort 127.0.0.1:{port} {flags}\nClientOnionAuthDir {}\n", keys.display())
}

/// The lines of an onion service host. It starts with its network off, so that we can listen before anything happens.
#[must_use]
pub fn hidden_service(folder: &Path, virtual_port: u16, target: SocketAddr, names_circuits: bool) -> String {
    let names = if names_circuits { "HiddenServiceExportCircuitID haproxy\n" } else { "" };
    format!(
        "SocksPort 0\n\
         DisableNetwork 1\n\
         HiddenServiceDir {}\n\
         HiddenServiceVersion 3\n\
         HiddenServicePort {virtual_port} {target}\n{names}",
        folder.display()
    )
}

/// A throw-away configuration for `tor --list-fingerprint`, which makes a relay's keys. It wants some authority.
#[must_use]
pub fn fingerprint(folder: &Path, nickname: &str, or_port: u16) -> String {
    let nobody = "F".repeat(40);
    format!(
        "TestingTorNetwork 1\n\
         DataDirectory {}\n\
         Nickname {nickname}\n\
         Address 127.0.0.1\n\
         OrPort 127.0.0.1:{or_port}\n\
         DirAuthority nobody orport=1 v3ident={nobody} 127.0.0.1:1 {nobody}\n",
        folder.display()
    )
}

/// Whether tor's configuration format can hold this path on a line as it is.
#[must_use]
pub fn can_hold(path: &Path) -> bool {
    path.to_str().is_some_and(|text| !text.contains(['#', '"', '\\', '\n', '\r']) && text.trim() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_moves_the_listener_but_not_the_announced_port() {
        let plain = authority(15001, 15002, None);
        assert!(plain.contains("\nOrPort 127.0.0.1:15001 IPv4Only\n") && !plain.contains("NoListen"));
        let lagging = authority(15001, 15002, Some(15003));
        assert!(lagging.contains("\nOrPort 127.0.0.1:15001 NoListen IPv4Only\n"));
        assert!(lagging.contains("\nOrPort 127.0.0.1:15003 NoAdvertise IPv4Only\n"));
    }

    #[test]
    fn the_time_period_suits_arti() {
        assert_eq!(HSDIR_INTERVAL_MINUTES * 60, 24 * VOTING_INTERVAL_SECONDS);
        assert!((5..=14_400).contains(&HSDIR_INTERVAL_MINUTES));
    }

    #[test]
    fn paths_that_tor_would_cut_are_refused() {
        assert!(can_hold(Path::new("/tmp/with space/x")));
        for bad in ["/tmp/a#b", "/tmp/a\nb", "/tmp/a\"b", "/tmp/a "] {
            assert!(!can_hold(Path::new(bad)), "{bad:?}");
        }
    }
}
