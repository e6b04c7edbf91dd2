//! `reinit`: the daemon and the commands that talk to it.
//!
//! What must always hold: every command ends with one of three exit codes and, when it failed, with one line.
//! Left to others: everything; this is the table of contents.

mod args;
mod commands;
mod config;
mod control;
mod daemon;
mod exit_code;
mod failure;
mod iso9660;
mod output;
mod places;
mod size;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::{Cli, Command},
    commands::{
        account, audit, backup, demo, disk, fsck, image, init, instance, key, manual, reset, scrub,
        serve, snapshot, tls, top,
    },
    control::Control,
    exit_code::Exit,
    failure::Failure,
    output::Report,
    places::Places,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when the stream is closed.
            let _ = error.print();
            return Exit::from(&error).into();
        }
    };
    let exit = match run(&cli) {
        Ok(report) => {
            output::report(&cli.common, &report);
            report.exit
        }
        Err(failure) => {
            output::failure(&cli.common, &failure);
            Exit::Failed
        }
    };
    exit.into()
}

fn run(cli: &Cli) -> Result<Report, Failure> {
    let common = &cli.common;
    let places = || Places::new(common.store.as_deref());
    let control = || Control::of(&places()?);
    match &cli.command {
        Command::Demo(args) => demo::run(common, args),
        Command::Init => init::run(&places()?),
        Command::Fsck(args) => fsck::run(&places()?, common, args),
        Command::Serve(args) => serve::run(&places()?, args),
        Command::Completions { shell } => Ok(manual::completions(*shell)),
        Command::Man { dir } => manual::pages(dir.as_deref()),
        Command::Backup => {
            let places = places()?;
            backup::run(&places, &Control::of(&places)?)
        }
        Command::Key(command) => key::run(&control()?, command),
        Command::Account(command) => account::run(&control()?, command),
        Command::Image(command) => image::run(&control()?, common, command),
        Command::Disk(command) => disk::run(&control()?, common, command),
        Command::Snapshot(command) => snapshot::run(&control()?, command),
        Command::Instance(command) => instance::run(&control()?, command),
        Command::Reset(args) => reset::run(&control()?, common, args),
        Command::Top(args) => top::run(&control()?, common, args),
        Command::Tls(command) => tls::run(&places()?, command),
        Command::Audit(args) => audit::run(&places()?, common, args),
        Command::Scrub(args) => scrub::run(&places()?, common, args),
    }
}
