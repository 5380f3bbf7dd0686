//! The mode that an operator is in, and where each configuration line leads.

use spillway_control::config::commands::Mode;
use spillway_control::config::syntax::{self, Item};
use spillway_control::config::text::Source;

/// A mode, and the line that led there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Behind `enable`.
    pub(super) is_enabled: bool,
    /// `None` outside `configure terminal`.
    pub(super) mode: Option<Mode>,
    pub(super) heading: String,
}

/// What a line in `configure terminal` comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Only the mode changes.
    Moved(Place),
    /// A command as outside `configure terminal`.
    Do(String),
    /// These lines are applied, and if they are good we are there.
    Apply(String, Option<Place>),
}

impl Place {
    /// `enable`.
    pub(super) fn enabled() -> Place {
        Place {
            is_enabled: true,
            ..Place::default()
        }
    }

    /// `configure terminal`.
    pub(super) fn configuring() -> Place {
        Place {
            mode: Some(Mode::Global),
            ..Place::enabled()
        }
    }

    /// What stands behind the host name.
    pub(super) fn prompt(&self) -> String {
        let end = if self.is_enabled { '#' } else { '>' };
        format!("{}{end}", self.mode_text())
    }

    fn mode_text(&self) -> &'static str {
        match self.mode {
            None => "",
            Some(Mode::Global) => "(config)",
            Some(Mode::Interface) => "(config-if)",
            Some(Mode::StandardList) => "(config-std-nacl)",
            Some(Mode::ExtendedList) => "(config-ext-nacl)",
            Some(Mode::Pool) => "(config-ipnat-pool)",
            Some(Mode::RouteMap) => "(config-route-map)",
            Some(Mode::Vrf) => "(config-vrf)",
            Some(Mode::IsakmpPolicy) => "(config-isakmp)",
            Some(Mode::TransformSet) => "(cfg-crypto-trans)",
            Some(Mode::CryptoMap) => "(config-crypto-map)",
            Some(Mode::Line) => "(config-line)",
        }
    }

    /// What a line comes to here; `None` outside `configure terminal`.
    pub(super) fn step(&self, line: &str) -> Option<Step> {
        let mode = self.mode?;
        let line = line.trim();
        if let Some(("do", command)) = line.split_once(char::is_whitespace) {
            return Some(Step::Do(command.trim().to_owned()));
        }
        let lines = match self.heading.as_str() {
            "" => line.to_owned(),
            heading => format!("{heading}\n{line}"),
        };
        let items = syntax::parse(&Source::new("terminal", &lines));
        let Some(Item::Statement(statement)) = items.last() else {
            return Some(Step::Apply(lines, None)); // refused with the reason
        };
        let command = statement.command;
        if command.ends {
            return Some(Step::Moved(Place::enabled()));
        }
        if command.pattern == "exit" {
            return Some(Step::Moved(match mode {
                Mode::Global => Place::enabled(),
                _ => Place::configuring(),
            }));
        }
        let place = match command.enters {
            Some(entered) => Place {
                mode: Some(entered),
                heading: line.to_owned(),
                ..Place::enabled()
            },
            None if command.mode == Mode::Global => Place::configuring(),
            None => self.clone(),
        };
        // A pool without a range is none: it comes with its first range.
        if command.enters == Some(Mode::Pool) {
            return Some(Step::Moved(place));
        }
        Some(Step::Apply(lines, Some(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The prompts on the way through these lines, all of them good.
    fn walk(lines: &[&str]) -> Vec<String> {
        let mut place = Place::configuring();
        let mut prompts = Vec::new();
        for line in lines {
            match place.step(line) {
                Some(Step::Moved(next) | Step::Apply(_, Some(next))) => place = next,
                Some(Step::Apply(_, None) | Step::Do(_)) | None => {}
            }
            prompts.push(place.prompt());
        }
        prompts
    }

    #[test]
    fn lines_lead_from_mode_to_mode() {
        let lines = [
            "int Inside",
            "mtu 1400",
            "exit",
            "ip access-list extended X",
            "ip route 10.0.0.0 255.0.0.0 10.1.0.2",
            "route-map M permit 10",
            "nonsense",
            "exit",
            "ip vrf RED",
            "rd 65000:1",
            "interface Inside",
            "ip vrf forwarding RED",
            "ip vrf BLUE",
            "end",
        ];
        let wanted = [
            "(config-if)#",
            "(config-if)#",
            "(config)#",
            "(config-ext-nacl)#",
            "(config)#",
            "(config-route-map)#",
            "(config-route-map)#",
            "(config)#",
            "(config-vrf)#",
            "(config-vrf)#",
            "(config-if)#",
            "(config-if)#",
            "(config-vrf)#",
            "#",
        ];
        assert_eq!(walk(&lines), wanted);
    }

    #[test]
    fn lines_are_sent_below_their_heading() {
        let place = Place {
            mode: Some(Mode::Interface),
            heading: "interface Inside".into(),
            ..Place::enabled()
        };
        let Some(Step::Apply(lines, _)) = place.step(" no shutdown ") else {
            panic!("not applied")
        };
        assert_eq!(lines, "interface Inside\nno shutdown");
        assert_eq!(place.step("do sh ver"), Some(Step::Do("sh ver".into())));
        assert_eq!(Place::default().step("show version"), None);
    }
}
