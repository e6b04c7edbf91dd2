//! `STORE/reinit.toml`, as the real program reads it.
//!
//! The program is started in a directory that is no store: a file it takes ends with that complaint, one it
//! does not take with a line that names the file.
//! What must be true: it ends with code 1 and one line, no memory or time is wasted, and no file is taken that holds a
//! key the program does not know.

use std::{fs, path::Path};

use tests::{program, recorded_storage::scratch};

use crate::campaign::Trial;

/// Keys and pieces of the language.
pub(crate) const WORDS: [&[u8]; 16] = [
    b"listen = ",
    b"nbd_listen = ",
    b"region = ",
    b"zones = [",
    b"minimum_system_disk = ",
    b"hash_bandwidth = ",
    b"snapshot_cutoff = ",
    b"[buckets.b]\n",
    b"directory = \"/",
    b"\"127.0.0.1:0\"",
    b"\"18446744073709551615G\"",
    b"-9223372036854775808",
    b"\"\"\"",
    b"[[",
    b"{a={",
    b"\n",
];

/// What becomes of a file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    Refused,
}

pub(crate) fn prepare() -> Trial {
    // Built before there is a limit on memory.
    program::binary();
    let directory = scratch();
    Box::new(move |input| {
        let path = directory.path();
        fs::write(path.join("reinit.toml"), input).unwrap();
        if start(path) == Outcome::Taken {
            // The key comes first: what follows cannot swallow it.
            fs::write(path.join("reinit.toml"), [b"no_such_key = 1\n", input].concat()).unwrap();
            assert_eq!(start(path), Outcome::Refused, "an unknown key is taken");
        }
    })
}

fn start(store: &Path) -> Outcome {
    let store = store.to_str().unwrap();
    let ended = program::reinit(["--store", store, "serve"]).fails();
    let complaint = ended.complaint();
    // An address that this machine does not have is found out later than one that cannot be meant.
    let later = ["holds no store;", " for HTTP: ", " for NBD: "];
    if later.iter().any(|words| complaint.contains(words)) {
        return Outcome::Taken;
    }
    assert!(complaint.contains("reinit.toml"), "{ended}");
    Outcome::Refused
}
