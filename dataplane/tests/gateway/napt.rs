//! Port translation of TCP, UDP and ICMP echo, there and back.

use crate::support::{INSIDE, OUTSIDE, Policy, each, ping, pong, tcp, udp};

#[test]
fn udp_goes_out_and_comes_back() {
    each(Policy::overload, |lab| {
        lab.expect(INSIDE, udp("10.1.0.2:5000", "203.0.113.5:9"), "1 udp 198.51.100.1:5000 > 203.0.113.5:9");
        lab.expect(OUTSIDE, udp("203.0.113.5:9", "198.51.100.1:5000"), "0 udp 203.0.113.5:9 > 10.1.0.2:5000");
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn tcp_goes_out_and_comes_back() {
    each(Policy::overload, |lab| {
        lab.expect(INSIDE, tcp("10.9.7.7:40000", "203.0.113.5:80", "S"), "1 tcp 198.51.100.1:40000 > 203.0.113.5:80 S");
        lab.expect(OUTSIDE, tcp("203.0.113.5:80", "198.51.100.1:40000", "SA"), "0 tcp 203.0.113.5:80 > 10.9.7.7:40000 SA");
        lab.expect(INSIDE, tcp("10.9.7.7:40000", "203.0.113.5:80", "A"), "1 tcp 198.51.100.1:40000 > 203.0.113.5:80 A");
        assert_eq!(lab.entries(), 1);
    });
}

#[test]
fn echo_goes_out_and_comes_back() {
    each(Policy::overload, |lab| {
        lab.expect(INSIDE, ping("10.1.0.2", "203.0.113.5", 77), "1 ping 198.51.100.1 > 203.0.113.5 77");
        lab.expect(OUTSIDE, pong("203.0.113.5", "198.51.100.1", 77), "0 pong 203.0.113.5 > 10.1.0.2 77");
        assert_eq!(lab.entries(), 1);
    });
}
