//! "I paste what the documents say." Every `reinit` command line in them is one the program understands.

use std::{fs, path::Path};

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
