//! Every command of the language's description: what it does to the running configuration, its
//! `no` form, and at least three wrong variants with their column and a part of the message.

use super::rows::{ONE, Row, TWO, row};
use super::*;

const MAP: &str = "route-map R permit 10\n";
const POOL_R: &str = "ip nat pool S 10.3.0.1 10.3.0.9 prefix-length 24 type rotary\naccess-list 2 permit 192.0.2.8\n";
const POOL_S: &str = "ip nat pool S 10.3.0.1 10.3.0.9 prefix-length 24\n";
const VRF: &str = "ip vrf V\n";
const CUSTOMER: &str = "ip vrf V\ninterface In\n ip vrf forwarding V\n ip address 10.0.0.1 255.255.255.0\n\
    interface Out\n ip address 192.0.2.1 255.255.255.0\n";
const CRYPTO: &str = "crypto map M 10 ipsec-isakmp\n";

// A row a command, a line a wrong variant: formatting would make four times as many lines.
#[rustfmt::skip]
const SPEC: &[Row] = &[
    row("", "interface E0",
        "interface E0", "no interface E0", &[
        ("interface", 10, "the name of an interface"),
        ("interface 7", 11, "found `7`"),
        ("interface E0 x", 11, "found `E0x`"),
    ]),
    row(ONE, "port pci 0000:03:00.0",
        " port pci 0000:03:00.0", "no port", &[
        ("port", 5, "`pci` or `vdev`, found the end"),
        ("port pci 0000:03:00.9", 10, "a PCI address"),
        ("port pci 0000:03:00.0 x", 23, "the end of the line"),
    ]),
    row(ONE, "port vdev net_ring0",
        " port vdev net_ring0", "no port vdev", &[
        ("port vdev", 10, "found the end"),
        ("port vdev 0ring", 11, "device arguments"),
        ("port vdev a b", 13, "the end of the line"),
    ]),
    row(ONE, "ip address 10.0.0.1 255.0.0.0",
        " ip address 10.0.0.1 255.0.0.0", "no ip address", &[
        ("ip address", 11, "found the end"),
        ("ip address 10.0.0 255.0.0.0", 12, "an address A.B.C.D"),
        ("ip address 10.0.0.1 255.0.0.1", 21, "a netmask"),
    ]),
    row(ONE, "ip address dhcp",
        " ip address dhcp", "no ip address", &[
        ("ip address dhcp x", 17, "the end of the line"),
        ("ip address dhcpx", 12, "`dhcp`"),
        ("ip addresses dhcp", 4, "`address`"),
    ]),
    row(ONE, "ip nat outside",
        " ip nat outside", "no ip nat outside", &[
        ("ip nat", 7, "`inside`"),
        ("ip nat both", 8, "`outside`"),
        ("ip nat outside inside", 16, "the end of the line"),
    ]),
    row(ONE, "ip access-group 101 out",
        " ip access-group 101 out", "no ip access-group 101 out", &[
        ("ip access-group", 16, "found the end"),
        ("ip access-group 200 in", 17, "a number 1-199"),
        ("ip access-group 101 through", 21, "`in` or `out`"),
    ]),
    row(ONE, "mtu 9000",
        " mtu 9000", "no mtu", &[
        ("mtu", 4, "a number 68-9216, found the end"),
        ("mtu 60", 5, "a number 68-9216"),
        ("mtu 1500 octets", 10, "the end of the line"),
    ]),
    row(ONE, "description a b",
        " description a b", "no description", &[
        ("description", 12, "text"),
        ("descr", 6, "text"),
        ("descriptions a b", 1, "found `descriptions`"),
    ]),
    row(ONE, "no keepalive 10",
        " no keepalive", "keepalive", &[
        ("no keepalives", 4, "found `keepalives`"),
        ("no keepalive-10", 4, "found `keepalive-10`"),
        ("keepalives", 1, "found `keepalives`"),
    ]),
    row(ONE, "shutdown",
        " shutdown", "no shutdown", &[
        ("shutdown now", 10, "the end of the line"),
        ("shutdown 1", 10, "found `1`"),
        ("shutdowns", 1, "found `shutdowns`"),
    ]),
    row(TWO, "ip route 10.2.0.0 255.255.0.0 192.0.2.9",
        "ip route 10.2.0.0 255.255.0.0 192.0.2.9", "no ip route 10.2.0.0 255.255.0.0 192.0.2.9", &[
        ("ip route 10.2.0.0", 18, "a netmask"),
        ("ip route 10.2.0.0 255.255.0.0 224.0.0.1", 31, "the address of a router"),
        ("ip route 10.2.0.1 255.255.0.0 192.0.2.9", 10, "`10.2.0.0`"),
    ]),
    row(TWO, "ip route 10.2.0.0 255.255.0.0 Out",
        "ip route 10.2.0.0 255.255.0.0 Out", "no ip route 10.2.0.0 255.255.0.0", &[
        ("ip route 10.2.0.0 255.255.0.0 Nowhere", 31, "no interface Nowhere"),
        ("ip route 10.2.0.0 255.255.0.0 7", 31, "found `7`"),
        ("ip route 10.2.0.0 255.255.0.0 Out 5 5", 37, "the end of the line"),
        ("ip route 10.2.0.0 255.255.0.0 Out 0", 35, "a number 1-255"),
    ]),
    row("", "ip vrf V",
        "ip vrf V", "no ip vrf V", &[
        ("ip vrf", 7, "a word"),
        ("ip vrf V x", 10, "the end of the line"),
        ("ip vrf ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567", 8, "at most 32"),
    ]),
    row(VRF, "description a b",
        " description a b", "no description", &[
        ("description", 12, "text"),
        ("descr", 6, "text"),
        ("descriptions a b", 1, "found `descriptions`"),
    ]),
    row(VRF, "rd 192.0.2.1:65535",
        " rd 192.0.2.1:65535", "no rd", &[
        ("rd", 3, "a word"),
        ("rd 70000:1", 4, "an AS number or an address"),
        ("rd 192.0.2.1:65536", 4, "an AS number or an address"),
        ("rd 65000:1 x", 12, "the end of the line"),
    ]),
    row(VRF, "route-target export 65000:1",
        " route-target export 65000:1", "no route-target both 65000:1", &[
        ("route-target", 13, "`import`"),
        ("route-target export", 20, "a word"),
        ("route-target import 65000", 21, "an AS number or an address"),
        ("route-target exports 65000:1", 22, "the end of the line"),
    ]),
    row("ip vrf V\ninterface In\n", "ip vrf forwarding V",
        " ip vrf forwarding V", "no ip vrf forwarding", &[
        ("ip vrf forwarding", 18, "the name of a VRF"),
        ("ip vrf forw W", 13, "no VRF W"),
        ("ip vrf forwarding V x", 21, "the end of the line"),
    ]),
    row(CUSTOMER, "ip route vrf V 10.9.0.0 255.255.0.0 10.0.0.254",
        "ip route vrf V 10.9.0.0 255.255.0.0 10.0.0.254", "no ip route vrf V 10.9.0.0 255.255.0.0 10.0.0.254", &[
        ("ip route vrf V", 15, "an address A.B.C.D"),
        ("ip route vrf W 10.9.0.0 255.255.0.0 10.0.0.254", 14, "no VRF W"),
        ("ip route vrf V 10.9.0.0 255.255.0.0 10.0.0.1", 37, "address of interface In itself"),
        ("ip route vrf V 10.9.0.1 255.255.0.0 10.0.0.254", 16, "`10.9.0.0`"),
    ]),
    row(CUSTOMER, "ip route vrf V 0.0.0.0 0.0.0.0 192.0.2.254 global",
        "ip route vrf V 0.0.0.0 0.0.0.0 192.0.2.254 global", "no ip route vrf V 0.0.0.0 0.0.0.0 192.0.2.254 global", &[
        ("ip route vrf V 0.0.0.0 0.0.0.0 192.0.2.254 globally", 44, "`global`"),
        ("ip route vrf V 0.0.0.0 0.0.0.0 192.0.2.1 global", 32, "address of interface Out itself"),
        ("ip route 10.9.0.0 255.255.0.0 192.0.2.254 global", 43, "the end of the line"),
    ]),
    row(CUSTOMER, "ip route vrf V 10.9.0.0 255.255.0.0 In",
        "ip route vrf V 10.9.0.0 255.255.0.0 In", "no ip route vrf V 10.9.0.0 255.255.0.0 in", &[
        ("ip route vrf V 10.9.0.0 255.255.0.0 Out", 37, "not in VRF V; say `global`"),
        ("ip route vrf V 10.9.0.0 255.255.0.0 In global", 37, "in VRF V, not in the global table"),
        ("ip route 10.9.0.0 255.255.0.0 In", 31, "in VRF V, not in the global table"),
    ]),
    row(CUSTOMER, "ip route vrf V 10.9.0.0 255.255.0.0 Out global",
        "ip route vrf V 10.9.0.0 255.255.0.0 Out global", "no ip route vrf V 10.9.0.0 255.255.0.0", &[
        ("ip route vrf", 13, "a word"),
        ("ip route vrf V 10.9.0.0 255.255.0.0 Nowhere global", 37, "no interface Nowhere"),
        ("ip route vrf V 10.9.0.0", 24, "a netmask"),
    ]),
    row(VRF, "ip route vrf V 10.0.0.0 255.0.0.0 null0",
        "ip route vrf V 10.0.0.0 255.0.0.0 Null0", "no ip route vrf V 10.0.0.0 255.0.0.0 Null0", &[
        ("ip route vrf V 10.0.0.0 255.0.0.0", 34, "an address A.B.C.D"),
        ("ip route vrf V 10.0.0.0 255.0.0.0 224.0.0.1", 35, "the address of a router"),
        ("ip route vrfs V 10.0.0.0 255.0.0.0 Null0", 10, "`vrf`"),
    ]),
    row(TWO, "ip nat inside source list 1 pool P overload",
        "ip nat inside source list 1 pool P overload", "no ip nat inside source list 1 pool P overload", &[
        ("ip nat inside source list 1", 28, "`pool` or `interface`"),
        ("ip nat inside source list 0 pool P", 27, "a number 1-199"),
        ("ip nat inside source list 1 pool P overloaded", 36, "`overload`"),
    ]),
    row(TWO, "ip nat inside source list 1 interface Out overload",
        "ip nat inside source list 1 interface Out overload", "no ip nat inside source list 1 interface Out overload", &[
        ("ip nat inside source list 1 interface", 38, "the name of an interface"),
        ("ip nat inside source list 1 interface 7 overload", 39, "found `7`"),
        ("ip nat inside source list 1 interface Nowhere overload", 39, "no interface Nowhere"),
    ]),
    row(TWO, "ip nat inside source list 1 pool P overload endpoint-independent",
        "ip nat inside source list 1 pool P overload endpoint-independent", "no ip nat inside source list 1 pool P endpoint-independent overload", &[
        ("ip nat inside source list 1 pool P endpoint-independent", 36, "without `overload`"),
        ("ip nat inside source list 1 pool P overload endpoint-dependent", 45, "`endpoint-independent`"),
        ("ip nat inside source list 1 pool P endpoint-independent overload endpoint-independent", 66, "given twice"),
    ]),
    row(TWO, "ip nat inside source route-map R interface Out filtering endpoint-independent endpoint-independent overload",
        "ip nat inside source route-map R interface Out overload endpoint-independent filtering endpoint-independent",
        "no ip nat inside source route-map R interface Out overload endpoint-independent", &[
        ("ip nat inside source route-map R interface Out overload filtering endpoint-independent", 57, "without `endpoint-independent`"),
        ("ip nat inside source route-map R interface Out overload endpoint-independent filtering", 87, "`address-dependent`"),
        ("ip nat inside source route-map R interface Out overload endpoint-independent filtering none", 88, "`endpoint-independent`"),
    ]),
    row(TWO, "ip nat inside source list 1 pool P overload endpoint-independent filtering address-dependent",
        "ip nat inside source list 1 pool P overload endpoint-independent", "no ip nat inside source list 1 pool P overload endpoint-independent filtering address-dependent", &[
        ("ip nat inside source list 1 pool P overload endpoint-independent filtering address", 76, "address-and-port-dependent"),
        ("ip nat inside source list 1 pool P overload endpoint-independent address-dependent", 66, "`filtering`"),
        ("ip nat inside source list 1 pool P filtering address-dependent", 36, "without `endpoint-independent`"),
    ]),
    row(TWO, "ip nat inside source list 1 pool P vrf V endpoint-independent filtering address-and-port-dependent overload",
        "ip nat inside source list 1 pool P vrf V overload endpoint-independent filtering address-and-port-dependent", "no ip nat inside source list 1 pool P vrf V overload endpoint-independent", &[
        ("ip nat inside source list 1 pool P overload endpoint-independent filtering address-and-port-dependent filtering endpoint-independent", 103, "given twice"),
        ("ip nat inside source list 1 pool P endpoint-independent filtering address-and-port-dependent", 36, "without `overload`"),
        ("no ip nat inside source list 1 pool P endpoint-independent", 39, "without `overload`"),
    ]),
    row(TWO, "ip nat inside source route-map R pool P",
        "ip nat inside source route-map R pool P", "no ip nat inside source route-map R pool P", &[
        ("ip nat inside source route-map", 31, "found the end"),
        ("ip nat inside source route-map R", 33, "`pool` or `interface`"),
        ("ip nat inside source route-map R pool Z", 39, "no pool Z"),
    ]),
    row(TWO, "ip nat inside source route-map R interface Out vrf V overload",
        "ip nat inside source route-map R interface Out vrf V overload", "no ip nat inside source route-map R interface Out overload vrf V", &[
        ("ip nat inside source route-map R interface Out vrf", 51, "a word"),
        ("ip nat inside source route-map R interface Out vrf W overload", 52, "no VRF W"),
        ("ip nat inside source route-map R interface Out vrf V vrf W", 54, "given twice"),
        ("ip nat inside source route-map R interface Out 5", 48, "`overload`"),
    ]),
    row(TWO, "ip nat inside source static 10.0.0.7 192.0.2.7 extendable no-alias",
        "ip nat inside source static 10.0.0.7 192.0.2.7 extendable no-alias", "no ip nat inside source static 10.0.0.7 192.0.2.7", &[
        ("ip nat inside source static", 28, "found the end"),
        ("ip nat inside source static 10.0.0.7 127.0.0.1", 38, "no host's address"),
        ("ip nat inside source static 10.0.0.7 192.0.2.7 no-arp", 48, "`no-alias`"),
    ]),
    row(TWO, "ip nat inside source static 10.0.0.7 192.0.2.7 vrf V route-map R",
        "ip nat inside source static 10.0.0.7 192.0.2.7 vrf V route-map R", "no ip nat inside source static 10.0.0.7 192.0.2.7 vrf V", &[
        ("ip nat inside source static 10.0.0.7 192.0.2.7 vrf W", 52, "no VRF W"),
        ("ip nat inside source static 10.0.0.7 192.0.2.7 vrf", 51, "a word"),
        ("ip nat inside source static 10.0.0.7 192.0.2.7 route-map", 57, "a word"),
        ("ip nat inside source static 10.0.0.7 192.0.2", 38, "an address A.B.C.D"),
    ]),
    row(TWO, "ip nat inside source static network 10.1.0.0 198.51.100.0 /24 vrf V",
        "ip nat inside source static network 10.1.0.0 198.51.100.0 /24 vrf V",
        "no ip nat inside source static network 10.1.0.0 198.51.100.0 255.255.255.0 vrf V", &[
        ("ip nat inside source static network 10.1.0.0 198.51.100.0 vrf V", 59, "a netmask"),
        ("ip nat inside source static network 10.1.0.0 198.51.100.0 /24 vrf W", 67, "no VRF W"),
        ("ip nat inside source static network 10.1.0.0 198.51.100.0 /24 vrf V vrf V", 69, "given twice"),
    ]),
    row(TWO, "ip nat inside source static tcp 10.0.0.7 80 interface Out 8080 extendable vrf V",
        "ip nat inside source static tcp 10.0.0.7 80 interface Out 8080 vrf V extendable",
        "no ip nat inside source static tcp 10.0.0.7 www interface Out 8080 vrf V", &[
        ("ip nat inside source static tcp 10.0.0.7 80 interface Out vrf V", 59, "a number 1-65535"),
        ("ip nat inside source static tcp 10.0.0.7 80 interface Out 8080 extendable vrf", 78, "a word"),
        ("ip nat inside source static tcp 10.0.0.7 80 interface Out 8080 vrf v", 68, "no VRF v"),
    ]),
    row("", "ip nat inside source static network 10.1.0.0 192.0.2.0 /24",
        "ip nat inside source static network 10.1.0.0 192.0.2.0 /24", "no ip nat inside source static network 10.1.0.0 192.0.2.0 255.255.255.0", &[
        ("ip nat inside source static network 10.1.0.0 192.0.2.0", 55, "a netmask"),
        ("ip nat inside source static network 10.1.0.0 192.0.2.0 24", 56, "a prefix length"),
        ("ip nat inside source static network 10.1.0.0 192.0.2.9 /24", 46, "outside the prefix length"),
    ]),
    row(TWO, "ip nat inside source static udp 10.0.0.7 53 192.0.2.7 5353 extendable",
        "ip nat inside source static udp 10.0.0.7 53 192.0.2.7 5353 extendable", "no ip nat inside source static udp 10.0.0.7 domain 192.0.2.7 5353", &[
        ("ip nat inside source static udp 10.0.0.7 70000 192.0.2.7 53", 42, "a number 1-65535"),
        ("ip nat inside source static udp 10.0.0.7 53 192.0.2.7", 54, "found the end"),
        ("ip nat inside source static udp 10.0.0.7 www 192.0.2.7 80", 42, "the name of a UDP port"),
    ]),
    row(TWO, "ip nat inside source static esp 10.0.0.7 interface Out",
        "ip nat inside source static esp 10.0.0.7 interface Out", "no ip nat inside source static esp 10.0.0.7 interface Out", &[
        ("ip nat inside source static esp 10.0.0.7", 41, "`interface`"),
        ("ip nat inside source static esp 224.0.0.7 interface Out", 33, "no host's address"),
        ("ip nat inside source static esp 10.0.0.7 interface Out 5", 56, "the end of the line"),
    ]),
    row(POOL_R, "ip nat inside destination list 2 pool S",
        "ip nat inside destination list 2 pool S", "no ip nat inside destination list 2 pool S", &[
        ("ip nat inside destination", 26, "`list`"),
        ("ip nat inside destination list", 31, "found the end"),
        ("ip nat inside destination list 2 interface E", 34, "`pool`"),
        ("ip nat inside destination list 2 pool Z", 39, "no pool Z"),
    ]),
    row(POOL_S, "ip nat outside source list 3 pool S add-route",
        "ip nat outside source list 3 pool S add-route", "no ip nat outside source list 3 pool S", &[
        ("ip nat outside source", 22, "found the end"),
        ("ip nat outside source list 3", 29, "`pool`"),
        ("ip nat outside source list 3 pool S adds", 37, "`add-route`"),
        ("ip nat outside source list 3 pool Z", 35, "no pool Z"),
    ]),
    row(POOL_S, "ip nat outside source route-map R pool S",
        "ip nat outside source route-map R pool S", "no ip nat outside source route-map R pool S", &[
        ("ip nat outside source route-map R", 34, "`pool`"),
        ("ip nat outside source route-map R pool", 39, "a word"),
        ("ip nat outside source route-map R pool S overload", 42, "`add-route`"),
    ]),
    row("", "ip nat outside source static 192.0.2.8 10.0.0.8 extendable",
        "ip nat outside source static 192.0.2.8 10.0.0.8 extendable", "no ip nat outside source static 192.0.2.8 10.0.0.8", &[
        ("ip nat outside source static 192.0.2.8", 39, "an address A.B.C.D"),
        ("ip nat outside source static 192.0.2.8 x", 40, "an address A.B.C.D"),
        ("ip nat outside source static 192.0.2.8 10.0.0.8 add-routes", 49, "`add-route`"),
        ("ip nat outside source static 192.0.2.8 224.0.0.8", 40, "no host's address"),
    ]),
    row("", "ip nat pool S 192.0.2.1 192.0.2.9 netmask 255.255.255.0 type match-host",
        "ip nat pool S 192.0.2.1 192.0.2.9 netmask 255.255.255.0 type match-host", "no ip nat pool S", &[
        ("ip nat pool", 12, "a word"),
        ("ip nat pool S 192.0.2.1 192.0.2.9 netmask 255.0.255.0", 43, "a netmask"),
        ("ip nat pool S 192.0.2.1 192.0.2.9 netmask 255.255.255.0 type random", 62, "`rotary`"),
    ]),
    row("", "ip nat pool S prefix-length 24",
        "ip nat pool S prefix-length 24", "no ip nat pool S", &[
        ("ip nat pool S prefix-length", 28, "a number 1-32"),
        ("ip nat pool S prefix-length 0", 29, "a number 1-32"),
        ("ip nat pool S", 14, "`netmask`"),
    ]),
    row("ip nat pool S prefix-length 24\n", "range 192.0.2.1 192.0.2.9",
        " range 192.0.2.1 192.0.2.9", "no range 192.0.2.1 192.0.2.9", &[
        ("range 192.0.2.9 192.0.2.1", 17, "from 192.0.2.9 on"),
        ("range", 6, "an address A.B.C.D"),
        ("range 192.0.2.1 192.0.3.1", 17, "not in one network"),
    ]),
    row("", "ip nat service H225",
        "ip nat service H225", "no ip nat service H225", &[
        ("ip nat service", 15, "`H225`"),
        ("ip nat service H323", 16, "`H225`"),
        ("ip nat service H225 x", 21, "the end of the line"),
    ]),
    row("access-list 10 permit any\n", "ip nat service list 10 ESP spi-match",
        "ip nat service list 10 ESP spi-match", "no ip nat service list 10 ESP spi-match", &[
        ("ip nat service list", 20, "found the end"),
        ("ip nat service list 10", 23, "`ESP`"),
        ("ip nat service list 10 ESP", 27, "`spi-match`"),
    ]),
    row("access-list 10 permit any\n", "ip nat service list 10 IKE preserve-port",
        "ip nat service list 10 IKE preserve-port", "no ip nat service list 10 IKE preserve-port", &[
        ("ip nat service list 10 IKE", 27, "`preserve-port`"),
        ("ip nat service list 10 IKE spi-match", 28, "`preserve-port`"),
        ("ip nat service list 200 IKE preserve-port", 21, "a number 1-199"),
    ]),
    row("", "ip nat service list 10 ftp tcp port 2021",
        "ip nat service list 10 ftp tcp port 2021", "no ip nat service list 10 ftp tcp port 2021", &[
        ("ip nat service list 10 ftp udp port 21", 28, "`tcp`"),
        ("ip nat service list 10 ftp tcp port", 36, "a number 1-65535"),
        ("ip nat service list 10 ftp tcp port 0", 37, "a number 1-65535"),
    ]),
    row("", "ip nat service ras",
        "ip nat service ras", "no ip nat service ras", &[
        ("ip nat service rasp", 16, "`ras`"),
        ("ip nat service ras tcp", 20, "the end of the line"),
        ("ip nat services ras", 8, "`service`"),
    ]),
    row("", "ip nat service sip udp port 5060",
        "ip nat service sip udp port 5060", "no ip nat service sip udp port 5060", &[
        ("ip nat service sip", 19, "`tcp` or `udp`"),
        ("ip nat service sip udp 5060", 24, "`port`"),
        ("ip nat service sip udp port 65536", 29, "a number 1-65535"),
    ]),
    row("", "ip nat service skinny tcp port 20002",
        "ip nat service skinny tcp port 20002", "no ip nat service skinny tcp port 20002", &[
        ("ip nat service skinny", 22, "`tcp`"),
        ("ip nat service skinny udp port 1", 23, "`tcp`"),
        ("ip nat service skinny tcp port x", 32, "a number 1-65535"),
    ]),
    row("", "ip nat translation esp-timeout 600",
        "ip nat translation esp-timeout 600", "no ip nat translation esp-timeout", &[
        ("ip nat translation", 19, "found the end"),
        ("ip nat translation esp-timeout", 31, "a number 1-2147483647"),
        ("ip nat translation esp-timeout forever", 32, "`never`"),
    ]),
    row("", "ip nat translation port-timeout tcp 80 never",
        "ip nat translation port-timeout tcp 80 never", "no ip nat translation port-timeout tcp 80", &[
        ("ip nat translation port-timeout", 32, "`tcp` or `udp`"),
        ("ip nat translation port-timeout tcp http 5", 37, "a number 1-65535"),
        ("ip nat translation port-timeout tcp 80", 39, "`never`"),
    ]),
    row("", "ip nat translation max-entries 9",
        "ip nat translation max-entries 9", "no ip nat translation max-entries 9", &[
        ("ip nat translation max-entries", 31, "found the end"),
        ("ip nat translation max-entries 0", 32, "a number 1-2147483647"),
        ("ip nat translation max-entries 9 9", 34, "the end of the line"),
    ]),
    row("", "ip nat translation max-entries all-host 9",
        "ip nat translation max-entries all-host 9", "no ip nat translation max-entries all-host 9", &[
        ("ip nat translation max-entries all-host", 40, "a number"),
        ("ip nat translation max-entries all-host x", 41, "a number"),
        ("ip nat translation max-entries all 9 9", 38, "the end of the line"),
    ]),
    row("", "ip nat translation max-entries host 10.0.0.9 9",
        "ip nat translation max-entries host 10.0.0.9 9", "no ip nat translation max-entries host 10.0.0.9 9", &[
        ("ip nat translation max-entries host", 36, "an address A.B.C.D"),
        ("ip nat translation max-entries host 10.0.0.9", 45, "a number"),
        ("ip nat translation max-entries host 10.0.0 9", 37, "an address A.B.C.D"),
    ]),
    row("", "ip nat translation max-entries list 7 9",
        "ip nat translation max-entries list 7 9", "no ip nat translation max-entries list 7 9", &[
        ("ip nat translation max-entries list", 36, "a number 1-199"),
        ("ip nat translation max-entries list 7", 38, "a number"),
        ("ip nat translation max-entries list 0 9", 37, "a number 1-199"),
    ]),
    row(VRF, "ip nat translation max-entries vrf V 9",
        "ip nat translation max-entries vrf V 9", "no ip nat translation max-entries vrf V 9", &[
        ("ip nat translation max-entries vrf", 35, "a word"),
        ("ip nat translation max-entries vrf V", 37, "a number"),
        ("ip nat translation max-entries vrf V 0", 38, "a number"),
        ("ip nat translation max-entries vrf W 9", 36, "no VRF W"),
    ]),
    row("", "access-list 150 deny gre host 10.0.0.1 any log",
        "access-list 150 deny gre host 10.0.0.1 any log", "no access-list 150", &[
        ("access-list 150 deny gre any", 29, "found the end"),
        ("access-list 150 deny gre any any eq 5", 34, "`fragments`"),
        ("access-list 150 deny gree any any", 22, "the name of a protocol"),
    ]),
    row("", "access-list 150 permit tcp any neq 25 any range 20 ftp",
        "access-list 150 permit tcp any neq smtp any range ftp-data ftp", "no access-list 150", &[
        ("access-list 150 permit tcp any any range 20", 44, "found the end"),
        ("access-list 150 permit tcp any any eq 65536", 39, "a number 0-65535"),
        ("access-list 150 permit tcp any any ge 5", 36, "`eq`"),
    ]),
    row("", "access-list 7 remark a note",
        "access-list 7 remark a note", "no access-list 7", &[
        ("access-list 7 remark", 21, "text"),
        ("access-list 0 remark x", 13, "a number 1-99"),
        ("access-list 7 remarks x", 15, "`remark`"),
    ]),
    row("", "ip access-list standard S",
        "ip access-list standard S", "no ip access-list standard S", &[
        ("ip access-list", 15, "`standard` or `extended`"),
        ("ip access-list standard 100", 25, "a number 1-99"),
        ("ip access-list standard S x", 27, "the end of the line"),
    ]),
    row("", "ip access-list extended 2699",
        "ip access-list extended 2699", "no ip access-list extended 2699", &[
        ("ip access-list extended", 24, "a number 100-199"),
        ("ip access-list extended 2700", 25, "a number 100-199"),
        ("ip access-list extend_ed X", 16, "`extended`"),
    ]),
    row("", "route-map R permit 10",
        "route-map R permit 10", "no route-map R permit 10", &[
        ("route-map", 10, "a word"),
        ("route-map R allow 10", 13, "`permit`"),
        ("route-map R permit 65536", 20, "a number 0-65535"),
    ]),
    row(MAP, "match ip address 101 A",
        " match ip address 101 A", "no match ip address 101 A", &[
        ("match", 6, "`ip`"),
        ("match ip address", 17, "a number 1-199"),
        ("match ip address 101 200", 22, "a number 1-199"),
    ]),
    row("interface E0\nroute-map R permit 10\n", "match interface E0",
        " match interface E0", "no match interface E0", &[
        ("match interface", 16, "the name of an interface"),
        ("match interface 0", 17, "found `0`"),
        ("match interfaces E0", 7, "`interface`"),
    ]),
    row(MAP, "match ip next-hop 9",
        " match ip next-hop 9", "no match ip next-hop 9", &[
        ("match ip next-hop", 18, "a number 1-199"),
        ("match ip next-hop 0", 19, "a number 1-199"),
        ("match ip hop 9", 10, "`next-hop`"),
    ]),
    row("", "crypto isakmp policy 3",
        "crypto isakmp policy 3", "no crypto isakmp policy 3", &[
        ("crypto isakmp policy", 21, "a number 1-10000"),
        ("crypto isakmp policy 0", 22, "a number 1-10000"),
        ("crypto isakmp polices 3", 15, "`policy`"),
    ]),
    row("", "crypto isakmp key k address 192.0.2.1 255.255.255.0",
        "crypto isakmp key k address 192.0.2.1 255.255.255.0", "no crypto isakmp key k address 192.0.2.1", &[
        ("crypto isakmp key", 18, "a word"),
        ("crypto isakmp key k", 20, "`address`"),
        ("crypto isakmp key k address x", 29, "an address A.B.C.D"),
    ]),
    row("", "crypto ipsec transform-set T esp-3des esp-sha-hmac",
        "crypto ipsec transform-set T esp-3des esp-sha-hmac", "no crypto ipsec transform-set T", &[
        ("crypto ipsec transform-set", 27, "a word"),
        ("crypto ipsec transform-set T", 29, "a word"),
        ("crypto ipsec transforms T x", 14, "`transform-set`"),
    ]),
    row("", "crypto map M 5 ipsec-isakmp dynamic D",
        "crypto map M 5 ipsec-isakmp dynamic D", "no crypto map M 5", &[
        ("crypto map M 5", 15, "`ipsec-isakmp`"),
        ("crypto map M 0 ipsec-isakmp", 14, "a number 1-65535"),
        ("crypto map M 5 ipsec-isakmp dynamic", 36, "a word"),
    ]),
    row("", "crypto dynamic-map D 5",
        "crypto dynamic-map D 5", "no crypto dynamic-map D", &[
        ("crypto dynamic-map", 19, "a word"),
        ("crypto dynamic-map D", 21, "a number 1-65535"),
        ("crypto dynamic-map D x", 22, "a number 1-65535"),
    ]),
    row(CRYPTO, "set peer 192.0.2.1",
        " set peer 192.0.2.1", "no set peer 192.0.2.1", &[
        ("set", 4, "`peer`"),
        ("set peer", 9, "an address A.B.C.D"),
        ("set peer 192.0.2", 10, "an address A.B.C.D"),
    ]),
    row(CRYPTO, "set transform-set T U",
        " set transform-set T U", "no set transform-set T U", &[
        ("set transform-set", 18, "a word"),
        ("set transform-sett T", 5, "`transform-set`"),
        ("set transforms T", 5, "`transform-set`"),
    ]),
    row(CRYPTO, "set pfs group2",
        " set pfs group2", "no set pfs", &[
        ("set pfs group3", 9, "`group2`"),
        ("set pfs group1 x", 16, "the end of the line"),
        ("set pfss", 5, "`pfs`"),
    ]),
    row(CRYPTO, "set security-association lifetime seconds 3600",
        " set security-association lifetime seconds 3600", "no set security-association lifetime seconds 3600", &[
        ("set security-association lifetime", 34, "`seconds`"),
        ("set security-association lifetime seconds 1", 43, "a number 120-86400"),
        ("set security-association lifetime kilobytes 1", 45, "a number 2560-536870912"),
    ]),
    row(CRYPTO, "match address 140",
        " match address 140", "no match address 140", &[
        ("match address", 14, "a number 1-199"),
        ("match address 200", 15, "a number 1-199"),
        ("match ip address 140", 7, "`address`"),
    ]),
    row("", "crypto ipsec nat-transparency spi-matching",
        "crypto ipsec nat-transparency spi-matching", "no crypto ipsec nat-transparency spi-matching", &[
        ("crypto ipsec nat-transparency", 30, "`udp-encaps`"),
        ("crypto ipsec nat-transparency spi-matching x", 44, "the end of the line"),
        ("crypto ipsec nat-transparency tcp-encaps", 31, "`spi-matching`"),
    ]),
];

/// All that is wrong with a row.
fn faults(row: &Row) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(format!("`{}`: {text}", row.line));
    if row.wrong.len() < 3 {
        fault(format!("only {} wrong variants", row.wrong.len()));
    }
    match parse("x", &format!("{}{}\n", row.before, row.line)) {
        Err(errors) => fault(errors[0].to_string()),
        Ok((config, _)) if !config.to_string().lines().any(|l| l == row.shown) => {
            fault(format!("gives\n{config}"));
        }
        Ok((config, _)) if load(&config.to_string()).0 != config => {
            fault("does not go round".to_owned());
        }
        Ok(_) => {}
    }
    let without = load(row.before).0.to_string();
    match parse("x", &format!("{}{}\n{}\n", row.before, row.line, row.no)) {
        Err(errors) => fault(errors[0].to_string()),
        Ok((config, _)) if config.to_string() != without => {
            fault(format!("`{}` leaves\n{config}", row.no));
        }
        Ok(_) => {}
    }
    let number = row.before.lines().count() as u32 + 1;
    for (line, column, part) in row.wrong {
        match parse("x", &format!("{}{line}\n", row.before)) {
            Ok(_) => fault(format!("`{line}` is good")),
            Err(errors) => {
                let [error] = &errors[..] else {
                    fault(format!("`{line}` makes {} errors", errors.len()));
                    continue;
                };
                let text = error.to_string();
                if (error.line, error.column) != (number, *column) || !text.contains(part) {
                    fault(format!("wanted {column} and `{part}`, found\n{text}"));
                }
            }
        }
    }
    faults
}

#[test]
fn every_command_of_the_description_its_no_form_and_three_wrong_variants() {
    let faults: Vec<String> = SPEC.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
