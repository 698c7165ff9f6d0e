//! Making the keys of a directory authority with tor's own tools.
//!
//! `tor-gencert` makes the long-term identity and the signing certificate, `tor --list-fingerprint` the relay's
//! identities. Both are skipped when the folder has them already, which makes a restart quick.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::process::find_program;
use super::state::AuthorityState;
use super::{LabError, file_error, private_file, private_folder, torrc};

/// How long a signing certificate holds, in months.
const CERTIFICATE_MONTHS: &str = "12";

/// How much of a failed tool's output an error quotes, in characters.
const OUTPUT_CHARS_MAX: usize = 1_000;

/// The two programs of the Debian package `tor`.
#[derive(Debug, Clone)]
pub struct TorPrograms {
    /// The daemon.
    pub tor: PathBuf,
    /// The maker of authority certificates.
    pub gencert: PathBuf,
}

impl TorPrograms {
    /// Finds both.
    ///
    /// # Errors
    /// [`LabError::MissingProgram`], with how to install them.
    pub fn find() -> Result<Self, LabError> {
        let find = |program| find_program(program).ok_or(LabError::MissingProgram { program, remedy: REMEDY });
        Ok(Self { tor: find("tor")?, gencert: find("tor-gencert")? })
    }
}

const REMEDY: &str = "as root, run `apt-get install --no-install-recommends tor`, then `systemctl disable --now tor` \
                      (Debian starts a service of its own, which is not needed here)";

/// The ports of one authority, chosen beforehand.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityPorts {
    /// Announced to all.
    pub or_port: u16,
    /// Directory requests.
    pub dir_port: u16,
    /// Where it listens when a delaying proxy stands on `or_port`.
    pub hidden_port: u16,
}

/// Makes the folder and the keys of one authority, and returns what the others need to know of it.
///
/// # Errors
/// When a tool fails or a file can't be made or understood.
pub fn prepare(
    programs: &TorPrograms,
    folder: &Path,
    nickname: &str,
    ports: AuthorityPorts,
) -> Result<AuthorityState, LabError> {
    let keys = folder.join("keys");
    private_folder(&keys)?;
    private_folder(folder)?;
    let certificate = keys.join("authority_certificate");
    if !certificate.exists() {
        make_certificate(programs, &keys, ports.dir_port)?;
    }
    if !folder.join("fingerprint-ed25519").exists() {
        make_fingerprints(programs, folder, nickname, ports.or_port)?;
    }
    let second_word = |text: &str| text.split_whitespace().nth(1).map(str::to_owned);
    Ok(AuthorityState {
        nickname: nickname.to_owned(),
        or_port: ports.or_port,
        dir_port: ports.dir_port,
        hidden_port: ports.hidden_port,
        v3ident: read(&certificate, |text| {
            second_word(text.lines().find(|line| line.starts_with("fingerprint "))?).filter(|hex| is_hex40(hex))
        })?,
        rsa_fingerprint: read(&folder.join("fingerprint"), |text| second_word(text).filter(|hex| is_hex40(hex)))?,
        ed25519_identity: read(&folder.join("fingerprint-ed25519"), second_word)?,
    })
}

fn is_hex40(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read(path: &Path, value: impl FnOnce(&str) -> Option<String>) -> Result<String, LabError> {
    let text = std::fs::read_to_string(path).map_err(file_error("read", path))?;
    value(&text).ok_or_else(|| LabError::Format { path: path.to_owned(), reason: "it holds no fingerprint".to_owned() })
}

fn make_certificate(programs: &TorPrograms, keys: &Path, dir_port: u16) -> Result<(), LabError> {
    let mut command = Command::new(&programs.gencert);
    command
        .args(["--create-identity-key", "--passphrase-fd", "0", "-m", CERTIFICATE_MONTHS])
        .arg("-a")
        .arg(format!("127.0.0.1:{dir_port}"))
        .arg("-i")
        .arg(keys.join("authority_identity_key"))
        .arg("-s")
        .arg(keys.join("authority_signing_key"))
        .arg("-c")
        .arg(keys.join("authority_certificate"));
    // The identity key's file is encrypted with a passphrase, which a throw-away key doesn't need to have secret.
    run("tor-gencert", command, "lab\n")
}

fn make_fingerprints(programs: &TorPrograms, folder: &Path, nickname: &str, or_port: u16) -> Result<(), LabError> {
    let file = folder.join("torrc.fingerprint");
    private_file(&file, &torrc::fingerprint(folder, nickname, or_port))?;
    let mut command = Command::new(&programs.tor);
    command.arg("-f").arg(&file).args(["--defaults-torrc", "/dev/null", "--list-fingerprint", "--hush"]);
    run("tor", command, "")
}

fn run(program: &'static str, mut command: Command, input: &str) -> Result<(), LabError> {
    let failed = |source: std::io::Error| LabError::Command {
        program,
        status: source.to_string(),
        output: String::from("(it did not run)"),
    };
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails before it reads closes the pipe; its own words, below, say more than that.
        let _closed = stdin.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let all = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&all);
    let skip = text.chars().count().saturating_sub(OUTPUT_CHARS_MAX);
    Err(LabError::Command { program, status: status.to_string(), output: text.chars().skip(skip).collect() })
}
