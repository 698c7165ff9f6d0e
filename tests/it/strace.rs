//! Reads what `strace -f -y` wrote: each call with the lines on which it began and ended.
//!
//! A line of the trace is a moment: strace writes a call down when it begins, and cuts it in two (`<unfinished ...>`, `resumed`) when
//! another thread's came between. It sees a call end before the thread can go on, so that what a thread does after it comes later in
//! the trace, too.

use std::{collections::HashMap, path::Path};

/// A call that ended.
#[derive(Debug)]
pub struct Call {
    /// The line on which it began.
    pub began: usize,
    /// The line on which it ended: the same one, if nothing came between.
    pub ended: usize,
    pub name: String,
    /// The first argument. A descriptor has its file behind it: `7</tmp/db>`.
    pub first: String,
    /// All arguments behind the first.
    rest: String,
    /// What it returned; none where that is no number.
    pub result: Option<i64>,
}

impl Call {
    /// Whether the first argument is a descriptor of this file.
    pub fn is_of(&self, path: &Path) -> bool {
        self.first.ends_with(&format!("<{}>", path.display()))
    }

    /// Whether it syncs a file.
    pub fn is_sync(&self) -> bool {
        self.name == "fdatasync" || self.name == "fsync"
    }

    /// What was read or written: as many of the bytes that are shown as it returned.
    ///
    /// # Panics
    /// When strace shows fewer: its option `-s` was too small.
    pub fn bytes(&self) -> Vec<u8> {
        let wanted = usize::try_from(self.result.unwrap_or_default()).unwrap_or_default();
        let mut bytes = Vec::new();
        let mut quoted = self.rest.split('"');
        // Between two quotation marks of the trace: those within a text are escaped, and so is what escapes them.
        quoted.next();
        while let Some(text) = quoted.next() {
            let mut text = text.to_owned();
            while ends_escaped(&text) {
                text.push('"');
                text.push_str(quoted.next().expect("an end of the text"));
            }
            bytes.extend(unescaped(&text));
            quoted.next();
        }
        assert!(bytes.len() >= wanted, "{} of {wanted} bytes are shown of a {}", bytes.len(), self.name);
        bytes.truncate(wanted);
        bytes
    }
}

/// Whether a quotation mark behind this text belongs to it.
fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// A text as strace writes it, in bytes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().expect("something behind a backslash") {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            digit @ b'0'..=b'7' => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(next) = rest.next_if(|next| (b'0'..=b'7').contains(next)) else { break };
                    value = value * 8 + u32::from(next - b'0');
                }
                u8::try_from(value).expect("a byte")
            }
            other => other,
        });
    }
    bytes
}

/// The calls of a trace, in the order in which they ended. What did not end is not among them.
pub fn calls(trace: &str) -> Vec<Call> {
    let mut under_way: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (thread, text) = line.split_once(' ').unwrap_or((line, ""));
        let text = text.trim_start();
        if let Some(begun) = text.strip_suffix("<unfinished ...>") {
            under_way.insert(thread, (at, begun));
        } else if let Some(resumed) = text.strip_prefix("<... ") {
            let Some((began, begun)) = under_way.remove(thread) else { continue };
            let (_, end) = resumed.split_once(" resumed>").expect("what is resumed");
            calls.extend(call(began, at, &format!("{begun}{end}")));
        } else {
            calls.extend(call(at, at, text));
        }
    }
    calls
}

/// The call in a text; none where it is something else, such as a signal.
fn call(began: usize, ended: usize, text: &str) -> Option<Call> {
    let (name, behind) = text.split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let (arguments, result) = behind.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let (first, rest) = arguments.split_once(", ").unwrap_or((arguments, ""));
    let result = result.split(' ').next().and_then(|number| number.parse().ok());
    // What was cut in two has a blank where it was cut.
    let (name, first, rest) = (name.to_owned(), first.trim_end().to_owned(), rest.to_owned());
    Some(Call { began, ended, name, first, rest, result })
}

#[test]
fn calls_are_put_together_and_texts_unescaped() {
    let trace = "7 openat(AT_FDCWD</>, \"/tmp/db\", O_RDWR) = 5</tmp/db>\n\
        7 pwrite64(5</tmp/db>, \"a) = \\\"\\\\\\0001\\377\", 10, 0 <unfinished ...>\n\
        8 recvfrom(9<TCP:[127.0.0.1:1->127.0.0.1:2]>,  <unfinished ...>\n\
        8 --- SIGCHLD {si_signo=SIGCHLD, si_status=0} ---\n\
        7 <... pwrite64 resumed>)          = 10\n\
        8 <... recvfrom resumed>\"0\\0\", 10, 0, NULL, NULL) = 2\n\
        8 writev(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base=\"ab\", iov_len=2}, {iov_base=\"cd\", iov_len=2}], 2) = 3\n\
        8 fdatasync(5</tmp/db>)              = -1 EIO (Input/output error)\n\
        7 fdatasync(5</tmp/db> <unfinished ...>\n\
        8 read(5</tmp/db>,  <unfinished ...>\n\
        7 <... fdatasync resumed>)           = 0\n\
        8 exit_group(0)                      = ?\n";
    let calls = calls(trace);
    let shown: Vec<_> = calls.iter().map(|call| (call.name.as_str(), (call.began, call.ended), call.result)).collect();
    let wanted = [
        ("openat", (0, 0), None),
        ("pwrite64", (1, 4), Some(10)),
        ("recvfrom", (2, 5), Some(2)),
        ("writev", (6, 6), Some(3)),
        ("fdatasync", (7, 7), Some(-1)),
        ("fdatasync", (8, 10), Some(0)),
        ("exit_group", (11, 11), None),
    ];
    assert_eq!(shown, wanted);
    assert_eq!(calls[1].bytes(), b"a) = \"\\\x001\xff");
    assert_eq!(calls[2].bytes(), b"0\0");
    assert_eq!(calls[3].bytes(), b"abc");
    for sync in &calls[4..6] {
        assert!(sync.is_sync() && sync.is_of("/tmp/db".as_ref()) && !sync.is_of("/db".as_ref()), "{sync:?}");
    }
}
