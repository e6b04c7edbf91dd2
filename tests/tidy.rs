//! The rules of the tree that no lint knows.
//!
//! Every source file says in its header what it is; unsafe code has one address; nothing names a place on one
//! machine; the format's document names every magic the code writes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test, helpers included")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The one file that may hold unsafe code, and why: its header has the proof.
const UNSAFE: &str = "crates/block-store/src/mapped_file.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file of ours with one of these endings, by its path from the root.
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root(), &mut |path| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    });
    assert!(!found.is_empty(), "the tree has no {endings:?}");
    found
}

fn collect(directory: &Path, found: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !path.is_symlink() {
            if !["target", ".git", "__pycache__"].contains(&name) {
                collect(&path, found);
            }
        } else {
            found(&path);
        }
    }
}

/// Fails with every finding at once.
fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_source_file_says_what_it_is() {
    let silent = files(&[".rs"]).into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none(&silent.map(|(name, _)| name).collect::<Vec<_>>(), "these open without a `//!` header");
}

#[test]
fn unsafe_code_has_one_address() {
    // Put together so that this file is not a finding of itself.
    let words = ["unsaf\u{65} {", "unsaf\u{65} fn", "unsaf\u{65} impl", "allow(unsaf\u{65}"];
    let mut findings = Vec::new();
    for (name, text) in files(&[".rs"]) {
        if name == UNSAFE || name == "tests/tidy.rs" {
            continue;
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code.into_iter().any(|line| words.iter().any(|word| line.contains(word))) {
            findings.push(name);
        }
    }
    none(&findings, "these hold unsafe code; its one address is mapped_file.rs");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        "TO\u{44}O",
        "FIX\u{4d}E",
        "X\u{58}X",
        "todo\u{21}(",
        "unimplemented\u{21}(",
        "#[ignor\u{65}",
    ];
    let mut findings = Vec::new();
    for (name, text) in files(&[".rs", ".py", "run"]) {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                findings.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&findings, "these are marks of unfinished work");
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    // Where this checkout lies, and where people's own files lie.
    let here = root().parent().unwrap().display().to_string();
    let places = [
        format!("{here}/"),
        ["/ho", "me/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/Us", "ers/"].concat(),
    ];
    let mut findings = Vec::new();
    for (name, text) in files(&[".rs", ".md", ".toml", ".py", ".sh", "run"]) {
        for place in &places {
            // A checkout right below `/` has a parent that every path begins with.
            if place != "//" && place != "/" && text.contains(place) {
                findings.push(format!("{name}: {place}"));
            }
        }
    }
    none(&findings, "these name a place on one machine");
}

/// Every `b"..."` of a constant whose name has MAGIC in it, in the crates that own bytes on disk. The formats of
/// others, which `image` reads, are documented elsewhere.
fn magics() -> Vec<(String, String)> {
    let owns_bytes = |name: &str| {
        (name.starts_with("crates/block-store/src/") || name.starts_with("crates/catalog/src/"))
            && !name.contains("/image/")
    };
    let mut found = Vec::new();
    for (name, text) in files(&[".rs"]).into_iter().filter(|(name, _)| owns_bytes(name)) {
        for line in text.lines().filter(|line| line.contains("MAGIC") && line.contains("const ")) {
            let literal = line.split_once("b\"").and_then(|(_, rest)| rest.split_once('"'));
            if let Some((bytes, _)) = literal {
                found.push((name.clone(), bytes.to_owned()));
            }
        }
    }
    found
}

#[test]
fn the_document_of_the_format_names_every_magic() {
    let document = fs::read_to_string(root().join("docs/format.md")).unwrap();
    let magics = magics();
    assert!(!magics.is_empty(), "no magic was found; is this test looking in the right place?");
    let missing = magics.into_iter().filter(|(_, magic)| !document.contains(magic.as_str()));
    none(
        &missing.map(|(name, magic)| format!("{name}: {magic}")).collect::<Vec<_>>(),
        "docs/format.md does not name",
    );
}

#[test]
fn every_crate_takes_its_lints_from_the_workspace() {
    let deaf = files(&["Cargo.toml"])
        .into_iter()
        .filter(|(name, text)| name != "Cargo.toml" && !text.contains("[lints]\nworkspace = true"));
    none(
        &deaf.map(|(name, _)| name).collect::<Vec<_>>(),
        "these do not take the workspace's lints",
    );
}

/// The integration tests the document's short names stand for.
fn file_of_test(short: &str) -> String {
    match short.split_once('/') {
        Some(("fuzz", file)) => format!("tests/fuzz/{file}.rs"),
        Some((folder @ ("golden" | "clients"), file)) => format!("tests/tests/{folder}/{file}.rs"),
        Some(("inside", file)) => format!("crates/block-store/src/{file}.rs"),
        Some(("stories", file)) => format!("tests/stories/{file}.rs"),
        Some(("wire", file)) => format!("crates/ecs-http/tests/wire/{file}.rs"),
        Some((folder @ ("fsck" | "images"), file)) => {
            format!("crates/block-store/tests/{folder}/{file}.rs")
        }
        Some(("nbd", file)) => format!("crates/nbd-server/tests/nbd/{file}.rs"),
        Some((name, file)) => format!("crates/{name}/tests/{name}/{file}.rs"),
        None if short == "fsck" => "crates/block-store/tests/fsck/main.rs".to_owned(),
        None if ["disks", "header_copies", "owners", "scrub"].contains(&short) => {
            format!("crates/block-store/tests/{short}.rs")
        }
        None if short == "descriptors" => "crates/nbd-server/tests/descriptors.rs".to_owned(),
        None => format!("tests/tests/{short}.rs"),
    }
}

#[test]
fn every_test_the_page_of_promises_names_exists() {
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let (mut checked, mut missing) = (0, Vec::new());
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((file, name)) = quoted.split_once("::") else { continue };
        if !file.chars().all(|c| c.is_ascii_lowercase() || "_/".contains(c)) {
            continue;
        }
        let text = fs::read_to_string(root().join(file_of_test(file))).unwrap_or_default();
        if !text.contains(&format!("fn {name}(")) {
            missing.push(quoted.to_owned());
        }
        checked += 1;
    }
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(checked > 50, "only {checked} names were found");
}

/// The mutations are run by hand; that they still fit the source is looked at here.
#[test]
fn every_mutation_fits_the_source() {
    let outcome = std::process::Command::new("python3")
        .arg(root().join("tests/mutations.py"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stdout));
}
