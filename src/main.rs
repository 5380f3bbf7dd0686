//! Spillway: one binary, daemon and client.

mod bench;
mod check;
mod cli;
mod log;
mod run;

use std::process::ExitCode;

use clap::Parser;
use spillway_control::manage::{Format, client};

use cli::{Ask, Cli, Client, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Check(options) => check::check(&options),
        Command::Show(ask) => ask_daemon("show", &ask),
        Command::Clear(ask) => ask_daemon("clear", &ask),
        Command::Reload(client) => command(&client, "reload"),
        Command::Bench(options) => bench::bench(&options),
    }
}

fn ask_daemon(verb: &str, ask: &Ask) -> ExitCode {
    command(&ask.client, &format!("{verb} {}", ask.words.join(" ")))
}

fn command(options: &Client, line: &str) -> ExitCode {
    let format = if options.json {
        Format::Json
    } else {
        Format::Text
    };
    ExitCode::from(client::run(&options.socket, line, format))
}
