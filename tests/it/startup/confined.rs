//! The real program as confined as its unit says, as far as that goes without a systemd: the unit's filter of system calls and its umask
//! in any case; as root also an ordinary user without capabilities, a disk that is read-only but for the state folder, and a /proc that
//! shows processes alone.
//!
//! The filter has to be put on from within. So the test starts itself as a child, by its name, which puts it on and becomes the gateway.

use super::{Gateway, LIMIT};
use crate::deploy::{settings, system_calls, unit};
use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::json;
use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt as _, chown},
        net::UnixDatagram,
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};
use tidegate::lab::ProcessSpec;

/// The program that the child becomes.
const PROGRAM: &str = "TIDEGATE_TEST_CONFINED";
/// Nobody, in Debian and elsewhere.
const NOBODY: u32 = 65_534;

/// What root does first: only the state folder can be written, and the programs can be reached by an ordinary user.
const WALLS: &str = r#"set -e
mount --bind "$STATE" "$STATE"
mount --bind "$SELF" "$FOLDER/self"
mount --bind "$BUILT" "$FOLDER/tidegate"
mount -o remount,bind,ro /
mount -t proc -o subset=pid,hidepid=invisible proc /proc
umask "$MASK"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- "$FOLDER/self" "$@""#;
/// What anybody can do.
const FENCE: &str = r#"umask "$MASK" && exec setpriv --no-new-privs -- "$SELF" "$@""#;

/// The filter of the unit as the kernel takes it: what isn't named fails with EPERM.
fn filter() -> BpfProgram {
    let arch = env::consts::ARCH.try_into().unwrap();
    let compiled = |names: &[&String]| {
        let rules: Vec<_> = names.iter().map(|name| json!({ "syscall": name })).collect();
        let refused = json!({ "errno": rustix::io::Errno::PERM.raw_os_error() });
        let text = json!({ "main": { "mismatch_action": refused, "match_action": "allow", "filter": rules } });
        compile_from_json(text.to_string().as_bytes(), arch)
    };
    let allowed = system_calls(&unit());
    // systemd knows names of other processors, too.
    let known: Vec<&String> = allowed.iter().filter(|name| compiled(&[name]).is_ok()).collect();
    assert!(known.len() > 200, "{}", known.len());
    compiled(&known).unwrap().remove("main").unwrap()
}

/// The child's part.
fn become_the_gateway(program: &str) {
    let (filter, folder) = (filter(), env::var_os("FOLDER").unwrap());
    apply_filter(&filter).unwrap();
    // What the filter leaves out, and anybody else may do.
    assert_eq!(rustix::process::setpriority_process(None, 19), Err(rustix::io::Errno::PERM));
    let error = Command::new(program)
        .arg("--config")
        .arg(Path::new(&folder).join("tidegate.toml"))
        .arg("run")
        .env_remove("RUST_BACKTRACE")
        .exec();
    panic!("{program}: {error}");
}

/// Everything below a folder, itself included.
fn all_below(path: &Path) -> Vec<fs::Metadata> {
    let own = fs::symlink_metadata(path).unwrap();
    let inside = if own.is_dir() {
        fs::read_dir(path).unwrap().flat_map(|entry| all_below(&entry.unwrap().path())).collect()
    } else {
        Vec::new()
    };
    std::iter::once(own).chain(inside).collect()
}

#[actix::test]
async fn the_gateway_works_under_the_restrictions_of_its_unit() {
    if let Ok(program) = env::var(PROGRAM) {
        return become_the_gateway(&program);
    }
    let is_root = rustix::process::geteuid().is_root();
    let mut gateway = Gateway::prepare("");
    let folder = gateway.folder.path().to_owned();
    let (state, built) = (gateway.state(""), env!("CARGO_BIN_EXE_tidegate"));
    if is_root {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("self"), "").unwrap();
        fs::write(folder.join("tidegate"), "").unwrap();
        for path in [state.clone(), gateway.state("tor")] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    for (path, mode) in [(&state, 0o700), (&gateway.state("tor"), 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let notify = folder.join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    fs::set_permissions(&notify, fs::Permissions::from_mode(0o666)).unwrap();

    let (command, becomes) = if is_root {
        (vec!["unshare", "--mount", "sh", "-c", WALLS, "sh"], folder.join("tidegate"))
    } else {
        (vec!["sh", "-c", FENCE, "sh"], built.into())
    };
    let test = "startup::confined::the_gateway_works_under_the_restrictions_of_its_unit";
    let spec = ProcessSpec::new("gateway", command[0], folder.join("log")).args(command[1..].iter().copied());
    let spec = spec.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(PROGRAM, becomes);
    let spec = spec.env("STATE", &state).env("FOLDER", &folder).env("SELF", env::current_exe().unwrap());
    let spec = spec.env("BUILT", built).env("NOTIFY_SOCKET", &notify).env("MASK", settings(&unit(), "UMask")[0]);
    gateway.process = Some(spec.spawn().unwrap());

    gateway.hand_in().await;
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut told = String::new();
    while !told.lines().any(|line| line == "READY=1") {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {told}\n{}", gateway.log()));
        told = String::from_utf8_lossy(&buffer[..length]).into_owned();
    }

    let status = gateway.proc("status");
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    assert_eq!((of("Seccomp:"), of("NoNewPrivs:"), of("Umask:")), ("2".into(), "1".into(), "0077".into()), "{status}");
    if is_root {
        assert_eq!((of("CapEff:"), of("CapBnd:")), ("0".repeat(16), "0".repeat(16)), "{status}");
        let owners: BTreeSet<u32> = all_below(&state).iter().map(MetadataExt::uid).collect();
        assert_eq!(owners, BTreeSet::from([NOBODY]));
    }
    let made = all_below(&state);
    let open = made.iter().filter(|one| one.mode() & 0o077 != 0).count();
    assert!(made.len() > 5 && open == 0, "{open} of {}", made.len());

    gateway.process.as_ref().unwrap().terminate();
    let ended = gateway.process.as_mut().unwrap().ended(LIMIT).unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", gateway.log());
}
