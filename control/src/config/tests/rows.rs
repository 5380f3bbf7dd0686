//! The commands that the tests go through, a row each.

/// A row: the lines before it, the line, what the running configuration says then (empty: nothing),
/// its `no` form (empty: none), and wrong variants: (line, column, part of the message).
pub(super) struct Row {
    pub(super) before: &'static str,
    pub(super) line: &'static str,
    pub(super) shown: &'static str,
    pub(super) no: &'static str,
    pub(super) wrong: &'static [(&'static str, u32, &'static str)],
}

pub(super) const TWO: &str = "ip vrf V\nip vrf green\ninterface In\n ip address 10.0.0.1 255.255.255.0\n port vdev net_ring0\n\
    interface Out\n ip address 192.0.2.1 255.255.255.0\n port vdev net_ring1\n\
    ip nat pool P 192.0.2.10 192.0.2.20 netmask 255.255.255.0\naccess-list 1 permit any\n";
pub(super) const ONE: &str = "interface In\n";

pub(super) const fn row(
    before: &'static str,
    line: &'static str,
    shown: &'static str,
    no: &'static str,
    wrong: &'static [(&'static str, u32, &'static str)],
) -> Row {
    Row {
        before,
        line,
        shown,
        no,
        wrong,
    }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "",
        "hostname edge-1",
        "hostname edge-1",
        "no hostname",
        &[
            ("hostname", 9, "expected a word, found the end of the line"),
            ("hostname 1x", 10, "expected a letter"),
            (
                "hostname a b",
                12,
                "expected the end of the line, found `b`",
            ),
        ],
    ),
    row(
        "",
        "int Ethernet 0/1",
        "interface Ethernet0/1",
        "no interface ethernet0/1",
        &[
            ("interface", 10, "expected the name of an interface"),
            (
                "interface 0",
                11,
                "expected the name of an interface, found `0`",
            ),
            ("interface Null0", 11, "`Null0`"),
        ],
    ),
    row(
        ONE,
        "port pci 03:00.0",
        " port pci 0000:03:00.0",
        "no port",
        &[
            ("port pci 3:0.0", 10, "expected a PCI address"),
            ("port vdev", 10, "expected a word, found the end"),
            ("port vdev ,iface=a", 11, "expected device arguments"),
            ("port usb 1", 6, "expected `pci` or `vdev`, found `usb`"),
        ],
    ),
    row(
        ONE,
        "port vdev net_af_packet0,iface=x",
        " port vdev net_af_packet0,iface=x",
        "no port vdev net_af_packet0,iface=x",
        &[],
    ),
    row(
        ONE,
        "ip address 10.0.0.1 255.255.255.0",
        " ip address 10.0.0.1 255.255.255.0",
        "no ip address",
        &[
            (
                "ip address 10.0.0.1",
                20,
                "expected a netmask such as 255.255.255.0, found the end",
            ),
            ("ip address 10.0.0.1 255.0.255.0", 21, "expected a netmask"),
            (
                "ip address 10.0.0.256 255.255.255.0",
                12,
                "an address A.B.C.D",
            ),
            (
                "ip address 10.0.0.0 255.255.255.0",
                12,
                "the network address",
            ),
            (
                "ip address 10.0.0.255 255.255.255.0",
                12,
                "the broadcast address",
            ),
            (
                "ip address 224.0.0.1 255.255.255.0",
                12,
                "no host's address",
            ),
        ],
    ),
    row(
        ONE,
        "ip address dhcp",
        " ip address dhcp",
        "no ip address dhcp",
        &[],
    ),
    row(
        ONE,
        "ip nat ins",
        " ip nat inside",
        "no ip nat inside",
        &[
            ("ip nat", 7, "found the end"),
            ("ip nat middle", 8, "`inside`"),
            ("ip nat inside x", 15, "the end of the line"),
        ],
    ),
    row(
        ONE,
        "ip nat outside",
        " ip nat outside",
        "no ip nat outside",
        &[],
    ),
    row(
        ONE,
        "mtu 1400",
        " mtu 1400",
        "no mtu 1400",
        &[
            ("mtu 67", 5, "expected a number 68-9216, found `67`"),
            ("mtu 9217", 5, "expected a number 68-9216"),
            ("mtu x", 5, "expected a number 68-9216"),
        ],
    ),
    row(
        ONE,
        "description to the  left",
        " description to the  left",
        "no description",
        &[("description", 12, "expected text")],
    ),
    row(
        ONE,
        "no keepalive",
        " no keepalive",
        "keepalive",
        &[
            ("no keepalives", 4, "found `keepalives`"),
            ("keepalives", 1, "found `keepalives`"),
        ],
    ),
    row(
        ONE,
        "shutdown",
        " shutdown",
        "no shutdown",
        &[("shutdown now", 10, "expected the end of the line")],
    ),
    row(
        TWO,
        "ip route 0.0.0.0 0.0.0.0 192.0.2.254",
        "ip route 0.0.0.0 0.0.0.0 192.0.2.254",
        "no ip route 0.0.0.0 0.0.0.0",
        &[
            (
                "ip route 10.1.0.1 255.255.0.0 192.0.2.254",
                10,
                "expected `10.1.0.0`",
            ),
            (
                "ip route 10.1.0.0 255.255.0.0",
                30,
                "found the end of the line",
            ),
            (
                "ip route 10.1.0.0 0.0.255.255 192.0.2.254",
                19,
                "expected a netmask",
            ),
            (
                "ip route 10.1.0.0 255.255.0.0 Nowhere",
                31,
                "there is no interface Nowhere",
            ),
            (
                "ip route 10.1.0.0 255.255.0.0 10.0.0.1",
                31,
                "address of interface In itself",
            ),
        ],
    ),
    row(
        TWO,
        "ip route 0.0.0.0 0.0.0.0 192.0.2.254 200",
        "ip route 0.0.0.0 0.0.0.0 192.0.2.254 200",
        "no ip route 0.0.0.0 0.0.0.0 192.0.2.254 200",
        &[(
            "ip route 0.0.0.0 0.0.0.0 192.0.2.254 256",
            38,
            "a number 1-255",
        )],
    ),
    row(
        TWO,
        "ip route 10.1.0.0 255.255.0.0 OUT",
        "ip route 10.1.0.0 255.255.0.0 OUT",
        "no ip route 10.1.0.0 255.255.0.0 out",
        &[],
    ),
    row(
        "",
        "ip route 10.0.0.0 255.0.0.0 null0",
        "ip route 10.0.0.0 255.0.0.0 Null0",
        "no ip route 10.0.0.0 255.0.0.0 Null0",
        &[],
    ),
    row(
        "",
        "access-list 10 permit 10.1.1.7 0.0.0.255",
        "access-list 10 permit 10.1.1.0 0.0.0.255",
        "no access-list 10",
        &[
            ("access-list 0 permit any", 13, "a number 1-99"),
            (
                "access-list 10 allow any",
                16,
                "`permit`, `deny` or `remark`, found `allow`",
            ),
            (
                "access-list 10 permit tcp any any",
                23,
                "`any`, `host` or an address",
            ),
            (
                "access-list 10 permit any any",
                27,
                "`log` or the end of the line, found `any`",
            ),
        ],
    ),
    row(
        "",
        "access-list 1300 deny host 10.1.1.1 log",
        "access-list 1300 deny 10.1.1.1 log",
        "no access-list 1300",
        &[],
    ),
    row(
        "",
        "access-list 7 remark  who may",
        "access-list 7 remark who may",
        "no access-list 7",
        &[("access-list 7 remark", 21, "expected text")],
    ),
    row(
        "",
        "acc 101 per tcp 10.0.0.0 0.0.0.255 gt 1023 ho 192.0.2.1 eq www est log",
        "access-list 101 permit tcp 10.0.0.0 0.0.0.255 gt 1023 host 192.0.2.1 eq www established log",
        "no access-list 101",
        &[
            (
                "access-list 101 permit tcp any any eq isakmp",
                39,
                "the name of a TCP port, found `isakmp`",
            ),
            (
                "access-list 101 permit udp any any established",
                36,
                "`fragments`",
            ),
            (
                "access-list 101 permit tcp any any range 9 5",
                44,
                "a number 9-65535",
            ),
            (
                "access-list 101 permit tcp any gt 65535 any",
                35,
                "a number 0-65534",
            ),
            (
                "access-list 101 permit tcp any lt 0 any",
                35,
                "a number 1-65535",
            ),
            (
                "access-list 101 permit tcp any any log log",
                40,
                "`log` is given twice",
            ),
            (
                "access-list 101 permit tcp any any eq 1 fragments",
                41,
                "no ports",
            ),
            (
                "access-list 101 permit i any any",
                24,
                "`i`, which is ambiguous",
            ),
            (
                "access-list 101 permit ip 10.0.0.0 any",
                36,
                "a wildcard mask",
            ),
            ("access-list 101 permit 256 any any", 24, "a number 0-255"),
        ],
    ),
    row(
        "",
        "access-list 101 deny udp any range 500 4500 any neq non500-isakmp",
        "access-list 101 deny udp any range isakmp non500-isakmp any neq non500-isakmp",
        "no access-list 101",
        &[],
    ),
    row(
        "",
        "access-list 101 permit icmp any any echo",
        "access-list 101 permit icmp any any echo",
        "no access-list 101",
        &[
            (
                "access-list 101 permit icmp any any wrong",
                37,
                "the name of an ICMP type",
            ),
            (
                "access-list 101 permit icmp any any 3 256",
                39,
                "a number 0-255",
            ),
        ],
    ),
    row(
        "",
        "access-list 101 permit icmp any any 3 4",
        "access-list 101 permit icmp any any packet-too-big",
        "no access-list 101",
        &[],
    ),
    row(
        "",
        "access-list 2000 permit 50 any any fragments log-input",
        "access-list 2000 permit esp any any fragments log",
        "no access-list 2000",
        &[],
    ),
    row(
        "ip access-list extended WEB\n",
        "5 permit tcp any any lt 1024",
        " 5 permit tcp any any lt 1024",
        "no 5",
        &[
            ("0 permit tcp any any", 1, "a number 1-2147483647"),
            ("permit tcp any", 15, "found the end of the line"),
        ],
    ),
    row(
        "ip access-list standard S\n",
        "permit 10.0.0.1",
        " permit 10.0.0.1",
        "no permit host 10.0.0.1",
        &[("permit tcp any any", 8, "`any`, `host` or an address")],
    ),
    row(
        "",
        "ip nat pool Q 192.0.2.1 192.0.2.9 prefix-length 24",
        "ip nat pool Q 192.0.2.1 192.0.2.9 prefix-length 24",
        "no ip nat pool Q",
        &[
            (
                "ip nat pool Q 192.0.2.9 192.0.2.1 prefix-length 24",
                25,
                "expected an address from 192.0.2.9 on",
            ),
            (
                "ip nat pool Q 192.0.2.1 192.0.3.1 netmask 255.255.255.0",
                25,
                "not in one network",
            ),
            (
                "ip nat pool Q 192.0.2.1 192.0.2.9 prefix-length 33",
                49,
                "a number 1-32",
            ),
            (
                "ip nat pool Q 192.0.2.1 192.0.2.9",
                34,
                "`netmask`, `prefix-length` or `type`",
            ),
            (
                "ip nat pool Q 192.0.2.1 224.0.0.9 netmask 255.255.255.0",
                25,
                "no host's address",
            ),
        ],
    ),
    row(
        "",
        "ip nat pool R 192.0.2.1 192.0.2.9 type rotary netmask 255.255.255.0",
        "ip nat pool R 192.0.2.1 192.0.2.9 netmask 255.255.255.0 type rotary",
        "no ip nat pool R",
        &[],
    ),
    row(
        "ip nat pool Q prefix-length 24\n",
        "range 192.0.2.1 192.0.2.9",
        " range 192.0.2.1 192.0.2.9",
        "no range 192.0.2.1 192.0.2.9",
        &[
            ("range 192.0.2.1 192.0.3.9", 17, "not in one network"),
            ("range 192.0.2.1", 16, "an address A.B.C.D, found the end"),
        ],
    ),
    row(
        TWO,
        "ip nat inside source list 1 pool P",
        "ip nat inside source list 1 pool P",
        "no ip nat inside source list 1 pool P",
        &[
            (
                "ip nat inside source list 1 pol P",
                29,
                "expected `pool` or `interface`, found `pol`",
            ),
            (
                "ip nat inside source list 1 pool X",
                34,
                "there is no pool X",
            ),
            (
                "ip nat inside source list 1 interface X overload",
                39,
                "there is no interface X",
            ),
            (
                "ip nat inside source list 1 pool P overload overload",
                45,
                "`overload` is given twice",
            ),
            ("ip nat inside sorce list 1 pool P", 15, "expected `source`"),
        ],
    ),
    row(
        TWO,
        "ip nat inside source list 1 interface Out vrf green overload",
        "ip nat inside source list 1 interface Out vrf green overload",
        "no ip nat inside source list 1 interface Out overload vrf green",
        &[],
    ),
    row(
        TWO,
        "ip nat inside source static 10.0.0.5 192.0.2.5",
        "ip nat inside source static 10.0.0.5 192.0.2.5",
        "no ip nat inside source static 10.0.0.5 192.0.2.5",
        &[
            (
                "ip nat inside source static 10.0.0.5",
                37,
                "an address A.B.C.D, found the end",
            ),
            (
                "ip nat inside source static 10.0.0.5 0.0.0.0",
                38,
                "no host's address",
            ),
            (
                "ip nat inside source static 10.0.0.5 192.0.2.5 80",
                48,
                "`extendable`",
            ),
        ],
    ),
    row(
        TWO,
        "ip nat inside source static tcp 10.0.0.5 www interface Out 8080 extendable",
        "ip nat inside source static tcp 10.0.0.5 80 interface Out 8080 extendable",
        "no ip nat inside source static tcp 10.0.0.5 80 interface Out 8080",
        &[
            (
                "ip nat inside source static tcp 10.0.0.5 0 192.0.2.5 80",
                42,
                "a number 1-65535",
            ),
            (
                "ip nat inside source static tcp 10.0.0.5 80 192.0.2.5",
                54,
                "found the end",
            ),
            (
                "ip nat inside source static sctp 10.0.0.5 80 192.0.2.5 80",
                29,
                "`tcp`",
            ),
        ],
    ),
    row(
        "",
        "ip nat inside source static network 10.0.0.0 192.0.2.0 255.255.255.0",
        "ip nat inside source static network 10.0.0.0 192.0.2.0 /24",
        "no ip nat inside source static network 10.0.0.0 192.0.2.0 /24",
        &[
            (
                "ip nat inside source static network 10.0.0.1 192.0.2.0 /24",
                37,
                "outside the prefix length 24",
            ),
            (
                "ip nat inside source static network 10.0.0.0 192.0.2.0 /33",
                56,
                "a prefix length such as /24",
            ),
        ],
    ),
    row(
        "",
        "ip nat translation tcp-timeout 900",
        "ip nat translation tcp-timeout 900",
        "no ip nat translation tcp-timeout",
        &[
            (
                "ip nat translation tcp-timeout 0",
                32,
                "a number 1-2147483647",
            ),
            ("ip nat translation tcp-timeout", 31, "found the end"),
            ("ip nat translation t 5", 20, "ambiguous"),
        ],
    ),
    row(
        "",
        "ip nat translation esp-pending-timeout never",
        "ip nat translation esp-pending-timeout never",
        "no ip nat translation esp-pending-timeout 30",
        &[],
    ),
    row(
        "",
        "ip nat translation port-timeout udp 53 7",
        "ip nat translation port-timeout udp 53 7",
        "no ip nat translation port-timeout udp 53",
        &[
            (
                "ip nat translation port-timeout icmp 8 7",
                33,
                "expected `tcp` or `udp`",
            ),
            (
                "ip nat translation port-timeout udp 65536 7",
                37,
                "a number 1-65535",
            ),
        ],
    ),
    row(
        "",
        "ip nat translation max-entries 5000",
        "ip nat translation max-entries 5000",
        "no ip nat translation max-entries",
        &[(
            "ip nat translation max-entries -1",
            32,
            "a number 1-2147483647",
        )],
    ),
    row(
        "",
        "ip nat service skinny tcp port 2000",
        "ip nat service skinny tcp port 2000",
        "no ip nat service skinny tcp port 2000",
        &[("ip nat service skinny udp port 2000", 23, "expected `tcp`")],
    ),
    row(
        "",
        "ip nat outside source static 192.0.2.1 10.0.0.1 add-route",
        "ip nat outside source static 192.0.2.1 10.0.0.1 add-route",
        "no ip nat outside source static 192.0.2.1 10.0.0.1",
        &[],
    ),
    row(
        "ip nat pool R 10.3.0.1 10.3.0.9 prefix-length 24 type rotary\n",
        "ip nat inside destination list 2 pool R",
        "ip nat inside destination list 2 pool R",
        "no ip nat inside destination list 2 pool R",
        &[],
    ),
    row(
        "",
        "route-map R deny 20",
        "route-map R deny 20",
        "no route-map R",
        &[("route-map R deny x", 18, "a number 0-65535")],
    ),
    row(
        "",
        "crypto isakmp key K address 192.0.2.1",
        "crypto isakmp key K address 192.0.2.1",
        "no crypto isakmp key K address 192.0.2.1",
        &[],
    ),
    row(
        ONE,
        "ip access-group 101 in",
        " ip access-group 101 in",
        "no ip access-group 101 in",
        &[("ip access-group 101", 20, "`in` or `out`")],
    ),
];
