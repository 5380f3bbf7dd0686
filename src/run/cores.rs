//! Which cores the workers run on.

/// A core for each worker: the ones asked for, else the last ones that this process may use, so
/// that the first ones are left to the kernel and to control.
///
/// # Errors
/// One sentence.
pub(super) fn choose(workers: u8, wanted: Option<&[usize]>) -> Result<Vec<usize>, String> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let allowed: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
    pick(usize::from(workers), wanted, &allowed)
}

fn pick(workers: usize, wanted: Option<&[usize]>, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let cores = match wanted {
        Some(cores) if cores.len() != workers => {
            return Err(format!(
                "--cores names {} cores for {workers} workers; give one core a worker",
                cores.len()
            ));
        }
        Some(cores) => cores.to_vec(),
        None if workers > allowed.len() => {
            return Err(format!(
                "{workers} workers need as many cores, and this process may use {}; give --workers {}",
                allowed.len(),
                allowed.len()
            ));
        }
        None => allowed[allowed.len() - workers..].to_vec(),
    };
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(format!(
            "--cores: core {core} is not one that this process may use: {allowed:?}"
        )),
        None => Ok(cores),
    }
}

/// The NUMA node of a core, as the kernel tells it.
pub(super) fn numa_node(core: usize) -> Option<u32> {
    let folder = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    folder.flatten().find_map(|entry| {
        entry
            .file_name()
            .to_str()?
            .strip_prefix("node")?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn the_last_cores_unless_named() {
        assert_eq!(pick(2, None, &[0, 1, 4, 5]), Ok(vec![4, 5]));
        assert_eq!(pick(2, Some(&[1, 0]), &[0, 1, 4, 5]), Ok(vec![1, 0]));
        assert!(pick(3, None, &[0, 1]).is_err());
        assert!(pick(1, Some(&[7]), &[0, 1]).is_err());
        assert!(pick(1, Some(&[0, 1]), &[0, 1]).is_err());
    }
}
