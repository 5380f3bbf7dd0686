//! Finds libdpdk, binds what `shim.h` names and compiles the shim.
//!
//! This is the build script of `spillway-dpdk-sys`; cargo runs it in that crate's folder.
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::{env, error, fs};

/// The oldest DPDK that is supported: Debian 12's long-term release.
const OLDEST: &str = "22.11";

/// The libraries of DPDK that the shim calls. Drivers are plugins and are loaded at run time from
/// the folder that libdpdk was built with, so they are not named here. `rte_log` exists since 24.03.
const LIBRARIES: &[&str] = &[
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_eal",
    "rte_log",
];

/// DPDK's types that the shim hands out: pointers to them only.
const OPAQUE: &str = "#[repr(C)] pub struct rte_mbuf { _opaque: [u8; 0] }
#[repr(C)] pub struct rte_mempool { _opaque: [u8; 0] }
#[repr(C)] pub struct rte_flow { _opaque: [u8; 0] }";

fn main() {
    if let Err(error) = build() {
        // One sentence instead of a backtrace: this is what a user sees on a fresh machine.
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), Box<dyn error::Error>> {
    for file in ["../../build.rs", "shim.c", "interrupts.c", "shim.h"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let dpdk = find_dpdk()?;
    let flags = compiler_flags()?;
    link(&dpdk);
    compile_shim(&dpdk, &flags);
    bind(&dpdk, &flags)
}

/// Asks pkg-config for libdpdk, and asks cargo to come back when the answer may have changed.
fn find_dpdk() -> Result<pkg_config::Library, Box<dyn error::Error>> {
    let dpdk = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(false)
        .env_metadata(true)
        .probe("libdpdk")
        .map_err(|error| match error {
            pkg_config::Error::ProbeFailure { .. } | pkg_config::Error::Failure { .. } => format!(
                "DPDK {OLDEST} or newer was not found by pkg-config: install it with \
                 `apt-get install libdpdk-dev pkg-config clang libclang-dev`, or name the folder \
                 of libdpdk.pc in PKG_CONFIG_PATH."
            ),
            other => format!(
                "pkg-config could not be asked for DPDK ({}): install it with \
                 `apt-get install libdpdk-dev pkg-config clang libclang-dev`.",
                other.to_string().lines().next().unwrap_or_default()
            ),
        })?;
    if let Ok(folder) = pkg_config::get_variable("libdpdk", "pcfiledir") {
        println!(
            "cargo::rerun-if-changed={}",
            Path::new(&folder).join("libdpdk.pc").display()
        );
    }
    println!("cargo::metadata=version={}", dpdk.version);
    Ok(dpdk)
}

/// Flags for both compilers.
///
/// DPDK's headers need SSE4.2 and popcnt, which is x86-64-v2 (libdpdk's own `-march=corei7` is the
/// same level under another name). The shim stays at that level so that one binary runs on every
/// machine that libdpdk itself runs on; drivers choose wider vectors at run time by themselves.
/// `SPILLWAY_MARCH` names another level for a build that never leaves its machine.
fn compiler_flags() -> Result<Vec<String>, Box<dyn error::Error>> {
    println!("cargo::rerun-if-env-changed=SPILLWAY_MARCH");
    let mut flags = vec!["-include".to_owned(), "rte_config.h".to_owned()];
    match (
        env::var("SPILLWAY_MARCH"),
        env::var("CARGO_CFG_TARGET_ARCH")?.as_str(),
    ) {
        (Ok(level), _) if !level.is_empty() => flags.push(format!("-march={level}")),
        (_, "x86_64") => flags.push("-march=x86-64-v2".to_owned()),
        (_, "aarch64") => flags.push("-march=armv8-a+crc".to_owned()),
        _ => {}
    }
    Ok(flags)
}

/// Links the shared libraries: security updates of DPDK arrive without a rebuild, and drivers are
/// found in the default plugin folder.
fn link(dpdk: &pkg_config::Library) {
    for folder in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    for library in LIBRARIES
        .iter()
        .filter(|name| dpdk.libs.iter().any(|lib| lib == *name))
    {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}

fn compile_shim(dpdk: &pkg_config::Library, flags: &[String]) {
    let mut shim = cc::Build::new();
    shim.files(["shim.c", "interrupts.c"])
        .opt_level(3)
        .warnings(true)
        .extra_warnings(true);
    for folder in &dpdk.include_paths {
        // As a system folder: warnings about DPDK's headers are not ours to mend.
        shim.flag("-isystem").flag(folder);
    }
    for flag in flags {
        shim.flag(flag);
    }
    shim.compile("spillway_shim");
}

/// Binds the shim's names only: DPDK's own types stay opaque, so its layouts may change between
/// releases without touching Rust.
fn bind(dpdk: &pkg_config::Library, flags: &[String]) -> Result<(), Box<dyn error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs");
    // Where there is no libclang at all, the loader of it panics: the same sentence for both.
    std::panic::set_hook(Box::new(|_| {}));
    let builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(
            dpdk.include_paths
                .iter()
                .map(|folder| format!("-I{}", folder.display())),
        )
        .clang_args(flags)
        .allowlist_function("spw_.*")
        .allowlist_type("spw_.*")
        .allowlist_var("SPW_.*")
        .blocklist_type("rte_.*")
        .raw_line(OPAQUE)
        .prepend_enum_name(false)
        .formatter(bindgen::Formatter::None)
        .use_core();
    let said = match std::panic::catch_unwind(AssertUnwindSafe(|| builder.generate())) {
        Ok(Ok(bindings)) => return Ok(fs::write(out, bindings.to_string())?),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it was not found, or could not be loaded".to_owned(),
    };
    Err(format!(
        "DPDK's headers could not be read by libclang ({}): install the compiler with \
         `apt-get install clang libclang-dev libdpdk-dev`.",
        said.lines().next().unwrap_or_default()
    )
    .into())
}
