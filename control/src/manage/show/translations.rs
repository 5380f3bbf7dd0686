//! `show ip nat translations`: statics first, then the workers' entries as they come.

use spillway_dataplane::command::SessionFilter;

use super::json;
use crate::manage::appliance::Appliance;
use crate::manage::ask::SessionStream;
use crate::manage::command::{Failure, Format};
use crate::manage::output::{Output, Sink};
use crate::manage::translation::{HEADER, Translation};
use crate::manage::vrf::VrfNames;

/// The entries that `filter` means.
pub(in crate::manage) async fn translations<S: Sink>(
    appliance: &Appliance,
    filter: SessionFilter,
    verbose: bool,
    format: Format,
    out: &mut Output<'_, S>,
) -> Result<(), Failure> {
    let mut first = true;
    out.line(match format {
        Format::Text => HEADER,
        Format::Json => "{\"translations\":[",
    });
    let mut write = |entry: &Translation, text: &mut String| -> Result<(), Failure> {
        match format {
            Format::Text => {
                entry.write_row(text);
                if verbose {
                    entry.write_details(text);
                }
            }
            Format::Json => {
                text.push_str(if std::mem::take(&mut first) {
                    ""
                } else {
                    ",\n"
                });
                text.push_str(&json(entry)?);
            }
        }
        Ok(())
    };
    let end = match format {
        Format::Text => "",
        Format::Json => "\n]}\n",
    };
    let (snapshot, now) = (appliance.snapshot(), appliance.now());
    let vrfs = VrfNames::of(appliance);
    for entry in Translation::of_statics(&snapshot.nat, &vrfs, now) {
        if entry.is_meant_by(&filter) {
            write(&entry, out.text())?;
            out.flush_piece().await?;
        }
    }
    let mut sessions = SessionStream::new(appliance, filter);
    while let Some(session) = sessions.next().await? {
        write(&Translation::new(session, &vrfs), out.text())?;
        out.flush_piece().await?;
    }
    out.text().push_str(end);
    Ok(())
}
