//! Where the broker is, without a look-up in the DNS (PR-5): an address, `localhost`, or a name in the hosts file.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// The hosts file of the system.
pub(super) const HOSTS_FILE: &str = "/etc/hosts";
/// Largest hosts file that is read, in bytes.
const HOSTS_BYTES_MAX: u64 = 1024 * 1024;

/// The address of a host.
///
/// # Errors
/// A sentence for the operator.
pub(super) async fn resolve(host: &str, hosts_file: &Path) -> Result<IpAddr, String> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(address);
    }
    let text = read(hosts_file).await.map_err(|error| format!("could not read {}: {error}", hosts_file.display()));
    match text.map(|text| find(&text, host)) {
        Ok(Some(address)) => Ok(address),
        _ if host.eq_ignore_ascii_case("localhost") => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Ok(None) => Err(format!(
            "the broker's name {host:?} is not in {}; the gateway asks no DNS server, so write its address or add it there",
            hosts_file.display()
        )),
        Err(reason) => Err(reason),
    }
}

async fn read(path: &Path) -> io::Result<String> {
    if tokio::fs::metadata(path).await?.len() > HOSTS_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {HOSTS_BYTES_MAX} bytes")));
    }
    tokio::fs::read_to_string(path).await
}

fn find(hosts: &str, name: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let mut fields = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address: IpAddr = fields.next()?.parse().ok()?;
        fields.any(|field| field.eq_ignore_ascii_case(name)).then_some(address)
    })
}

/// A host as a URL has it: IPv6 in brackets.
pub(super) fn in_brackets(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn addresses_localhost_and_hosts_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hosts");
        std::fs::write(&file, "# comment\n192.0.2.7 broker broker.lan # mine\nnonsense broker2\n2001:db8::1 six\n").unwrap();
        let find = async |host: &str| resolve(host, &file).await;
        assert_eq!(find("127.0.0.1").await, Ok([127, 0, 0, 1].into()));
        assert_eq!(find("::1").await.map(in_brackets), Ok("[::1]".to_owned()));
        assert_eq!(find("[::1]").await.map(in_brackets), Ok("[::1]".to_owned()));
        assert_eq!(find("BROKER.lan").await, Ok([192, 0, 2, 7].into()));
        assert_eq!(find("six").await.map(in_brackets), Ok("[2001:db8::1]".to_owned()));
        assert_eq!(find("localhost").await, Ok([127, 0, 0, 1].into()));
        assert!(find("mine").await.unwrap_err().contains("asks no DNS server"));
        assert_eq!(resolve("localhost", Path::new("/nowhere")).await, Ok([127, 0, 0, 1].into()));
        assert!(resolve("broker", Path::new("/nowhere")).await.is_err());
    }
}
