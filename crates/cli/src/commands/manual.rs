//! `completions` and `man`: made from the description of the command line itself, so that they never differ from it.

use std::{fs, path::Path};

use clap::CommandFactory as _;
use clap_mangen::Man;
use serde_json::json;

use crate::{args::Cli, failure::Failure, output::Report};

/// The completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "reinit", &mut script);
    text("Completions", &String::from_utf8_lossy(&script))
}

/// The manual page, or one page per command in a directory.
pub(crate) fn pages(directory: Option<&Path>) -> Result<Report, Failure> {
    let mut root = Cli::command();
    root.build();
    let Some(directory) = directory else {
        return Ok(text("Manual", &String::from_utf8_lossy(&page(&root)?)));
    };
    fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
    let mut names = Vec::new();
    write_pages(&root, directory, &mut names)?;
    let told = format!("{} pages are in {}", names.len(), directory.display());
    Ok(Report::done(json!({ "Pages": names.clone() }), names, told))
}

fn write_pages(
    command: &clap::Command,
    directory: &Path,
    names: &mut Vec<String>,
) -> Result<(), Failure> {
    let title = command.get_display_name().unwrap_or_else(|| command.get_name());
    let name = format!("{title}.1");
    let path = directory.join(&name);
    fs::write(&path, page(command)?).map_err(|error| unwritable(&path, &error))?;
    names.push(name);
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    below.into_iter().try_for_each(|below| write_pages(below, directory, names))
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered = Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Failure::local("OperationFailed", error))?;
    Ok(page)
}

fn text(field: &str, text: &str) -> Report {
    let text = text.trim_end().to_owned();
    Report::done(json!({ field: text }), vec![text.clone()], text)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local("OperationFailed", format!("writing {}: {error}", path.display()))
}
