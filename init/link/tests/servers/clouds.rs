//! DHCP servers of clouds and of hypervisors.

use crate::raw::{REPLY, Reply};

/// All of them.
pub const REPLIES: &[Reply] = &[
    Reply {
        source: "GCE: a network of one host, its router on the link, 1460 bytes, \
                 github.com/monogon/monogon/issues/89",
        from: [169, 254, 169, 254],
        address: [10, 156, 0, 18],
        options: "01 04 ffffffff 03 04 0a9c0001 06 04 a9fea9fe 0f 16 'c.monogon-dev.internal' 1a 02 05b4 \
                  2a 04 a9fea9fe 33 04 00015180 36 04 a9fea9fe \
                  77 21 01 'c' 0b 'monogon-dev' 08 'internal' 00 06 'google' c00e \
                  79 0e 20 0a9c0001 00000000 00 0a9c0001 96 04 0a9c0001",
        taken: "10.156.0.18/32; 10.156.0.1/32 direct; 0.0.0.0/0 by 10.156.0.1; dns 169.254.169.254; \
                search c.monogon-dev.internal google.internal; mtu 1460; 86400/43200/75600 s; from 169.254.169.254",
        ..REPLY
    },
    Reply {
        source: "GCE without option 3: the router is in option 121 alone",
        from: [169, 254, 169, 254],
        address: [10, 128, 0, 7],
        options: "01 04 ffffffff 33 04 00015180 36 04 a9fea9fe 79 0e 20 0a800001 00000000 00 0a800001",
        taken: "10.128.0.7/32; 10.128.0.1/32 direct; 0.0.0.0/0 by 10.128.0.1; 86400/43200/75600 s; \
                from 169.254.169.254",
        ..REPLY
    },
    Reply {
        source: "Azure, its routes from github.com/canonical/cloud-init/pull/5146",
        from: [168, 63, 129, 16],
        address: [10, 0, 0, 11],
        options: "36 04 a83f8110 33 04 ffffffff 01 04 ffffff00 03 04 0a000001 06 04 a83f8110 \
                  79 17 000a00000120a83f81100a00000120a9fea9fe0a000001 0f 14 'reddog.microsoft.com' f5 04 a83f8110",
        taken: "10.0.0.11/24; 0.0.0.0/0 by 10.0.0.1; 168.63.129.16/32 by 10.0.0.1; 169.254.169.254/32 by 10.0.0.1; \
                dns 168.63.129.16; search reddog.microsoft.com; 4294967295/2147483647/3758096383 s; \
                from 168.63.129.16",
        ..REPLY
    },
    Reply {
        source: "EC2 in a VPC, 9001 bytes, docs.aws.amazon.com: network MTU for your EC2 instance",
        from: [172, 31, 0, 1],
        address: [172, 31, 5, 20],
        options: "36 04 ac1f0001 33 04 00000e10 01 04 fffff000 1c 04 ac1f0fff 03 04 ac1f0001 0f 0c 'ec2.internal' \
                  06 04 ac1f0002 0c 0f 'ip-172-31-5-20.' 1a 02 2329",
        taken: "172.31.5.20/20; 0.0.0.0/0 by 172.31.0.1; dns 172.31.0.2; search ec2.internal; mtu 9001; \
                3600/1800/3150 s; from 172.31.0.1",
        ..REPLY
    },
    Reply {
        source: "Hetzner Cloud: one host, docs.hetzner.com: network configuration",
        from: [172, 31, 1, 1],
        address: [203, 0, 113, 7],
        options: "36 04 ac1f0101 33 04 00015180 01 04 ffffffff 03 04 ac1f0101 06 08 b90c4001 b90c4002 \
                  79 0e 20 ac1f0101 00000000 00 ac1f0101",
        taken: "203.0.113.7/32; 172.31.1.1/32 direct; 0.0.0.0/0 by 172.31.1.1; dns 185.12.64.1 185.12.64.2; \
                86400/43200/75600 s; from 172.31.1.1",
        ..REPLY
    },
    Reply {
        source: "a private network of Hetzner Cloud with the metadata server in it, \
                 github.com/mysticaltech/terraform-hcloud-kube-hetzner/pull/2269",
        address: [10, 0, 0, 2],
        options: "36 04 0a000001 33 04 00015180 01 04 ffffffff 1a 02 05aa \
                  79 19 10 0a00 0a000001 20 0a000001 00000000 20 a9fea9fe 0a000001",
        taken: "10.0.0.2/32; 10.0.0.0/16 by 10.0.0.1; 10.0.0.1/32 direct; 169.254.169.254/32 by 10.0.0.1; mtu 1450; \
                86400/43200/75600 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "OpenStack, Neutron's dnsmasq: the metadata server by the DHCP server, github.com/coreos/bugs/issues/512",
        from: [10, 0, 0, 2],
        address: [10, 0, 0, 23],
        options: "36 04 0a000002 33 04 00015180 3a 04 0000a8c0 3b 04 00012750 01 04 ffffff00 1c 04 0a0000ff \
                  0f 0e 'openstacklocal' 0c 0e 'host-10-0-0-23' 06 04 0a000002 \
                  79 0e 20 a9fea9fe 0a000002 00 0a000001 03 04 0a000001 1a 02 05aa",
        taken: "10.0.0.23/24; 169.254.169.254/32 by 10.0.0.2; 0.0.0.0/0 by 10.0.0.1; dns 10.0.0.2; \
                search openstacklocal; mtu 1450; 86400/43200/75600 s; from 10.0.0.2",
        ..REPLY
    },
    Reply {
        source: "OpenStack with OVN's own answers, ovn-nb(5) DHCP_Options",
        address: [10, 0, 0, 9],
        options: "33 04 0000a8c0 1a 02 05a2 03 04 0a000001 36 04 0a000001 01 04 ffffff00 06 04 08080808 \
                  79 0e 20 a9fea9fe 0a000002 00 0a000001",
        taken: "10.0.0.9/24; 169.254.169.254/32 by 10.0.0.2; 0.0.0.0/0 by 10.0.0.1; dns 8.8.8.8; mtu 1442; \
                43200/21600/37800 s; from 10.0.0.1",
        ..REPLY
    },
    Reply {
        source: "a lease of which only the first time is given, github.com/canonical/cloud-init/pull/76",
        from: [192, 168, 128, 3],
        address: [192, 168, 128, 12],
        options: "01 04 ffffff00 03 04 c0a88001 33 04 00015180 06 04 bfa88001 36 04 c0a88003 1a 02 05dc 3a 04 00009b2a",
        taken: "192.168.128.12/24; 0.0.0.0/0 by 192.168.128.1; dns 191.168.128.1; mtu 1500; 86400/39722/75600 s; \
                from 192.168.128.3",
        ..REPLY
    },
    Reply {
        source: "CloudStack's virtual router, which leases for ever; its network from \
                 github.com/canonical/cloud-init/pull/6554",
        from: [10, 10, 0, 1],
        address: [10, 10, 3, 149],
        options: "36 04 0a0a0001 33 04 ffffffff 01 04 fffffc00 1c 04 0a0a03ff 06 04 0a0a0001 \
                  0f 15 'cs1cloud.example.test' 03 04 0a0a0001",
        taken: "10.10.3.149/22; 0.0.0.0/0 by 10.10.0.1; dns 10.10.0.1; search cs1cloud.example.test; \
                4294967295/2147483647/3758096383 s; from 10.10.0.1",
        ..REPLY
    },
    Reply {
        source: "QEMU's user network, slirp/src/bootp.c",
        from: [10, 0, 2, 2],
        address: [10, 0, 2, 15],
        options: "36 04 0a000202 01 04 ffffff00 03 04 0a000202 06 04 0a000203 33 04 00015180",
        taken: "10.0.2.15/24; 0.0.0.0/0 by 10.0.2.2; dns 10.0.2.3; 86400/43200/75600 s; from 10.0.2.2",
        ..REPLY
    },
    Reply {
        source: "VMware's NAT network",
        from: [192, 168, 178, 254],
        address: [192, 168, 178, 130],
        options: "36 04 c0a8b2fe 33 04 00000708 01 04 ffffff00 1c 04 c0a8b2ff 03 04 c0a8b202 0f 0b 'localdomain' \
                  06 04 c0a8b202 2c 04 c0a8b202",
        taken: "192.168.178.130/24; 0.0.0.0/0 by 192.168.178.2; dns 192.168.178.2; search localdomain; \
                1800/900/1575 s; from 192.168.178.254",
        ..REPLY
    },
];
