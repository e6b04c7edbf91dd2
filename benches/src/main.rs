//! `benches`: asks the questions and prints one markdown table.
//!
//! As root it goes into a mount namespace of its own first, so that the file systems it mounts end
//! with it, however it ends.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use anyhow::Context as _;
use benches::{
    filesystem::{self, Place},
    machine::Machine,
    questions::{self, Question, Scope},
    table,
};
use clap::Parser;

/// Set in the namespace.
const INSIDE: &str = "REINIT_BENCH_NAMESPACE";

/// Ours against named peers, interleaved in one run; prints one markdown table.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  cargo run --release -p benches -- all --out table.md\n  \
                  cargo run --release -p benches -- engine_reset import --rounds 15 --dir /srv")]
struct Asked {
    /// Questions, or `all`
    #[arg(required = true, value_parser = names())]
    questions: Vec<String>,
    /// Rounds of each case
    #[arg(long, default_value_t = 11, value_name = "N", value_parser = at_least_one)]
    rounds: usize,
    /// Small sizes and few cases, to see that everything runs
    #[arg(long)]
    quick: bool,
    /// Measure in this directory [default: ext4 and XFS in loop files, as root]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the table to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The program `reinit` [default: the release build of this workspace]
    #[arg(long, value_name = "FILE")]
    reinit: Option<PathBuf>,
}

fn names() -> Vec<&'static str> {
    ["all"].into_iter().chain(questions::ALL.iter().map(|question| question.name)).collect()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one round is needed".into()),
        Ok(rounds) => Ok(rounds),
        Err(error) => Err(format!("{error}")),
    }
}

fn main() -> anyhow::Result<()> {
    let asked = Asked::parse();
    if asked.dir.is_none() {
        enter_namespace();
    }
    let machine = Machine::here();
    let mut notes: Vec<String> = machine.warning().into_iter().collect();
    if cfg!(debug_assertions) {
        notes.push("**Not a release build**: the engine's figures mean nothing".into());
    }
    let (places, skipped) = filesystem::places(asked.dir.as_deref())?;
    notes.extend(skipped);
    notes.extend(places.iter().map(Place::line));
    for note in &notes {
        eprintln!("{note}");
    }
    let scope = Scope { rounds: asked.rounds, quick: asked.quick, program: asked.reinit.clone() };
    let mut rows = Vec::new();
    for question in asked.questions() {
        for place in &places {
            eprintln!("{} on {} ...", question.name, place.name);
            let found = question.rows(&scope, place);
            found.iter().for_each(|row| eprintln!("{}", row.line()));
            rows.extend(found);
        }
    }
    let text = table::document(&machine.line(), &command(), &notes, &rows);
    io::stdout().write_all(text.as_bytes())?;
    if let Some(out) = &asked.out {
        fs::write(out, &text).with_context(|| out.display().to_string())?;
    }
    Ok(())
}

impl Asked {
    /// The questions asked, in the order of the table.
    fn questions(&self) -> impl Iterator<Item = &'static Question> {
        let wanted =
            |name: &str| self.questions.iter().any(|asked| asked == "all" || asked == name);
        questions::ALL.iter().filter(move |question| wanted(question.name))
    }
}

/// Goes on in a mount namespace of its own, if this is root and there is `unshare`; else goes on
/// here.
fn enter_namespace() {
    if env::var_os(INSIDE).is_some() || !rustix::process::geteuid().is_root() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program);
    // Only comes back if it failed.
    let error = command.args(env::args_os().skip(1)).env(INSIDE, "1").exec();
    eprintln!("no mount namespace of our own ({error}); mounts stay if this is killed");
}

fn command() -> String {
    let arguments: Vec<String> = env::args().skip(1).collect();
    format!("cargo run --release -p benches -- {}", arguments.join(" "))
}
