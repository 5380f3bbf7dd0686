//! Changes of the running configuration: checked whole, then swapped in; or nothing happens.

use std::sync::Arc;
use std::time::Duration;

use spillway_control::config::{self, Config, Diagnostic, Policy, Severity, model};
use spillway_control::manage::{Change, ReloadReport, ask};
use spillway_dataplane::snapshot::PortId;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::super::ports::{spec, with_port};
use super::super::{files, save};
use super::{Control, hostname, kernel_config, publish};
use crate::check::{self, Files};

/// What a change comes to.
type Changed = Result<ReloadReport, Vec<String>>;

/// A change that somebody waits for.
pub(super) type ReloadRequest = (Change, oneshot::Sender<Changed>);

/// What is gone back to unless somebody confirms.
pub(super) struct Unconfirmed {
    config: Arc<Config>,
    pub(super) until: Instant,
}

/// Waits for this moment; without one, for ever.
pub(super) async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Control<'_> {
    /// Does what an operator asks.
    pub(super) async fn change(&mut self, change: Change) -> Changed {
        match change {
            Change::Reload => self.reload().await,
            Change::Replace(file) => {
                let files = Files {
                    config: file,
                    ..files(self.options)
                };
                self.load(&files).await
            }
            Change::Amend(lines) => self.amend(&lines).await,
            Change::Write => self.write().await,
            Change::Confirmed(minutes) => {
                let earlier = self.unconfirmed.take();
                let running = || Arc::clone(&self.policy.config);
                let config = earlier.map_or_else(running, |earlier| earlier.config);
                let until = Instant::now() + Duration::from_secs(60 * u64::from(minutes));
                self.unconfirmed = Some(Unconfirmed { config, until });
                info!("changes from now on go in {minutes} minutes unless they are confirmed");
                Ok(self.nothing_changed())
            }
            Change::Confirm => match self.unconfirmed.take() {
                Some(_) => {
                    info!("confirmed: the running configuration stays");
                    Ok(self.nothing_changed())
                }
                None => Err(vec!["% nothing waits to be confirmed".to_owned()]),
            },
        }
    }

    fn nothing_changed(&self) -> ReloadReport {
        ReloadReport {
            file: self.options.config.display().to_string(),
            kept: self.workers.occupancy.active(),
            ..ReloadReport::default()
        }
    }

    /// Reads the configuration again, and swaps it in.
    pub(super) async fn reload(&mut self) -> Changed {
        self.load(&files(self.options)).await
    }

    async fn load(&mut self, files: &Files) -> Changed {
        let name = files.config.display().to_string();
        let files = files.clone();
        let load = move || check::load(&files).map_err(|refused| refused.texts());
        let (config, warnings) = aside(load).await??;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        self.put(Arc::new(config), &name, warnings).await
    }

    async fn write(&mut self) -> Changed {
        if self.unconfirmed.is_some() {
            let why = "% the changes wait for `configure confirm`; nothing is written";
            return Err(vec![why.to_owned()]);
        }
        let file = self.options.config.clone();
        let text = self.policy.config.to_string();
        let name = file.display().to_string();
        let written = aside(move || save::write(&file, &text)).await?;
        written.map_err(|e| vec![format!("% {name} can't be written: {e}")])?;
        info!("{name} is written");
        Ok(self.nothing_changed())
    }

    /// Lines of `configure terminal`: checked whole, then in force. Warnings are those about the
    /// last line; the ones above only tell where it belongs.
    async fn amend(&mut self, lines: &str) -> Changed {
        let texts = |diagnostics: Vec<Diagnostic>| -> Vec<String> {
            diagnostics.iter().map(|d| at_terminal(d, lines)).collect()
        };
        let (before, typed) = (Arc::clone(&self.policy.config), lines.to_owned());
        let amend = move || {
            let amended = config::amend(Config::clone(&before), "terminal", &typed);
            amended.map(|(config, warnings)| (config == *before, config, warnings))
        };
        let (same, config, mut warnings) = aside(amend).await?.map_err(texts)?;
        warnings.retain(|w| w.line as usize == lines.lines().count());
        let warnings = texts(warnings);
        if same {
            return Ok(ReloadReport {
                warnings,
                ..self.nothing_changed()
            });
        }
        let report = self.put(Arc::new(config), "terminal", warnings).await?;
        let line = without_secrets(lines.lines().last().unwrap_or_default().trim());
        info!(
            "configured from the terminal: `{line}`; {} entries withdrawn, {} kept",
            report.withdrawn, report.kept
        );
        Ok(report)
    }

    /// Nobody has confirmed in time.
    pub(super) async fn go_back(&mut self) {
        let Some(unconfirmed) = self.unconfirmed.take() else {
            return;
        };
        warn!("not confirmed in time: the earlier configuration comes back");
        match self.put(unconfirmed.config, "earlier", Vec::new()).await {
            Ok(report) => info!(
                "rolled back: {} entries withdrawn, {} kept",
                report.withdrawn, report.kept
            ),
            Err(errors) => {
                for text in errors {
                    error!("{text}");
                }
            }
        }
    }

    /// Swaps a checked configuration in.
    pub(super) async fn put(
        &mut self,
        config: Arc<Config>,
        name: &str,
        mut warnings: Vec<String>,
    ) -> Changed {
        same_ports(&self.policy.config, &config)?;
        self.leases.refuse(&config)?;
        let now = self.workers.clock.millis().tick();
        let (new, before) = (Arc::clone(&config), Arc::clone(&self.policy));
        let lent = self.leases.by_name(&config);
        let compile = move || Policy::compile(new, &lent, now, Some(&before));
        let policy = Arc::new(aside(compile).await?);
        let links = (&self.ports, &self.links);
        let kernel = kernel_config(&config, &policy, links, &self.leases)
            .map_err(|e| vec![e.to_string()])?;
        let problems = self.kernel.apply(&kernel).await;
        warnings.extend(problems.iter().map(ToString::to_string));

        self.policy = Arc::clone(&policy);
        self.running.store(Arc::clone(&policy), &self.leases);
        self.hostname.store(Arc::new(hostname(&config)));
        let interfaces = self.interfaces();
        publish(&self.publisher, |p| {
            p.publish(|snapshot| {
                snapshot.interfaces = interfaces;
                snapshot.nat = Arc::clone(&policy.nat);
            });
        });
        self.keep_dhcp();
        let withdrawn = match ask::reconcile(&self.appliance).await {
            Ok(withdrawn) => withdrawn,
            Err(error) => {
                warnings.push(format!(
                    "it is in force, but entries of before may still be there: {error}"
                ));
                0
            }
        };
        Ok(ReloadReport {
            file: name.to_owned(),
            warnings,
            withdrawn,
            kept: self.workers.occupancy.active(),
        })
    }
}

/// Does what takes long on another thread: packets to and from the kernel pass through this one.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Vec<String>> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| vec![error.to_string()])
}

/// The line as far as the log may have it.
fn without_secrets(line: &str) -> String {
    match line.split_once(" key ") {
        Some((before, _)) => format!("{before} key ..."),
        None => line.to_owned(),
    }
}

/// A diagnostic about a line that was typed: the line, a caret under the word, a sentence.
fn at_terminal(diagnostic: &Diagnostic, lines: &str) -> String {
    let what = diagnostic.sentence();
    let last = lines.lines().count();
    match (diagnostic.severity, diagnostic.line as usize) {
        (Severity::Warning, _) => format!("% Warning: {what}"),
        (Severity::Error, 0) => format!("% {what}"),
        (Severity::Error, line) if line != last => {
            format!("% {what}, in `{}`", diagnostic.line_text)
        }
        (Severity::Error, _) => {
            let line = diagnostic.line_text.replace('\t', " ");
            let indent = " ".repeat(diagnostic.column.saturating_sub(1) as usize);
            format!("{line}\n{indent}^\n% Invalid input detected at '^' marker: {what}")
        }
    }
}

/// Ports stay while the process runs.
fn same_ports(running: &Config, new: &Config) -> Result<(), Vec<String>> {
    let list = |config: &Config| -> Vec<(String, String)> {
        let key = |(_, interface, port): (PortId, &model::Interface, &model::Port)| {
            (interface.name.to_ascii_lowercase(), spec(port).to_owned())
        };
        with_port(config).map(key).collect()
    };
    let (have, want) = (list(running), list(new));
    if have == want {
        return Ok(());
    }
    let text = |ports: &[(String, String)]| {
        ports
            .iter()
            .map(|(name, spec)| format!("{name} ({spec})"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    Err(vec![format!(
        "the new configuration has other ports: {}; running are {}. Ports can't change while the appliance runs: \
         stop it and start it again",
        text(&want),
        text(&have)
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &str, lines: &str) -> Vec<String> {
        let (config, _) = config::parse("test", config).expect("good");
        let errors = config::amend(config, "terminal", lines).expect_err(lines);
        errors.iter().map(|d| at_terminal(d, lines)).collect()
    }

    #[test]
    fn a_typed_line_is_refused_with_a_caret_under_the_word() {
        let wanted = "mtu 67\n    ^\n% Invalid input detected at '^' marker: expected a number 68-9216, found `67`";
        assert_eq!(refused("", "interface In\nmtu 67"), [wanted]);
    }

    #[test]
    fn what_a_line_would_break_elsewhere_is_told_without_a_caret() {
        let pool = "ip nat pool P 192.0.2.1 192.0.2.9 prefix-length 24\nip nat inside source list 1 pool P\n";
        assert_eq!(refused(pool, "no ip nat pool P"), ["% there is no pool P"]);
    }
}
