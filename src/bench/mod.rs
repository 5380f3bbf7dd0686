//! `spillway bench`: how many cycles a packet costs in the real worker, between ports in memory.
//!
//! Nothing is subtracted: a figure is what the worker's whole round costs, the making of the packets
//! and the taking back of their buffers included. What those two cost alone stands beside it.

mod events;
mod machine;
mod measure;
mod member;
mod memory;
mod report;
mod report_team;
mod rig;
mod rss;
mod slices;
mod stages;
mod team;
mod traffic;

use std::process::ExitCode;

use crate::cli::Bench;

/// Exit code where a run has become slower than `--check` allows, or could not be made.
const FAILED: u8 = 1;

/// Runs the command. Exit codes: 0 measured, 1 slower than the saved result or not measured.
pub(crate) fn bench(options: &Bench) -> ExitCode {
    let saved = options.check.as_deref().map(report::read).transpose();
    let saved = match saved {
        Ok(saved) => saved,
        Err(sentence) => return failed(&sentence),
    };
    if let Some(packets) = options.packets {
        let pass = |flows: &u32| measure::pass_exactly(options, *flows, packets);
        return match options.flows.iter().try_for_each(pass) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => failed(&sentence),
        };
    }
    let calibration = match measure::calibrate(options) {
        Ok(calibration) => calibration,
        Err(sentence) => return failed(&sentence),
    };
    let mut results = Vec::new();
    if !options.json {
        report::heading(&calibration, options.workers == 1);
    }
    for flows in &options.flows {
        match one_run(options, *flows, &calibration) {
            Ok(result) => results.push(result),
            Err(sentence) => return failed(&sentence),
        }
    }
    let answer = report::json(&calibration, &results);
    if options.json {
        println!("{answer:#}");
    }
    match saved {
        Some(saved) if !report::compare(&answer, &saved, options.json) => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Measures and, unless JSON is wanted, prints.
fn one_run(
    options: &Bench,
    flows: u32,
    calibration: &measure::Calibration,
) -> Result<serde_json::Value, String> {
    if options.workers > 1 {
        let measured = team::run(options, flows, calibration)?;
        if !options.json {
            report_team::lines(&measured, calibration);
        }
        return Ok(report_team::json(&measured, options, calibration));
    }
    if options.skew {
        return Err("--skew is for several workers: give --workers".to_owned());
    }
    let measured = measure::run(options, flows, calibration)?;
    if !options.json {
        report::line(&measured);
    }
    Ok(report::result(&measured))
}

fn failed(sentence: &str) -> ExitCode {
    eprintln!("bench: {sentence}");
    ExitCode::from(FAILED)
}
