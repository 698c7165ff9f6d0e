//! Keys of a destination, from the files that hold them. No message quotes what a file holds.

use super::Checker;
use crate::{config::raw::RawSecret, onion::OnionAddress};
use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};

/// Longest write key, in bytes.
const WRITE_KEY_BYTES_MAX: usize = 256;

impl Checker<'_> {
    fn secret(&mut self, raw: &RawSecret, path: &str) -> Option<String> {
        let file = self.path(raw.file.clone());
        match (self.around.read_file)(&file) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                let message = format!("{} could not be read: {error}", file.display());
                self.refuse(
                    format!("{path}.file"),
                    message,
                    "a relative path begins at the folder of this config file",
                );
                None
            }
        }
    }

    /// The x25519 secret of onion client authorization.
    pub(super) fn client_auth(
        &mut self,
        raw: &RawSecret,
        path: &str,
        address: Option<&OnionAddress>,
    ) -> Option<[u8; 32]> {
        let text = self.secret(raw, path)?;
        let hint =
            "either the line ADDRESS:descriptor:x25519:KEY of tor's .auth_private file, or the KEY alone, in base32";
        let key = match text.rsplit_once(':') {
            None => text.as_str(),
            Some((rest, key)) => {
                let named = rest.strip_suffix(":descriptor:x25519").or((rest == "descriptor:x25519").then_some(""));
                let Some(named) = named else {
                    self.refuse(format!("{path}.file"), "this file holds no key of onion client authorization", hint);
                    return None;
                };
                let fits = named.is_empty()
                    || address.is_none_or(|address| address.reveal().strip_suffix(".onion") == Some(named));
                if !fits {
                    self.refuse(
                        format!("{path}.file"),
                        "this key is for another onion address than that of this destination",
                        "",
                    );
                    return None;
                }
                key
            }
        };
        let bytes = BASE32_NOPAD.decode(key.trim_end_matches('=').to_ascii_uppercase().as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        if bytes.is_none() {
            self.refuse(format!("{path}.file"), "this file holds no key of onion client authorization", hint);
        }
        bytes
    }

    /// The bearer key of a receiver.
    pub(super) fn write_key(&mut self, raw: &RawSecret, path: &str) -> Option<String> {
        let text = self.secret(raw, path)?;
        let fits = !text.is_empty() && text.len() <= WRITE_KEY_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            let message = format!("a write key is one line of 1 to {WRITE_KEY_BYTES_MAX} visible ASCII characters");
            self.refuse(format!("{path}.file"), message, "copy the key that `tidegate receiver` made for this gateway");
        }
        fits.then_some(text)
    }

    /// The ed25519 public key of a receiver's receipts.
    pub(super) fn receipt_key(&mut self, text: &str, path: &str) -> Option<[u8; 32]> {
        // `whpk_` is how Standard Webhooks writes public keys.
        let encoded = text.trim();
        let encoded = encoded.strip_prefix("whpk_").unwrap_or(encoded).as_bytes();
        let encodings = [&HEXLOWER_PERMISSIVE, &BASE64, &BASE64_NOPAD, &BASE64URL, &BASE64URL_NOPAD];
        let bytes: Option<[u8; 32]> =
            encodings.iter().find_map(|encoding| encoding.decode(encoded).ok()?.try_into().ok());
        let key = bytes.filter(|bytes| ed25519_dalek::VerifyingKey::from_bytes(bytes).is_ok());
        if key.is_none() {
            let hint = "copy the receipt key that `tidegate receiver` prints at its start";
            self.refuse(path, "not an ed25519 public key (32 bytes, in base64 or hexadecimal)", hint);
        }
        key
    }
}
