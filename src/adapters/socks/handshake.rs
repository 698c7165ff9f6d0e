//! The client's side of SOCKS5 (RFC 1928) with user name and password (RFC 1929), and tor's extended error codes
//! (socks-extensions, proposal 304).
//!
//! Written out here, in place of a library, for two reasons: libraries offer "no authentication" beside a password, which
//! lets a proxy ignore the user name that isolates; and they fold the extended codes into one unknown error.

use std::io;

use tidegate_schemas::outcome::DeliveryError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const SOCKS_VERSION: u8 = 5;
const AUTH_VERSION: u8 = 1;
const METHOD_PASSWORD: u8 = 2;
const COMMAND_CONNECT: u8 = 1;
const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// The password that goes with every user name; tor isolates by the pair.
const PASSWORD: &str = "tidegate";

/// Why a SOCKS connection doesn't lead on.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The port can't be reached, or closed the connection.
    #[error("the SOCKS port of the system tor can't be reached: is tor running, and is this its SocksPort?")]
    Port(#[from] io::Error),
    /// It doesn't answer.
    #[error("the SOCKS port of the system tor doesn't answer")]
    Silent,
    /// It speaks something else.
    #[error("what answers at the SOCKS port of the system tor isn't a SOCKS5 server")]
    NotSocks,
    /// It doesn't take a user name, so it can't isolate.
    #[error("the SOCKS server takes no user name, so it can't keep destinations apart: it isn't a tor")]
    NoIsolation,
    /// The onion service wasn't reached; tor's code.
    #[error("tor answered with the code {0:#04x}")]
    Refused(u8),
}

/// Agrees on user name and password, and gives them.
pub(super) async fn authenticate<S>(stream: &mut S, user: &str) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&[SOCKS_VERSION, 1, METHOD_PASSWORD]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match chosen {
        [SOCKS_VERSION, METHOD_PASSWORD] => {}
        [SOCKS_VERSION, _] => return Err(HandshakeError::NoIsolation),
        _ => return Err(HandshakeError::NotSocks),
    }
    let mut request = vec![AUTH_VERSION];
    push_text(&mut request, user)?;
    push_text(&mut request, PASSWORD)?;
    stream.write_all(&request).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match answer {
        [AUTH_VERSION, 0] => Ok(()),
        [AUTH_VERSION, _] => Err(HandshakeError::NoIsolation),
        _ => Err(HandshakeError::NotSocks),
    }
}

/// Asks for a connection to a name and a port; afterwards the stream is that connection.
pub(super) async fn connect<S>(stream: &mut S, host: &str, port: u16) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = vec![SOCKS_VERSION, COMMAND_CONNECT, 0, ADDRESS_NAME];
    push_text(&mut request, host)?;
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, code, _reserved, address_kind] = head;
    if version != SOCKS_VERSION {
        return Err(HandshakeError::NotSocks);
    }
    if code != 0 {
        return Err(HandshakeError::Refused(code));
    }
    // The address that it is bound to follows, and says nothing.
    let address_bytes = match address_kind {
        ADDRESS_IPV4 => 4,
        ADDRESS_IPV6 => 16,
        ADDRESS_NAME => usize::from(stream.read_u8().await?),
        _ => return Err(HandshakeError::NotSocks),
    };
    let mut rest = vec![0; address_bytes + 2];
    stream.read_exact(&mut rest).await?;
    Ok(())
}

/// A length byte and the text.
fn push_text(request: &mut Vec<u8>, text: &str) -> Result<(), HandshakeError> {
    let length = u8::try_from(text.len()).map_err(|_too_long| io::Error::from(io::ErrorKind::InvalidInput))?;
    request.push(length);
    request.extend(text.bytes());
    Ok(())
}

/// What a code of tor's means. The `0xF.` ones come only from ports with `ExtendedErrors`.
pub(super) fn classify(code: u8) -> DeliveryError {
    match code {
        // Descriptor not found, or unreadable.
        0xF0 | 0xF1 => DeliveryError::DescriptorNotFound,
        // Introduction failed, or timed out.
        0xF2 | 0xF7 => DeliveryError::IntroductionFailed,
        0xF3 => DeliveryError::RendezvousFailed,
        0xF4 => DeliveryError::ClientAuthMissing,
        0xF5 => DeliveryError::ClientAuthWrong,
        // "Host unreachable" is all that a plain port says of a service that it didn't find.
        0x04 => DeliveryError::DescriptorNotFound,
        // A general failure, or a refused connection: the service ended the stream, since nothing listens behind it.
        0x01 | 0x05 => DeliveryError::ServiceDown,
        0x06 => DeliveryError::ConnectTimeout,
        // Not allowed (the port doesn't take onion addresses), or no network.
        0x02 | 0x03 => DeliveryError::UplinkNotReady,
        _ => DeliveryError::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::duplex;

    /// Runs both steps against a peer that first takes `expected` bytes in all, then has said `answers` all along.
    async fn talk(answers: &[u8]) -> (Result<(), HandshakeError>, Vec<u8>) {
        let (mut near, mut far) = duplex(4_096);
        far.write_all(answers).await.unwrap();
        far.shutdown().await.unwrap();
        let result = async {
            authenticate(&mut near, "circuit").await?;
            connect(&mut near, "x.onion", 80).await
        }
        .await;
        drop(near);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        (result, sent)
    }

    #[tokio::test]
    async fn the_name_goes_out_as_it_is_and_only_a_password_is_offered() {
        let (result, sent) = talk(&[5, 2, 1, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await;
        result.unwrap();
        let expected =
            [&b"\x05\x01\x02\x01\x07circuit\x08tidegate"[..], b"\x05\x01\x00\x03\x07x.onion\x00\x50"].concat();
        assert_eq!(sent, expected);
    }

    #[tokio::test]
    async fn a_server_that_would_not_isolate_is_refused() {
        assert!(matches!(talk(&[5, 0]).await.0, Err(HandshakeError::NoIsolation)));
        assert!(matches!(talk(&[5, 0xFF]).await.0, Err(HandshakeError::NoIsolation)));
        assert!(matches!(talk(&[5, 2, 1, 1]).await.0, Err(HandshakeError::NoIsolation)));
        assert!(matches!(talk(b"HTTP").await.0, Err(HandshakeError::NotSocks)));
        assert!(matches!(talk(&[]).await.0, Err(HandshakeError::Port(_))));
        assert!(matches!(talk(&[5, 2, 1, 0, 5, 0xF5, 0, 1]).await.0, Err(HandshakeError::Refused(0xF5))));
        assert!(matches!(talk(&[5, 2, 1, 0, 5, 0, 0, 9]).await.0, Err(HandshakeError::NotSocks)));
    }

    #[test]
    fn codes_are_told_apart() {
        for (code, error) in [
            (0xF0, DeliveryError::DescriptorNotFound),
            (0xF2, DeliveryError::IntroductionFailed),
            (0xF3, DeliveryError::RendezvousFailed),
            (0xF4, DeliveryError::ClientAuthMissing),
            (0xF5, DeliveryError::ClientAuthWrong),
            (0x06, DeliveryError::ConnectTimeout),
        ] {
            assert_eq!(classify(code), error, "{code:#x}");
        }
    }
}
