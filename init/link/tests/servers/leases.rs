//! DHCP servers of networks: programs, home routers, providers. Numbers of options: 01 mask, 03 routers, 06 name servers,
//! 0f domain, 1a packet size, 33 lifetime, 34 overload, 36 server, 3a and 3b the two times, 77 search list, 79 and f9
//! classless routes.

use crate::raw::{REPLY, Reply};

/// All of them.
pub const REPLIES: &[Reply] = &[
    Reply {
        source: "ISC dhcpd 4.4 with the subnet of dhcpd.conf(5)",
        from: [192, 168, 1, 1],
        address: [192, 168, 1, 100],
        options: "36 04 c0a80101 33 04 00000258 01 04 ffffff00 03 04 c0a80101 06 04 c0a80101 0f 0b 'example.org'",
        taken: "192.168.1.100/24; 0.0.0.0/0 by 192.168.1.1; dns 192.168.1.1; search example.org; 600/300/525 s; \
                from 192.168.1.1",
        ..REPLY
    },
    Reply {
        source: "dnsmasq, as captured in github.com/systemd/systemd/pull/6885",
        address: [192, 168, 0, 179],
        options: "36 04 c0a80001 33 04 00015180 3a 04 0000a8c0 3b 04 00012750 01 04 ffffff00 1c 04 c0a800ff \
                  0c 04 'rpi3' 0f 08 'lan.test' 06 08 c0a80001 c0a80005 03 04 c0a80001",
        taken: "192.168.0.179/24; 0.0.0.0/0 by 192.168.0.1; dns 192.168.0.1 192.168.0.5; search lan.test; \
                86400/43200/75600 s; from 192.168.0.1",
        ..REPLY
    },
    Reply {
        source: "two routers in order of preference, RFC 2132 3.5",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 03 08 0a800001 0a800002",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.128.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a list with an address cut off behind its last whole one, RFC 2132 3.5 against a wrong length",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 03 06 0a000001 0a00 06 05 0a000001 0a",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; dns 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "five name servers, RFC 2132 3.8 knows no bound; the resolver has room for three",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 06 14 0a000001 0a000001 0a000002 0a000003 0a000004",
        taken: "10.0.0.5/24; dns 10.0.0.1 10.0.0.2 10.0.0.3; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "systemd-networkd's server, systemd.network(5) [DHCPServer]",
        options: "36 04 0a000001 33 04 00000e10 3a 04 00000708 3b 04 00000c4e 01 04 ffffff00 03 04 0a000001 \
                  06 04 0a000001 65 0d 'Europe/Berlin'",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; dns 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "Windows Server 2016 for eight days, github.com/nmap/nmap/issues/2197; its domain ends in a zero byte, \
                 github.com/siderolabs/talos/issues/11826",
        from: [10, 1, 1, 126],
        address: [10, 1, 1, 90],
        options: "01 04 ffffff00 3a 04 00054600 3b 04 00093a80 33 04 000a8c00 36 04 0a01017e 03 04 0a010101 \
                  06 08 0a01017e 0a01017f 0f 0b 'corp.local' 00",
        taken: "10.1.1.90/24; 0.0.0.0/0 by 10.1.1.1; dns 10.1.1.126 10.1.1.127; search corp.local; \
                691200/345600/604800 s; from 10.1.1.126",
        ..REPLY
    },
    Reply {
        source: "Windows Server 2016 that was asked for a second, github.com/nmap/nmap/issues/2197",
        from: [10, 1, 1, 126],
        address: [10, 1, 1, 90],
        options: "01 04 ffffff00 3a 04 00000000 3b 04 00000000 33 04 00000001 36 04 0a01017e",
        taken: "10.1.1.90/24; 1/0/0 s; from 10.1.1.126",
        ..REPLY
    },
    Reply {
        source: "Windows Server with its own number for classless routes alone, github.com/nispor/mozim/pull/85",
        options: "01 04 ffffff00 33 04 00000e10 36 04 0a000001 03 04 0a000001 f9 08 18 0a0102 0a000009",
        taken: "10.0.0.5/24; 10.1.2.0/24 by 10.0.0.9; 0.0.0.0/0 by 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "dnsmasq with dhcp-option=26,1400, for a tunnel behind the router",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 1a 02 0578 03 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; mtu 1400; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "GRE behind the router, 1454 bytes, github.com/hartwork/image-bootstrap/issues/15",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 1a 02 05ae",
        taken: "10.0.0.5/24; mtu 1454; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a fabric of 9216 bytes, github.com/vyos/vyos-1x/pull/5334",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 1a 02 2400",
        taken: "10.0.0.5/24; mtu 9216; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "the least packet size that is believed, RFC 791",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 1a 02 0240",
        taken: "10.0.0.5/24; mtu 576; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a packet size of 256, github.com/Instituto-Atlantico/mesh-connect/issues/55",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 1a 02 0100",
        taken: "10.0.0.5/24; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "no lifetime, github.com/systemd/systemd/pull/15274",
        options: "36 04 0a000001 01 04 ffffff00 03 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a lifetime of 0, which is no lease",
        options: "36 04 0a000001 33 04 00000000 01 04 ffffff00",
        ..REPLY
    },
    Reply {
        source: "dnsmasq with dhcp-option=54 too, which sends it twice, github.com/nettools/n-dhcp4/pull/16",
        address: [172, 25, 1, 100],
        options: "36 04 ac190101 33 04 0000003c 01 04 ffffff00 36 04 ac190101",
        taken: "172.25.1.100/24; 60/30/52 s; from 172.25.1.1",
        ..REPLY
    },
    Reply {
        source: "a server identifier of eight bytes",
        options: "36 08 0a000001 0a000001 33 04 00000e10 01 04 ffffff00",
        taken: "10.0.0.5/24; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "KubeVirt's server with addresses in their IPv6 form, github.com/kubevirt/kubevirt/issues/789",
        from: [10, 11, 12, 13],
        address: [10, 244, 0, 34],
        options: "36 10 00000000 00000000 0000ffff 0a0b0c0d 33 04 05250a80 01 04 ffffff00 03 04 0af40001 \
                  06 10 00000000 00000000 0000ffff 0a0b0c0d",
        taken: "10.244.0.34/24; 0.0.0.0/0 by 10.244.0.1; dns 10.11.12.13; 86313600/43156800/75524400 s; \
                from 10.11.12.13",
        ..REPLY
    },
    Reply {
        source: "no server identifier, which RFC 2132 9.7 allows an ACK, github.com/d2g/dhcp4client/issues/27",
        options: "33 04 00000e10 01 04 ffffff00 03 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "PacketFence's 30 seconds, github.com/inverse-inc/packetfence/issues/3174",
        options: "36 04 0a000001 33 04 0000001e 01 04 ffffff00 03 04 0a000001 06 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; dns 10.0.0.1; 30/15/26 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a cable modem before it is provisioned, its addresses from github.com/systemd/systemd/issues/9111",
        from: [192, 168, 100, 1],
        address: [192, 168, 100, 11],
        options: "36 04 c0a86401 33 04 00000014 01 04 ffffff00 03 04 c0a86401",
        taken: "192.168.100.11/24; 0.0.0.0/0 by 192.168.100.1; 20/10/17 s; from 192.168.100.1",
        ..REPLY
    },
    Reply {
        source: "OpenWrt with classless routes and no default among them, github.com/openwrt/openwrt/issues/13059",
        from: [192, 168, 100, 1],
        address: [192, 168, 100, 50],
        options: "36 04 c0a86401 33 04 0000a8c0 3a 04 00005460 3b 04 000093a8 01 04 ffffff00 03 04 c0a86401 \
                  79 18 18 c0a864 c0a86401 18 c0a896 c0a86401 18 c0a8c8 c0a86401",
        taken: "192.168.100.50/24; 192.168.100.0/24 by 192.168.100.1; 192.168.150.0/24 by 192.168.100.1; \
                192.168.200.0/24 by 192.168.100.1; 43200/21600/37800 s; from 192.168.100.1",
        ..REPLY
    },
    Reply {
        source: "dnsmasq as github.com/ipxe/ipxe/issues/1556 was told to write it, with the default route at the end",
        from: [192, 168, 0, 1],
        address: [192, 168, 0, 20],
        options: "36 04 c0a80001 33 04 00000e10 01 04 ffffff00 79 15 18 0a0501 c0a80008 18 0a0601 c0a80008 00 c0a80001 \
                  03 04 c0a80002",
        taken: "192.168.0.20/24; 10.5.1.0/24 by 192.168.0.8; 10.6.1.0/24 by 192.168.0.8; 0.0.0.0/0 by 192.168.0.1; \
                3600/1800/3150 s; from 192.168.0.1",
        ..REPLY
    },
    Reply {
        source: "Technitium's default route with a prefix of 32, github.com/TechnitiumSoftware/DnsServer/issues/690",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 79 09 20 00000000 0a000001 03 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "classless routes that are longer than one option holds, cut in the middle of one, RFC 3396",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 79 0a 18 0a0501 0a000002 00 0a 79 03 000003",
        taken: "10.0.0.5/24; 10.5.1.0/24 by 10.0.0.2; 0.0.0.0/0 by 10.0.0.3; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "ISC dhcpd with more than 576 bytes hold: options in both fields for names, RFC 2132 9.3",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 34 01 03",
        file: "03 04 0a000001 ff",
        sname: "06 08 0a000001 0a000002 ff",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; dns 10.0.0.1 10.0.0.2; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a network that boots by PXE: the fields for names hold names",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00",
        file: "'pxelinux.0' 00",
        sname: "'boot.example.org' 00",
        taken: "10.0.0.5/24; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "the example of RFC 3397 in two parts",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 77 09 03 'eng' 05 'appl' \
                  77 12 'e' 03 'com' 00 09 'marketing' c004",
        taken: "10.0.0.5/24; search eng.apple.com marketing.apple.com; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "FreeRADIUS with the search list as plain text, github.com/FreeRADIUS/freeradius-server/issues/4367",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 0f 03 'lan' 77 0b 'example.org'",
        taken: "10.0.0.5/24; search lan; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "two domains where one belongs, github.com/systemd/systemd/issues/29107",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 0f 17 'domain1.tld' 20 'domain2.tld'",
        taken: "10.0.0.5/24; search domain1.tld domain2.tld; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a domain that begins with a dot, github.com/freifunkMUC/freifunkmuc.github.io/issues/55",
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 0f 04 '.ffm'",
        taken: "10.0.0.5/24; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a provider whose server is in another network, github.com/opnsense/core/issues/9889",
        from: [55, 55, 55, 254],
        address: [55, 55, 55, 55],
        options: "36 04 42424242 33 04 00001c20 01 04 ffffff00 03 04 373737fe",
        taken: "55.55.55.55/24; 0.0.0.0/0 by 55.55.55.254; 7200/3600/6300 s; from 66.66.66.66",
        ..REPLY
    },
    Reply {
        source: "a FRITZ!Box for ten days",
        from: [192, 168, 178, 1],
        address: [192, 168, 178, 40],
        options: "36 04 c0a8b201 33 04 000d2f00 3a 04 00069780 3b 04 000b8920 01 04 ffffff00 06 04 c0a8b201 \
                  03 04 c0a8b201 1c 04 c0a8b2ff 0f 09 'fritz.box' 2a 04 c0a8b201",
        taken: "192.168.178.40/24; 0.0.0.0/0 by 192.168.178.1; dns 192.168.178.1; search fritz.box; \
                864000/432000/756000 s; from 192.168.178.1",
        ..REPLY
    },
    Reply {
        source: "behind an address translation, from another port, github.com/zephyrproject-rtos/zephyr/pull/85499",
        port: 1024,
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00 03 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; 3600/1800/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a server without an end, forum.wtware.ru DHCP log of 2011-03-30",
        from: [192, 168, 40, 1],
        address: [192, 168, 40, 17],
        options: "36 04 c0a82801 01 04 ffffff00 1a 02 05dc 42 0d '192.168.40.1' 00 43 12 '4.9.26\\wtware.pxe' 00 \
                  03 04 c0a82801 06 08 c0a801e7 c0a801e8 0c 0d 'Sopronenkova' 00 33 04 ffffffff",
        taken: "192.168.40.17/24; 0.0.0.0/0 by 192.168.40.1; dns 192.168.1.231 192.168.1.232; mtu 1500; \
                4294967295/2147483647/3758096383 s; from 192.168.40.1",
        ..REPLY
    },
    Reply {
        source: "a switch's 24 years, github.com/flan/staticdhcpd/issues/15",
        from: [10, 20, 0, 23],
        address: [10, 20, 0, 253],
        options: "36 04 0a140017 33 04 2e3fa5be 01 04 ffffff00",
        taken: "10.20.0.253/24; 775923134/387961567/678932742 s; from 10.20.0.23",
        ..REPLY
    },
    Reply {
        source: "the two times in the wrong order, RFC 2131 4.4.5",
        options: "36 04 0a000001 33 04 00000e10 3a 04 00000c4e 3b 04 00000708 01 04 ffffff00",
        taken: "10.0.0.5/24; 3600/3150/3150 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "busybox's udhcpd without a mask",
        options: "36 04 0a000001 33 04 000d2f00 03 04 0a000001",
        taken: "10.0.0.5/24; 0.0.0.0/0 by 10.0.0.1; 864000/432000/756000 s; from 10.0.0.1",
        ..REPLY
    },
    Reply { source: "a mask with a hole", options: "36 04 0a000001 33 04 00000e10 01 04 ff00ff00", ..REPLY },
    Reply {
        source: "an answer about no address, as to DHCPINFORM, RFC 2131 4.3.5",
        address: [0, 0, 0, 0],
        options: "36 04 0a000001 33 04 00000e10 01 04 ffffff00",
        ..REPLY
    },
];
