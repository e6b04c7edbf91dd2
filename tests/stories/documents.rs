//! "I paste what the documents say." Every `reinit` command line in them is one the program understands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tests::program;

/// The lines of shell blocks that call `reinit`, continued lines joined, without what a shell adds.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut in_shell = false;
    for line in text.replace("\\\n", " ").lines() {
        if let Some(language) = line.trim().strip_prefix("```") {
            in_shell = !in_shell && ["sh", "bash", "shell", "console"].contains(&language.trim());
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        if in_shell && (line.starts_with("reinit ") || line.contains("$(reinit ")) {
            found.extend(calls(line));
        }
    }
    found
}

/// The calls in one line: up to a pipe, a redirection, `&` or a comment; also those inside `$(...)`.
fn calls(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices("reinit ") {
        let before = line[..start].chars().next_back();
        if !matches!(before, None | Some('(') | Some(' ')) {
            continue;
        }
        let call: Vec<String> = line[start..]
            .split_whitespace()
            .take_while(|word| !word.starts_with(['|', '>', '&', '#', ';']))
            .map(|word| word.trim_matches(['"', '\'', ')', ';']).to_owned())
            .collect();
        found.push(call[1..].to_vec());
    }
    found
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents = vec![root.join("README.md")];
    documents.extend(
        fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "md")),
    );
    let mut checked = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for call in command_lines(&text) {
            // Whatever is wrong before `--help` is said instead of the help, with exit 2.
            let arguments = call.iter().map(|word| if word.starts_with('$') { "X" } else { word });
            let outcome = program::reinit(arguments.chain(["--help"]));
            assert_eq!(outcome.code, Some(0), "{}: {outcome}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 5, "the documents name only {checked} commands");
}

#[test]
fn command_lines_are_found_as_they_stand_in_documents() {
    let text = "```sh\n$ id=$(reinit disk create --size 1G -q)   # a disk\nreinit serve &\nreinit image \\\n  ls | head\n```\nreinit no\n";
    let found: Vec<String> = command_lines(text).iter().map(|call| call.join(" ")).collect();
    assert_eq!(found, ["disk create --size 1G -q", "serve", "image ls"]);
}

/// All Rust sources of the crates.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut found, mut waiting) = (Vec::new(), vec![root.join("crates")]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") && !path.ends_with("target") {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The last text in the call that begins here, behind its parenthesis: what a line of the log says.
fn last_text(call: &str) -> Option<String> {
    let (mut depth, mut text, mut last) = (1, None::<String>, None);
    let mut characters = call.chars();
    while depth > 0 {
        let next = characters.next()?;
        match (&mut text, next) {
            (Some(_), '"') => last = text.take(),
            (Some(open), '\\') => {
                open.push(next);
                open.extend(characters.next());
            }
            (Some(open), _) => open.push(next),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
    }
    last
}

/// The longest part of an error's message that is the same each time.
fn fixed_part(message: &str) -> &str {
    let parts = message.split(['{', '}']).step_by(2);
    parts.max_by_key(|part| part.len()).unwrap_or_default().trim().trim_end_matches(':')
}

#[test]
fn every_failure_in_the_log_and_of_the_store_is_in_the_operations() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = fs::read_to_string(page).unwrap().replace('\n', " ");
    let mut checked = 0;
    let mut missing = Vec::new();
    for (path, source) in sources() {
        let mut messages: Vec<String> = Vec::new();
        for level in ["tracing::error!(", "tracing::warn!("] {
            messages.extend(source.split(level).skip(1).filter_map(last_text));
        }
        let ours =
            ["block-store/src/error.rs", "block-store/src/storage.rs", "catalog/src/error.rs"];
        if ours.iter().any(|errors| path.ends_with(errors)) {
            let errors = source.split("#[error(").skip(1).filter_map(last_text);
            let errors = errors.map(|error| fixed_part(&error).to_owned());
            // What a caller asked for wrongly is said to the caller, with all there is to say.
            messages.extend(errors.filter(|part| part.len() > 8 && !is_of_the_call(part)));
        }
        checked += messages.len();
        let untold = messages.into_iter().filter(|message| !page.contains(message.as_str()));
        missing.extend(untold.map(|message| format!("{}: {message}", path.display())));
    }
    assert!(checked > 80, "only {checked} messages were found");
    assert!(missing.is_empty(), "not in docs/operations.md:\n{}", missing.join("\n"));
}

fn is_of_the_call(message: &str) -> bool {
    let of_the_call = [
        "there is no disk",
        "there is already a disk",
        "there is no layer",
        "is not possible",
        "bytes is not possible",
        "is named twice in one batch",
        "cancelled",
        "is damaged",
        "the snapshot could not be recorded",
        "is not as it was expected to be",
        "bytes, the most is",
        "cannot be encoded",
        "the catalog already holds",
        "there is something at",
    ];
    of_the_call.contains(&message)
}

#[test]
fn messages_are_found_in_a_source() {
    let call = "%disk, \"a \\\"b\\\"\", f(1), \"the end\"); more(\"no\")";
    assert_eq!(last_text(call).as_deref(), Some("the end"));
    assert_eq!(fixed_part("the disk {disk} is refused: {reason}"), "is refused");
}
