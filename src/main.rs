//! Spillway: one binary, daemon and client.

mod bench;
mod check;
mod cli;
mod log;
mod run;
mod shell;

use std::process::ExitCode;

use clap::Parser;
use spillway_control::manage::{Format, client};
use spillway_dataplane::esp::spi_match::{self, Key};

use cli::{Ask, Cli, Client, Command, SpiCommand};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Check(options) => check::check(&options),
        Command::Show(ask) => ask_daemon("show", &ask),
        Command::Clear(ask) => ask_daemon("clear", &ask),
        Command::Exec(options) => shell::exec(&options),
        Command::Shell(client) => shell::shell(&client),
        Command::Debug(ask) => ask_daemon("debug", &ask),
        Command::Undebug(ask) => ask_daemon("undebug", &ask),
        Command::Explain(ask) => ask_daemon("explain", &ask),
        Command::Reload(client) => command(&client, "reload"),
        Command::Bench(options) => bench::bench(&options),
        Command::Spi {
            command: SpiCommand::Match { spi, key },
        } => match_spi(spi, key.as_deref()),
    }
}

fn match_spi(spi: u32, key: Option<&str>) -> ExitCode {
    if spi_match::is_reserved(spi) {
        eprintln!("spillway: SPI {spi:X} is reserved (0 to FF, RFC 4303 section 2.1)");
        return ExitCode::FAILURE;
    }
    let key = key.map_or(Key::NONE, |key| Key::from_octets(key.as_bytes()));
    println!("{:08X}", spi_match::answer(spi, key));
    ExitCode::SUCCESS
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
