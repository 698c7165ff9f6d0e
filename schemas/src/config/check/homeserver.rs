//! `[matrix]`: a homeserver that can be reached without a look-up and without an exit of Tor.

use super::Checker;
use crate::{
    config::{
        file::{Homeserver, MATRIX_SESSION_FILE, MatrixConfig, TorConfig, TorTransport},
        raw::{RawMatrix, RawSecret},
    },
    onion::{OnionEndpoint, without_onion_addresses},
};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Default of `matrix.room`.
const ROOM: &str = "tidegate";
/// Most users who are invited.
const INVITES_MAX: usize = 64;
/// Longest password of the gateway's user, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 4_096;
/// The port of `http://` without one (RFC 9110, section 4.2.1).
const HTTP_PORT: u16 = 80;

/// A sentence on what is wrong, and one on what to do.
type Refusal = (String, &'static str);

impl Checker<'_> {
    /// The room; `None` when something that it can't do without is missing or wrong.
    pub(super) fn matrix(&mut self, raw: RawMatrix, tor: &TorConfig, state_dir: &Path) -> Option<MatrixConfig> {
        let homeserver = match raw.homeserver.as_deref().map(parse_homeserver) {
            Some(Ok(homeserver)) => {
                if matches!((&homeserver, &tor.transport), (Homeserver::Onion(_), TorTransport::Socks(_))) {
                    self.refuse(
                        "matrix.homeserver",
                        "an onion service as homeserver is reached through the built-in Tor client alone",
                        "set tor.transport = \"arti\", or use a homeserver on loopback or a private address",
                    );
                }
                Some(homeserver)
            }
            Some(Err((message, hint))) => {
                self.refuse("matrix.homeserver", message, hint);
                None
            }
            None => {
                let hint = "add homeserver = \"http://127.0.0.1:8008\", or leave [matrix] out";
                self.refuse("matrix.homeserver", "[matrix] needs a homeserver", hint);
                None
            }
        };
        let user = raw.user.filter(|user| !user.is_empty());
        if user.is_none() {
            self.refuse(
                "matrix.user",
                "[matrix] needs the user that the gateway logs in as",
                "add user = \"tidegate\"",
            );
        }
        let password_file = raw.password.map(|secret| self.room_password(secret, state_dir));
        if password_file.is_none() {
            let hint = "add password = { file = \"matrix.password\" }";
            self.refuse("matrix.password", "[matrix] needs the file with the password of its user", hint);
        }
        let room = raw.room.unwrap_or_else(|| ROOM.to_owned());
        if room.is_empty() || room.contains(['#', ':', ' ']) {
            let hint = "write \"tidegate\" for the room #tidegate:SERVER";
            self.refuse("matrix.room", format!("not the local part of a room's alias: {room:?}"), hint);
        }
        if raw.invite.len() > INVITES_MAX {
            self.refuse("matrix.invite", format!("more than {INVITES_MAX} users"), "invite the others from the room");
        }
        for (index, user) in raw.invite.iter().enumerate() {
            let full = user.strip_prefix('@').and_then(|rest| rest.split_once(':'));
            if full.is_none_or(|(name, server)| name.is_empty() || server.is_empty()) {
                let message = format!("not the full id of a user: {:?}", without_onion_addresses(user));
                self.refuse(format!("matrix.invite[{index}]"), message, "write it as \"@nurse:example.org\"");
            }
        }
        Some(MatrixConfig {
            homeserver: homeserver?,
            user: user?,
            password_file: password_file?,
            room,
            invite: raw.invite,
        })
    }
}

impl Checker<'_> {
    /// The file with the password of the gateway's user. Once the gateway has logged in, it may be gone.
    fn room_password(&mut self, secret: RawSecret, state_dir: &Path) -> PathBuf {
        let file = self.path(secret.file);
        let read = self.around.read_file;
        match read(&file) {
            Ok(text) => match text.trim_end_matches(['\r', '\n']).len() {
                1..=PASSWORD_BYTES_MAX => {}
                0 => self.refuse("matrix.password.file", format!("{} is empty", file.display()), ""),
                bytes => {
                    let message = format!("{} holds {bytes} bytes, which are no password", file.display());
                    self.refuse("matrix.password.file", message, "");
                }
            },
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && read(&state_dir.join(MATRIX_SESSION_FILE)).is_ok() =>
            {
                self.warn(
                    "matrix.password.file",
                    format!("{} is not there: the gateway can't log in again if it has to", file.display()),
                    "as long as the homeserver takes the log-in that is kept, it does not have to",
                );
            }
            Err(error) => {
                let message = format!("{} could not be read: {error}", file.display());
                let hint = "a relative path begins at the folder of this config file";
                self.refuse("matrix.password.file", message, hint);
            }
        }
        file
    }
}

fn parse_homeserver(text: &str) -> Result<Homeserver, Refusal> {
    let text = text.trim();
    if text.starts_with("https://") {
        return Err((
            "https is not spoken to a homeserver yet".to_owned(),
            "use http:// on loopback, on a private address, or to an onion service, which Tor encrypts",
        ));
    }
    let place = text.strip_prefix("http://").unwrap_or(text);
    let place = place.strip_suffix('/').unwrap_or(place);
    if place.is_empty() || place.contains(['/', '?', '#', '@']) {
        return Err(("not the place of a homeserver".to_owned(), "write it as \"http://127.0.0.1:8008\""));
    }
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    if host.to_ascii_lowercase().ends_with(".onion") {
        let endpoint: Result<OnionEndpoint, _> = place.parse();
        return endpoint.map(Homeserver::Onion).map_err(|error| (error.to_string(), ""));
    }
    let address = parse_address(place).ok_or_else(|| {
        (
            format!("{host:?} is a name, and the gateway asks no name server"),
            "write the homeserver's address, or its onion address",
        )
    })?;
    if address.port() == 0 {
        return Err(("0 is no port".to_owned(), "Synapse listens on 8008"));
    }
    if is_near(address.ip()) {
        Ok(Homeserver::Address(address))
    } else {
        Err((
            format!("{} is a public address: its network would learn where this gateway is", address.ip()),
            "use a homeserver on loopback, on a private address, or an onion service",
        ))
    }
}

fn parse_address(place: &str) -> Option<SocketAddr> {
    let lower = place.to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix("localhost") {
        let port = if rest.is_empty() { HTTP_PORT } else { rest.strip_prefix(':')?.parse().ok()? };
        return Some((Ipv4Addr::LOCALHOST, port).into());
    }
    let bare = lower.trim_start_matches('[').trim_end_matches(']');
    place.parse().ok().or_else(|| bare.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, HTTP_PORT)))
}

/// Loopback, or an address of a private network (RFC 1918, RFC 4193).
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn address(text: &str) -> String {
        match parse_homeserver(text) {
            Ok(Homeserver::Address(address)) => address.to_string(),
            Ok(Homeserver::Onion(_)) => "onion".to_owned(),
            Err((message, _)) => message,
        }
    }

    #[test]
    fn near_homeservers_are_taken() {
        for (text, taken) in [
            ("http://127.0.0.1:8008", "127.0.0.1:8008"),
            ("http://localhost:8008/", "127.0.0.1:8008"),
            ("localhost", "127.0.0.1:80"),
            ("http://192.168.1.2:8008", "192.168.1.2:8008"),
            ("http://[::1]:8008", "[::1]:8008"),
            ("http://[fd00::7]", "[fd00::7]:80"),
        ] {
            assert_eq!(address(text), taken, "{text}");
        }
        let onion = "http://2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";
        let Homeserver::Onion(endpoint) = parse_homeserver(onion).unwrap() else { panic!("not an onion service") };
        assert_eq!(endpoint.port, 80);
    }

    #[test]
    fn far_homeservers_are_refused_with_the_reason() {
        for (text, reason) in [
            ("https://127.0.0.1:8448", "https is not spoken"),
            ("http://matrix.org", "is a name"),
            ("http://localhost.evil.example:80", "is a name"),
            ("http://1.1.1.1:8008", "public address"),
            ("http://[::ffff:1.1.1.1]:8008", "public address"),
            ("http://2hzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion", "checksum"),
            ("http://127.0.0.1:8008/_matrix", "not the place"),
            ("http://user@127.0.0.1", "not the place"),
        ] {
            assert!(address(text).contains(reason), "{text}: {}", address(text));
        }
    }
}
