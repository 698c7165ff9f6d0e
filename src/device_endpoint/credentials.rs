//! Device credentials at the door: `devices.toml` in the state folder, read again when it changes, and who a request is from.
//!
//! A device presents its name and its secret by `Authorization: Basic`, or `Authorization: Bearer NAME:SECRET` where a client
//! library has no Basic. The file keeps hashes alone; they are compared in constant time, and a name that doesn't exist
//! takes as long as one that does.

use crate::{
    admin::problem::HttpProblem,
    reread::{self, RereadError},
};
use actix_web::{HttpRequest, http::header};
use std::path::Path;
use subtle::ConstantTimeEq as _;
use tidegate_schemas::{
    config::devices::{DeviceCredential, Devices, hash_secret},
    id::DeviceId,
};

/// What is asked of a device without credentials.
const CHALLENGE: &str = "Basic realm=\"tidegate\", charset=\"UTF-8\"";

/// Reads a file of credentials; one that does not exist has none.
///
/// # Errors
/// When it can't be read or understood.
pub fn read_devices(path: &Path) -> Result<Devices, RereadError> {
    reread::read(path, Devices::parse)
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A program on this machine, while no device has credentials.
    Trusted,
    /// This device.
    Device(DeviceCredential),
}

/// Who makes this request.
///
/// # Errors
/// 401 if it must say so and does not, or says it wrongly.
pub(super) fn identify(devices: &Devices, loopback: bool, request: &HttpRequest) -> Result<Caller, HttpProblem> {
    let header = request.headers().get(header::AUTHORIZATION);
    if header.is_none() && loopback && devices.is_empty() {
        return Ok(Caller::Trusted);
    }
    let presented = header.and_then(|value| value.to_str().ok()).and_then(name_and_secret);
    presented.and_then(|(name, secret)| verify(devices, &name, &secret)).map(Caller::Device).ok_or_else(|| {
        HttpProblem::unauthorized(
            CHALLENGE,
            "a device presents its name and its secret: add it with `tidegate device add NAME --destinations ...`",
        )
    })
}

fn name_and_secret(header: &str) -> Option<(String, String)> {
    let (scheme, rest) = header.split_once(' ')?;
    let text = if scheme.eq_ignore_ascii_case("basic") {
        String::from_utf8(data_encoding::BASE64.decode(rest.trim().as_bytes()).ok()?).ok()?
    } else if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim().to_owned()
    } else {
        return None;
    };
    text.split_once(':').map(|(name, secret)| (name.to_owned(), secret.to_owned()))
}

fn verify(devices: &Devices, name: &str, secret: &str) -> Option<DeviceCredential> {
    let hash = hash_secret(secret)?;
    let credential = name.parse::<DeviceId>().ok().and_then(|name| devices.get(&name));
    let expected = credential.map_or([0; 32], |credential| credential.secret_sha256);
    let equal: bool = expected.ct_eq(&hash).into();
    credential.filter(|_| equal).cloned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actix_web::test::TestRequest;

    const SECRET: &str = "a secret of the kitchen sensor";

    fn devices() -> Devices {
        let mut devices = Devices::default();
        devices.put(DeviceCredential {
            device: "kitchen".parse().unwrap(),
            secret_sha256: hash_secret(SECRET).unwrap(),
            destinations: vec!["lab".parse().unwrap()],
        });
        devices
    }

    fn caller(devices: &Devices, loopback: bool, header: Option<&str>) -> Result<Caller, u16> {
        let mut request = TestRequest::put();
        if let Some(header) = header {
            request = request.insert_header(("authorization", header));
        }
        identify(devices, loopback, &request.to_http_request()).map_err(|problem| problem.status)
    }

    #[test]
    fn a_device_is_known_by_basic_and_by_bearer() {
        let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("kitchen:{SECRET}").as_bytes()));
        for header in [basic, format!("bearer kitchen:{SECRET}")] {
            let Ok(Caller::Device(found)) = caller(&devices(), true, Some(&header)) else { panic!("{header}") };
            assert_eq!(found.device.as_str(), "kitchen");
        }
    }

    #[test]
    fn whoever_is_not_known_is_refused() {
        let wrong_name = format!("Bearer cellar:{SECRET}");
        for header in
            ["Bearer kitchen:a wrong secret of some length", &wrong_name, "Bearer kitchen", "Basic !!!", "Digest x"]
        {
            assert_eq!(caller(&devices(), true, Some(header)), Err(401), "{header}");
        }
        assert_eq!(caller(&devices(), true, None), Err(401));
        assert_eq!(caller(&Devices::default(), false, None), Err(401));
        assert_eq!(caller(&Devices::default(), true, Some("Bearer kitchen:guess")), Err(401));
    }

    #[test]
    fn without_credentials_loopback_is_trusted() {
        assert_eq!(caller(&Devices::default(), true, None), Ok(Caller::Trusted));
    }
}
