//! A store as a text: small, for a store is mostly holes, and to be read by people.
//!
//! ```text
//! file ledger 270336            a file and its length
//! 1000 0100000000000000 x3      at byte 0x1000 these eight bytes, three times
//! gone layers/...               (in a difference) no such file
//! ```
//! What must always hold: what is not told is zeros, or in a difference as it was; so a text means the same for ever,
//! whatever the store's own code becomes.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// The files of a store by their path in it.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All files below a directory, but for those that are no part of what is stored: the lock, and what is derived.
pub(crate) fn files(root: &Path) -> Files {
    let mut found = Files::new();
    collect(root, root, &mut found);
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if !["lock", "owners"].contains(&path.file_name().unwrap().to_str().unwrap()) {
            found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// What makes the first files the second ones; from none, all of them.
pub(crate) fn pack(from: &Files, to: &Files) -> String {
    let mut text = String::new();
    for (path, bytes) in to.iter().filter(|(path, bytes)| from.get(*path) != Some(bytes)) {
        writeln!(text, "file {} {}", path.display(), bytes.len()).unwrap();
        let before = from.get(path).map_or(&[][..], Vec::as_slice);
        pack_words(before, bytes, &mut text);
    }
    for path in from.keys().filter(|path| !to.contains_key(*path)) {
        writeln!(text, "gone {}", path.display()).unwrap();
    }
    text
}

fn pack_words(before: &[u8], after: &[u8], text: &mut String) {
    let (words, rest) = after.as_chunks::<8>();
    assert!(rest.is_empty(), "our files are whole sectors");
    let old = |place: usize| before.get(place * 8..place * 8 + 8).unwrap_or(&[0; 8]);
    let mut place = 0;
    while place < words.len() {
        let word = words[place];
        let same = |next: &usize| words[*next] == word && old(*next) != word;
        let run = (place..words.len()).take_while(same).count();
        if run > 0 {
            let hex: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
            let times = if run > 1 { format!(" x{run}") } else { String::new() };
            writeln!(text, "{:x} {hex}{times}", place * 8).unwrap();
        }
        place += run.max(1);
    }
}

/// Does to the files in a directory what a text says.
pub(crate) fn unpack(text: &str, root: &Path) {
    let mut file = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts[..] {
            ["file", path, length] => {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut options = fs::OpenOptions::new();
                let made = options.write(true).create(true).truncate(false).open(path).unwrap();
                made.set_len(length.parse().unwrap()).unwrap();
                file = Some(made);
            }
            ["gone", path] => fs::remove_file(root.join(path)).unwrap(),
            [at, hex] => put(file.as_ref().unwrap(), at, hex, 1),
            [at, hex, times] => {
                let times = times.strip_prefix('x').unwrap().parse().unwrap();
                put(file.as_ref().unwrap(), at, hex, times);
            }
            _ => panic!("no line of a packed store: {line}"),
        }
    }
}

fn put(file: &fs::File, at: &str, hex: &str, times: usize) {
    let (at, word) = (u64::from_str_radix(at, 16), u64::from_str_radix(hex, 16));
    // Written as bytes in their order, so read as a number from the big end.
    file.write_all_at(&word.unwrap().to_be_bytes().repeat(times), at.unwrap()).unwrap();
}
