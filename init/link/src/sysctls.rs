//! The kernel's own settings of a link (Documentation/networking/ip-sysctl.rst): whom it believes about addresses and
//! routes. A process with `CAP_NET_ADMIN` may write them.

use astromesh_proto::machine_config::Addressing;
use std::fs::OpenOptions;
use std::io::{self, Write as _};

/// What is the same for every link. Without this, IPv4 accepts redirects on each link whatever the link's own says.
pub const FOR_ALL: &[(&str, &str)] = &[("/proc/sys/net/ipv4/conf/all/accept_redirects", "0")];

/// What a link's settings are to be, before it is set up.
///
/// A link with addresses from the machine-config takes no word from routers. A redirect is taken from nobody: it saves
/// one hop, and anybody on the link can forge one. Of several links with routers, IPv6 prefers the one that IPv4 does.
pub fn of_link(name: &str, addressing: &Addressing, metric: u32) -> [(String, String); 4] {
    let from_routers = u8::from(*addressing == Addressing::Dhcp);
    let of = |family: &str, setting: &str| format!("/proc/sys/net/{family}/conf/{name}/{setting}");
    [
        (of("ipv4", "accept_redirects"), "0".to_owned()),
        (of("ipv6", "accept_redirects"), "0".to_owned()),
        (of("ipv6", "accept_ra"), from_routers.to_string()),
        (of("ipv6", "ra_defrtr_metric"), metric.to_string()),
    ]
}

/// Writes one.
pub fn write(path: &str, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn value(addressing: &Addressing, setting: &str) -> String {
        let settings = of_link("eth0", addressing, 100);
        settings.into_iter().find(|(path, _)| path.ends_with(setting)).unwrap().1
    }

    #[test]
    fn a_link_with_addresses_of_its_own_believes_no_router_and_no_link_believes_a_redirect() {
        let fixed = Addressing::Static { addresses: Vec::new(), gateway: None, gateway6: None };
        assert_eq!(value(&fixed, "ipv6/conf/eth0/accept_ra"), "0");
        // Twin: the same setting where routers are asked.
        assert_eq!(value(&Addressing::Dhcp, "ipv6/conf/eth0/accept_ra"), "1");
        for addressing in [fixed, Addressing::Dhcp] {
            for family in ["ipv4", "ipv6"] {
                assert_eq!(value(&addressing, &format!("{family}/conf/eth0/accept_redirects")), "0");
            }
        }
        assert!(FOR_ALL.contains(&("/proc/sys/net/ipv4/conf/all/accept_redirects", "0")));
    }

    #[test]
    fn every_setting_is_one_that_this_kind_of_kernel_has() {
        for (path, _) in of_link("lo", &Addressing::Dhcp, 100) {
            // A build machine may have no IPv6 at all.
            let family = path.split("/conf/").next().unwrap();
            assert!(!Path::new(family).exists() || Path::new(&path).exists(), "{path}");
        }
    }
}
