//! `tidegate service install`: puts the files in place by which systemd runs the gateway, for those who installed it by hand. The Debian
//! package brings the same files.
//!
//! They are part of the program, so that a copied binary is enough. Nothing is started: what comes next is said. A file that is there and
//! says something else is somebody's work, or an older version's: it is kept beside the new one, as `.old`.

use super::{
    Global,
    exit::{self, Failure},
    output,
};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The program's place in the unit file as it is in the repository: the Debian package's.
const PACKAGED: &str = "/usr/bin/tidegate";
/// What the files are called, where they go, and what they say.
const FILES: [(&str, &str); 3] = [
    ("etc/systemd/system/tidegate.service", include_str!("../../deploy/systemd/tidegate.service")),
    ("etc/sysusers.d/tidegate.conf", include_str!("../../deploy/systemd/tidegate.sysusers")),
    ("etc/tmpfiles.d/tidegate.conf", include_str!("../../deploy/systemd/tidegate.tmpfiles")),
];
/// What the unit hides from the service, by ProtectHome= and PrivateTmp=.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
/// Everybody reads them; there is no secret in them.
const MODE: u32 = 0o644;

/// What to do with the service.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Write systemd's files for the gateway: the unit, its user, its folders
    Install(InstallArgs),
}

/// How.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate service install --dry-run
  sudo tidegate service install
  tidegate service install --root /mnt/image --program /usr/bin/tidegate")]
pub struct InstallArgs {
    /// Print what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Below this folder instead of /, such as the root of an image
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// Where the program is on the machine that runs it [default: this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What is to be done about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    /// It isn't there.
    Write,
    /// It says something else.
    Replace,
    /// It says just that.
    Keep,
}

/// A file and what is to be done about it.
#[derive(Debug, Serialize)]
struct Planned {
    path: PathBuf,
    act: Act,
    #[serde(rename = "content")]
    text: String,
}

/// Does it.
pub(super) fn run(global: &Global, command: ServiceCommand) -> Result<ExitCode, Failure> {
    let ServiceCommand::Install(args) = command;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => env::current_exe().map_err(|error| Failure::failed(format!("where is this program? {error}")))?,
    };
    let program = checked(&program)?;
    let plan = plan(&args.root, &program)?;
    if let Some(folder) = HIDDEN.iter().find(|folder| Path::new(&program).starts_with(folder)) {
        output::message(&format!(
            "{program}: the unit hides {folder} from the service; put the program elsewhere, and do this again"
        ));
    }
    if !args.dry_run {
        for file in &plan {
            carry_out(file).map_err(|error| {
                let why = format!("could not write {}: {error}", file.path.display());
                match error.kind() {
                    io::ErrorKind::PermissionDenied => Failure::usage(format!("{why}; run this as root")),
                    _ => Failure::failed(why),
                }
            })?;
        }
    }
    tell(global, &args, &plan)?;
    Ok(ExitCode::from(exit::OK))
}

/// A path that can stand in a unit: systemd splits at blanks, and reads quotes, `%` and `$` in its own way.
fn checked(program: &Path) -> Result<String, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
    match program.to_str() {
        Some(text) if text.starts_with('/') && text.bytes().all(plain) => Ok(text.to_owned()),
        _ => Err(Failure::usage(format!(
            "the program's path can't stand in a unit: {}; name a full path of letters, digits and / . _ + - with --program",
            program.display()
        ))),
    }
}

fn plan(root: &Path, program: &str) -> Result<Vec<Planned>, Failure> {
    let files = FILES.iter().map(|(name, text)| {
        let (path, text) = (root.join(name), text.replace(PACKAGED, program));
        let act = match fs::read(&path) {
            Ok(there) if there == text.as_bytes() => Act::Keep,
            Ok(_) => Act::Replace,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Act::Write,
            Err(error) => return Err(Failure::failed(format!("could not read {}: {error}", path.display()))),
        };
        Ok(Planned { path, act, text })
    });
    files.collect()
}

/// The old name for what was there.
fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

/// The file is there whole, or as it was: systemd may read it at any moment.
fn carry_out(file: &Planned) -> io::Result<()> {
    if file.act == Act::Keep {
        return Ok(());
    }
    let folder = file.path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut whole = tempfile::NamedTempFile::new_in(folder)?;
    whole.write_all(file.text.as_bytes())?;
    whole.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
    whole.as_file().sync_all()?;
    if file.act == Act::Replace {
        let there = fs::read(&file.path)?;
        let mut old =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(kept(&file.path))?;
        old.write_all(&there)?;
    }
    whole.persist(&file.path)?;
    Ok(())
}

fn tell(global: &Global, args: &InstallArgs, plan: &[Planned]) -> Result<(), Failure> {
    let next = next_commands(args);
    if global.json {
        return output::json(&serde_json::json!({ "dry_run": args.dry_run, "files": plan, "next": next }));
    }
    for file in plan {
        let path = file.path.display();
        output::line(&match (file.act, args.dry_run) {
            (Act::Write, true) => format!("# would write {path}:\n{}", file.text),
            (Act::Replace, true) => {
                format!("# would replace {path}, and keep what it says as {path}.old:\n{}", file.text)
            }
            (Act::Keep, _) => format!("{path}: is so already"),
            (Act::Write, false) => format!("{path}: written"),
            (Act::Replace, false) => format!("{path}: replaced; what it said is in {path}.old"),
        })?;
    }
    output::message(&format!("next:\n  {}", next.join("\n  ")));
    Ok(())
}

/// What an operator does then; an image is told so when it runs.
fn next_commands(args: &InstallArgs) -> Vec<&'static str> {
    let mut next = vec!["systemd-sysusers", "systemd-tmpfiles --create", "systemctl daemon-reload"];
    if !args.root.join("etc/tidegate/tidegate.toml").exists() {
        next.push("write /etc/tidegate/tidegate.toml (schemas/config/example.toml has every key), readable by the group tidegate");
    }
    next.extend(["sudo -u tidegate tidegate check", "systemctl enable --now tidegate", "tidegate status"]);
    next
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_path_that_systemd_would_read_otherwise_is_refused() {
        assert_eq!(checked(Path::new("/opt/tide-gate_1.0/bin/tidegate")).unwrap(), "/opt/tide-gate_1.0/bin/tidegate");
        for path in
            ["tidegate", "/opt/my programs/tidegate", "/opt/%h/tidegate", "/opt/$X/tidegate", "/opt/\"a\"/tidegate", ""]
        {
            assert_eq!(checked(Path::new(path)).unwrap_err().code, exit::USAGE, "{path}");
        }
    }

    #[test]
    fn every_mention_of_the_program_in_the_unit_is_the_one_that_is_named() {
        let root = tempfile::tempdir().unwrap();
        let plan = plan(root.path(), "/opt/tidegate").unwrap();
        assert!(plan.iter().all(|file| file.act == Act::Write && !file.text.contains(PACKAGED)));
        assert!(plan[0].text.contains("ExecStart=/opt/tidegate --config "), "{}", plan[0].text);
    }
}
