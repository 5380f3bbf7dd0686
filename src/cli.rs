//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where the daemon listens for its clients unless told otherwise.
pub(crate) const SOCKET: &str = "/run/spillway/spillway.sock";

/// Network address translation on DPDK, in the language of Cisco IOS.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the appliance in the foreground; SIGTERM or SIGINT stops it, SIGHUP reloads
    Run(Box<Run>),
    /// Tell whether a configuration is good
    Check(Check),
    /// Show what the running appliance does, for one: show ip nat translations
    Show(Ask),
    /// Clear entries or counters, for one: clear ip nat translation *
    Clear(Ask),
    /// Run commands of the shell one after the other; stops at the first that fails
    Exec(Exec),
    /// Work with the running appliance at a prompt, or from a pipe
    Shell(Client),
    /// Tell of decisions as they are made, until interrupted, for one: debug ip nat ipsec
    Debug(Ask),
    /// End everybody's debugging: undebug all
    Undebug(Ask),
    /// Say what would become of a packet now, for one: explain tcp 10.1.0.2:4000 203.0.113.5:80
    Explain(Ask),
    /// Read the configuration file again and swap it in
    Reload(Client),
    /// Measure a worker between ports in memory: no kernel, no network card, no appliance
    Bench(Bench),
    /// SPI matching: how the two ends of a tunnel choose their SPIs
    Spi {
        #[command(subcommand)]
        command: SpiCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpiCommand {
    /// Print the SPI that answers another one; needs no running appliance
    Match {
        /// The initiator's SPI, in hexadecimal
        #[arg(value_name = "HEX", value_parser = parse_spi)]
        spi: u32,
        /// Group key [default: none]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
}

fn parse_spi(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_hex)
        .ok_or_else(|| format!("expected an SPI of 1 to 8 hexadecimal digits, found {text:?}"))
}

/// Arguments of `spillway run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// File with the `port` lines of the interfaces, so that a router's configuration stays as it is
    #[arg(long, value_name = "FILE")]
    pub(crate) ports: Option<PathBuf>,
    /// Worker threads, each on a core of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) workers: u8,
    /// Cores for the workers, for one 2,3 or 2-5 [default: the last ones that this process may use]
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    pub(crate) cores: Option<Cores>,
    /// What a worker does when nothing comes
    #[arg(long, value_enum, default_value_t = IdleArg::Spin)]
    pub(crate) idle: IdleArg,
    /// Most entries in the translation tables of all workers together
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(64..=1 << 28))]
    pub(crate) sessions: u32,
    /// Packet buffers in all
    #[arg(long, value_name = "N", default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1024..=1 << 22))]
    pub(crate) buffers: u32,
    /// DPDK's memory in megabytes [default: what the packet buffers need]
    #[arg(long, value_name = "MB")]
    pub(crate) memory: Option<u32>,
    /// Use normal pages even where hugepages are reserved
    #[arg(long)]
    pub(crate) no_huge: bool,
    /// Management socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
    /// Address and port for JSON and Prometheus metrics over HTTP
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9187")]
    pub(crate) http: SocketAddr,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,spillway_control=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log_level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IdleArg {
    /// Nap for some microseconds when quiet
    Sleep,
    /// Poll on, for the lowest latency
    Spin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line an event
    Text,
    /// One JSON object an event
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Configuration file
    pub(crate) file: PathBuf,
    /// File with the `port` lines of the interfaces
    #[arg(long, value_name = "FILE")]
    pub(crate) ports: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Client {
    /// Management socket of the running appliance
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) client: Client,
    /// The rest of the command
    #[arg(required = true, value_name = "WORDS")]
    pub(crate) words: Vec<String>,
}

/// Arguments of `spillway bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Established flows, one run for each number
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 1000, 65536], value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(crate) flows: Vec<u32>,
    /// Whether packets come in the order in which their entries were made
    #[arg(long, value_enum, default_value_t = BenchOrder::Unrelated)]
    pub(crate) order: BenchOrder,
    /// Which way packets go
    #[arg(long, value_enum, default_value_t = BenchDirection::Out)]
    pub(crate) direction: BenchDirection,
    /// What the packets are
    #[arg(long, value_enum, default_value_t = BenchProto::Udp)]
    pub(crate) proto: BenchProto,
    /// Packets that come at once from each port
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) burst: u8,
    /// Workers, each on a core of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) workers: u8,
    /// With several workers: half of all packets are one client's
    #[arg(long)]
    pub(crate) skew: bool,
    /// Of every hundred packets, how many begin a new flow each; only with --direction out
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) new_share: u8,
    /// Also measure rounds while the whole table is shown, reconciled after a reload, cleared, and expires
    #[arg(long)]
    pub(crate) events: bool,
    /// How long each run measures, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    pub(crate) duration: u64,
    /// Instead of measuring, pass exactly this many packets a run, always the same way: to count instructions. Of
    /// several workers, through the first one, of flows that it owns
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "check"])]
    pub(crate) packets: Option<u64>,
    /// With --packets: pass them no further than through this stage
    #[arg(long, value_name = "STAGE", requires = "packets")]
    pub(crate) up_to: Option<BenchStage>,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Compare with the JSON of an earlier run; fails where a run costs more than 1.15 times as many cycles
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchStage {
    /// Packets made, and sent as they came
    Receive,
    /// And their headers read
    Parse,
    /// And their entries looked up
    LookUp,
    /// And their headers written
    Rewrite,
    /// No packets at all: as many rounds in which nothing comes
    Age,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOrder {
    /// As the entries were made
    Same,
    /// Shuffled
    Unrelated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchDirection {
    /// From inside to outside
    Out,
    /// From outside to inside
    In,
    /// A burst from each side in turn
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchProto {
    /// UDP in 64-octet frames
    Udp,
    /// Established TCP in 64-octet frames
    Tcp,
    /// ICMP echo in 64-octet frames
    Icmp,
    /// ESP tunnels in 64-octet frames, each of a client of its own, paired by SPI matching
    Esp,
    /// UDP in frames of 64, 594 and 1518 octets, seven to four to one
    Imix,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) client: Client,
    /// Commands, each one argument
    #[arg(required = true, value_name = "COMMAND")]
    pub(crate) commands: Vec<String>,
}

/// Core numbers, in the order given.
pub(crate) type Cores = Vec<usize>;

fn parse_cores(list: &str) -> Result<Cores, String> {
    let number = |text: &str| {
        let wrong = |_| format!("expected core numbers such as 2,3 or 2-5, found {text:?}");
        text.parse::<usize>().map_err(wrong)
    };
    let mut cores = Cores::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= 4096 {
            return Err(format!(
                "expected a range from a lower to a higher core number, found {part:?}"
            ));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is named twice"));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn core_lists() {
        assert_eq!(parse_cores("3"), Ok(vec![3]));
        assert_eq!(parse_cores("2-4,9"), Ok(vec![2, 3, 4, 9]));
        for wrong in ["", "a", "4-2", "1,1", "1-", "2-3,3", "0-99999999"] {
            assert!(parse_cores(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn options_may_follow_the_words() {
        let cli = Cli::try_parse_from([
            "spillway",
            "show",
            "ip",
            "nat",
            "translations",
            "tcp",
            "--json",
        ]);
        let Ok(Cli {
            command: Command::Show(ask),
        }) = cli
        else {
            panic!("not a show command")
        };
        assert!(ask.client.json);
        assert_eq!(ask.words.join(" "), "ip nat translations tcp");
    }
}
