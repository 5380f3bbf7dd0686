//! What can't start says why, and DPDK starts once a process.
use spillway_dpdk::{Eal, EalError, EalOptions, Memory, Pool, PoolConfig, PoolError};

#[test]
fn the_environment_starts_once_and_refusals_name_their_reason() {
    let huge = EalOptions {
        memory: Memory::Huge,
        memory_mb: u32::MAX,
        ..EalOptions::default()
    };
    let error = Eal::start(huge).expect_err("no machine has that many huge pages");
    assert!(
        matches!(
            error,
            EalError::HugePages {
                wanted_mb: u32::MAX,
                ..
            }
        ),
        "{error}"
    );
    let odd = EalOptions {
        pci: vec!["--vdev=net_null0".to_owned()],
        ..EalOptions::default()
    };
    let error = Eal::start(odd).expect_err("an option can't be smuggled in");
    assert!(matches!(error, EalError::Option(_)), "{error}");

    // Neither of them has used up the one start that there is.
    let options = EalOptions {
        memory: Memory::Normal,
        memory_mb: 64,
        ..EalOptions::default()
    };
    let eal = Eal::start(options.clone()).expect("DPDK starts on normal pages");
    assert!(!eal.huge_pages() && eal.warning().is_none());
    assert!(Eal::version().starts_with("DPDK "), "{}", Eal::version());
    assert_eq!(
        Eal::start(options.clone()).err(),
        Some(EalError::AlreadyStarted)
    );

    let config = PoolConfig {
        count: 1023,
        ..PoolConfig::default()
    };
    let pool = Pool::create(&eal, &config).expect("64 MB hold 1023 buffers");
    let error = Pool::create(&eal, &config).expect_err("the name is taken");
    assert_eq!(error, PoolError::Exists("packets".to_owned()));
    let large = PoolConfig {
        name: "large".to_owned(),
        count: 1_000_000,
        ..PoolConfig::default()
    };
    let error = Pool::create(&eal, &large).expect_err("64 MB hold no million buffers");
    assert!(
        matches!(
            error,
            PoolError::Memory {
                needed_mb: 2000..3000
            }
        ),
        "{error}"
    );
    for name in ["", "has space", "nul\0", "twenty-six-octets-is-too-l"] {
        let named = PoolConfig {
            name: name.to_owned(),
            ..PoolConfig::default()
        };
        assert!(
            matches!(Pool::create(&eal, &named), Err(PoolError::Name(_))),
            "{name:?}"
        );
    }
    let none = PoolConfig {
        name: "none".to_owned(),
        count: 0,
        ..PoolConfig::default()
    };
    assert_eq!(Pool::create(&eal, &none).err(), Some(PoolError::Size));

    drop((pool, eal));
    assert_eq!(Eal::start(options).err(), Some(EalError::AlreadyStarted));
}
