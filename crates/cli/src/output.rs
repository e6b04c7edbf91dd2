//! The only place that prints: results on standard output, everything else on standard error.
//!
//! What must always hold
//! 1. With `--json` standard output holds exactly one JSON document, also for an error.
//! 2. With `-q` it holds the bare ids, one a line; what belongs together (a disk and what it was kept as) on one line.
//! 3. A reader that went away (`reinit disk ls | head -1`) is no failure; a result that cannot be written otherwise is.
//!
//! Left to others: what there is to say (`commands`).

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{args::Common, exit_code::Exit, failure::Failure};

/// What a command has to say, in each of the three ways to say it.
#[derive(Debug)]
pub(crate) struct Report {
    /// With `--json`.
    pub(crate) document: Value,
    /// With `-q`.
    pub(crate) ids: Vec<String>,
    /// Otherwise.
    pub(crate) text: String,
    /// How the process ends.
    pub(crate) exit: Exit,
}

impl Report {
    /// Something was made or done; `ids` is what a script would go on with.
    pub(crate) fn done(document: Value, ids: Vec<String>, text: impl Into<String>) -> Self {
        Self { document, ids, text: text.into(), exit: Exit::Done }
    }

    /// What was found is a failure.
    pub(crate) fn failing(self) -> Self {
        Self { exit: Exit::Failed, ..self }
    }

    /// A list: a table with a row each, the ids being the first column.
    pub(crate) fn list(document: Value, header: &[&str], rows: Vec<Vec<String>>) -> Self {
        let ids = rows.iter().filter_map(|row| row.first().cloned()).collect();
        Self { document, ids, text: table(header, rows), exit: Exit::Done }
    }

    /// One thing: a line per field.
    pub(crate) fn fields(document: Value, id: &str, fields: &[(&str, String)]) -> Self {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
        Self { document, ids: vec![id.into()], text: lines.join("\n"), exit: Exit::Done }
    }
}

/// A table without borders, which also reads well in a pipe.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied()).add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.trim_fmt()
}

/// Prints the outcome of a command.
pub(crate) fn report(common: &Common, report: &Report) {
    if report.document.is_null() {
        // Everything was said on the way.
    } else if common.json {
        document(&report.document);
    } else if common.quiet {
        report.ids.iter().for_each(|id| result(id));
    } else if !report.text.is_empty() {
        result(&report.text);
    }
}

/// Prints why a command failed: one line, and with `--json` the document of an error.
pub(crate) fn failure(common: &Common, failure: &Failure) {
    if common.json {
        document(&json!({
            "Code": failure.code,
            "Message": failure.message,
            "RequestId": failure.request_id,
        }));
    }
    note(&format!("reinit: {}", failure.line()));
}

/// One line of result.
pub(crate) fn result(line: &str) {
    bytes(format!("{line}\n").as_bytes());
}

/// One JSON document of result, on one line.
pub(crate) fn document(value: &Value) {
    result(&value.to_string());
}

/// Result as it is, such as a script of completions.
pub(crate) fn bytes(content: &[u8]) {
    let mut out = io::stdout().lock();
    // Rust ignores SIGPIPE, so a closed pipe arrives here as an error.
    match out.write_all(content).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        // What was done is done, but whoever asked did not get the answer, such as a secret shown once.
        Err(error) => {
            note(&format!(
                "reinit: the command ran, but its result could not be written to standard output: {error}; \
                 look at where it goes"
            ));
            std::process::exit(1);
        }
    }
}

/// The whole terminal, which is given back as it was when this is dropped.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// Another screen than the one with the shell's lines, and no cursor.
    pub(crate) fn open() -> Self {
        bytes(b"\x1b[?1049h\x1b[?25l");
        Self(())
    }

    /// In place of what was shown.
    pub(crate) fn show(text: &str) {
        let lines: Vec<_> = text.lines().map(|line| format!("{line}\x1b[K\r\n")).collect();
        bytes(format!("\x1b[H{}\x1b[J", lines.concat()).as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        bytes(b"\x1b[?25h\x1b[?1049l");
    }
}

/// One line of what is going on.
pub(crate) fn note(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What is being done right now, for somebody who watches.
pub(crate) fn progress(common: &Common, what: &str) {
    if !common.quiet && io::stderr().is_terminal() {
        note(what);
    }
}

/// A bar of bytes with rate and remaining time; hidden unless standard error is a terminal.
pub(crate) fn bytes_bar(common: &Common, what: &str) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
    )
    .expect("the template is a constant that parses");
    ProgressBar::new(0).with_style(style).with_message(what.to_owned())
}

/// A bar of things that are counted; hidden unless standard error is a terminal.
pub(crate) fn count_bar(common: &Common, what: &str) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg} {eta} left")
        .expect("the template is a constant that parses");
    ProgressBar::new(0).with_style(style).with_message(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_first_column_as_ids() {
        let report =
            Report::list(json!({}), &["Id", "Size"], vec![vec!["d-1".into(), "1 GiB".into()]]);
        assert_eq!(report.ids, ["d-1"]);
        assert_eq!(report.text, "Id   Size\nd-1  1 GiB");
    }

    #[test]
    fn fields_are_aligned() {
        let report = Report::fields(
            json!({}),
            "d-1",
            &[("Id", "d-1".to_owned()), ("Status", "In_use".to_owned())],
        );
        assert_eq!(report.text, "Id      d-1\nStatus  In_use");
    }
}
