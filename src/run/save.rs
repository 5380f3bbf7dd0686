//! Writing the configuration file so that there is always a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Puts `text` in the place of a file, which keeps its owner and mode. Whatever happens, the file
/// is either the old one or the new one.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    // A link stays a link.
    let file = fs::canonicalize(file)?;
    let old = fs::metadata(&file)?;
    let mut beside = file.clone().into_os_string();
    beside.push(format!(".{}.new", std::process::id()));
    let written = fill(Path::new(&beside), &old, text).and_then(|()| fs::rename(&beside, &file));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&beside);
    }
    written?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn fill(beside: &Path, old: &fs::Metadata, text: &str) -> io::Result<()> {
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)?;
    fchown(&new, Some(old.uid()), Some(old.gid()))?;
    new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_links_stay_and_nothing_is_left_beside() {
        let folder = std::env::temp_dir().join(format!("spillway-save-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        let (file, link) = (folder.join("a.conf"), folder.join("link"));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        write(&link, "new").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("read"), "new");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
