//! Plans from made-up twins.

use super::*;

fn twin(port: u8, index: u32, address: &str, up: bool) -> TwinView {
    TwinView {
        port: PortId(port),
        vrf: VrfId::GLOBAL,
        index,
        address: Some(address.parse().unwrap()),
        up,
        device: None,
    }
}

fn route(prefix: &str, target: StaticTarget) -> StaticRoute {
    StaticRoute {
        vrf: VrfId::GLOBAL,
        prefix: prefix.parse().unwrap(),
        target,
        global: false,
    }
}

/// The plan for the kernel of the global table.
fn global(routes: &[StaticRoute], twins: &[TwinView]) -> (Plan, Vec<KernelError>) {
    let (mut plans, problems) = Plans::new(routes, twins);
    assert!(plans.leaks.is_empty());
    let plan = plans.of.remove(&VrfId::GLOBAL).unwrap_or_default();
    assert!(plans.of.is_empty());
    (plan, problems)
}

fn next_hop(address: [u8; 4]) -> StaticTarget {
    StaticTarget::NextHop(address.into())
}

#[test]
fn a_next_hop_leaves_through_the_twin_of_its_subnet() {
    let twins = [
        twin(0, 10, "10.1.0.1/24", true),
        twin(1, 11, "10.2.0.1/24", true),
    ];
    let (plan, problems) = global(&[route("10.9.0.0/16", next_hop([10, 2, 0, 9]))], &twins);
    assert!(problems.is_empty());
    let entry = plan.entries.first().unwrap();
    assert_eq!(entry.out, Some((11, Some([10, 2, 0, 9].into()))));
    assert_eq!((entry.table, entry.metric), (MAIN, METRIC));
    assert!(plan.rules.is_empty(), "only a default route needs rules");
}

#[test]
fn a_default_route_brings_rules_for_each_of_our_addresses() {
    let twins = [
        twin(0, 10, "10.1.0.1/24", true),
        twin(1, 11, "10.2.0.1/24", true),
    ];
    let (plan, _) = global(&[route("0.0.0.0/0", next_hop([10, 2, 0, 9]))], &twins);
    let tables: Vec<_> = plan.entries.iter().map(|e| e.table).collect();
    assert_eq!(tables, [TABLE, MAIN]);
    assert_eq!(plan.rules.len(), 4);
}

#[test]
fn a_next_hop_on_no_link_is_a_problem_and_one_behind_a_shut_link_waits() {
    let twins = [twin(0, 10, "10.1.0.1/24", false)];
    let routes = [
        route("10.8.0.0/16", next_hop([172, 16, 0, 1])),
        route("10.9.0.0/16", next_hop([10, 1, 0, 9])),
    ];
    let (plan, problems) = global(&routes, &twins);
    assert!(plan.entries.is_empty());
    assert!(
        matches!(problems[..], [KernelError::NextHop(_)]),
        "{problems:?}"
    );
}

#[test]
fn of_several_routes_to_a_prefix_the_first_has_the_lowest_metric() {
    let twins = [twin(0, 10, "10.1.0.1/24", true)];
    let routes = [
        route("10.9.0.0/16", next_hop([10, 1, 0, 9])),
        route("10.9.0.0/16", StaticTarget::Null),
    ];
    let (plan, _) = global(&routes, &twins);
    let metrics: Vec<_> = plan
        .entries
        .iter()
        .map(|e| (e.metric, e.out.is_some()))
        .collect();
    assert_eq!(metrics, [(METRIC, true), (METRIC + 1, false)]);
}

#[test]
fn a_route_of_a_vrf_is_in_its_kernel_or_leads_out_of_the_global_table() {
    let red = VrfId(1);
    let of = |vrf, twin| TwinView { vrf, ..twin };
    let twins = [
        of(VrfId(2), twin(2, 7, "10.1.0.1/24", true)),
        of(red, twin(1, 7, "10.1.0.1/24", true)),
        twin(0, 7, "198.51.100.1/24", true),
    ];
    let in_red = |prefix, target, global| StaticRoute {
        vrf: red,
        global,
        ..route(prefix, target)
    };
    let out = next_hop([198, 51, 100, 9]);
    let routes = [
        in_red("10.9.0.0/16", next_hop([10, 1, 0, 9]), false),
        in_red("0.0.0.0/0", out, true),
        in_red("10.8.0.0/16", StaticTarget::Port(PortId(0)), true),
        // In the VRF there is no such subnet, and in the global table no such host.
        in_red("10.7.0.0/16", out, false),
        in_red("10.6.0.0/16", next_hop([10, 1, 0, 9]), true),
        in_red("10.5.0.0/16", StaticTarget::Null, true),
    ];
    let (plans, problems) = Plans::new(&routes, &twins);
    assert_eq!(problems.len(), 2, "{problems:?}");
    let leak = |prefix: &str, router| Leak {
        vrf: red,
        prefix: prefix.parse().unwrap(),
        metric: METRIC,
        port: PortId(0),
        router,
    };
    let router = Some([198, 51, 100, 9].into());
    let leaks = [leak("0.0.0.0/0", router), leak("10.8.0.0/16", None)];
    assert_eq!(plans.leaks, leaks);
    assert_eq!(plans.of.keys().collect::<Vec<_>>(), [&red]);
    let entries = plans.of[&red].entries.iter();
    let entries: Vec<_> = entries.map(|e| (e.prefix.to_string(), e.out)).collect();
    let connected = Some((7, Some([10, 1, 0, 9].into())));
    let wanted = [
        ("10.5.0.0/16".into(), None),
        ("10.9.0.0/16".into(), connected),
    ];
    assert_eq!(entries, wanted);
}

#[test]
fn what_is_written_is_read_back() {
    let outs = [
        Some((10, Some([10, 1, 0, 9].into()))),
        Some((10, None)),
        None,
    ];
    for out in outs {
        let entry = Entry {
            table: TABLE,
            prefix: "10.9.0.0/16".parse().unwrap(),
            metric: METRIC,
            out,
        };
        assert_eq!(Entry::read(&entry.message()), Some(entry));
    }
    for rule in rules([10, 1, 0, 1].into()) {
        assert_eq!(Rule::read(&rule.message()), Some(rule));
    }
}
