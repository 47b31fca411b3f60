//! `/run/net/resolv.conf` and `/run/net/hosts`, which the root's `/etc` links to.
//!
//! Replaced as a whole by a rename, so that a reader sees the old file or the new one. Both directories of the names
//! in use, the machine's and the runtime's view of it, are the same one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

/// Where both files are.
const DIRECTORY: &str = "/run/net";

/// The resolver gives up on a server after this many seconds, and asks each twice.
const OPTIONS: &str = "options timeout:3 attempts:2\n";

/// Writes the name servers and the search domains; without a server, a file that says so, which makes every look-up
/// fail at once.
pub fn write_nameservers(servers: &[String], domains: &[String]) -> io::Result<()> {
    replace("resolv.conf", &nameservers_text(servers, domains))
}

fn nameservers_text(servers: &[String], domains: &[String]) -> String {
    let mut text = String::from(OPTIONS);
    // resolv.conf(5): MAXNS is 3; six domains are what every reader of the file takes.
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !domains.is_empty() {
        let _ = writeln!(text, "search {}", domains[..domains.len().min(6)].join(" "));
    }
    text
}

/// A name server as the resolver's file has it: one in fe80::/10 is reached only by its link, which is named behind it.
pub fn scoped(server: Ipv6Addr, link: &str) -> String {
    if server.is_unicast_link_local() { format!("{server}%{link}") } else { server.to_string() }
}

/// Writes the static names, with the node's own first.
pub fn write_hosts(hostname: &str, hosts: &BTreeMap<String, IpAddr>) -> io::Result<()> {
    replace("hosts", &hosts_text(hostname, hosts))
}

fn hosts_text(hostname: &str, hosts: &BTreeMap<String, IpAddr>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    if !hostname.is_empty() {
        let _ = writeln!(text, "127.0.1.1 {hostname}");
    }
    for (name, address) in hosts {
        let _ = writeln!(text, "{address} {name}");
    }
    text
}

fn replace(name: &str, text: &str) -> io::Result<()> {
    let target = Path::new(DIRECTORY).join(name);
    let fresh = Path::new(DIRECTORY).join(format!("{name}.new"));
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_name_server_has_its_link_and_domains_are_one_line() {
        let servers = ["fe80::1", "fd00::1"].map(|server| scoped(server.parse().unwrap(), "eth0"));
        let domains = ["one.test".to_owned(), "two.test".to_owned()];
        let expected =
            format!("{OPTIONS}nameserver fe80::1%eth0\nnameserver fd00::1\nsearch one.test two.test\n");
        assert_eq!(nameservers_text(&servers, &domains), expected);
        assert_eq!(nameservers_text(&[], &[]), OPTIONS);
    }

    #[test]
    fn static_names_stand_one_a_line_after_the_nodes_own() {
        let hosts = BTreeMap::from([("provider.test".to_owned(), "10.0.2.100".parse().unwrap())]);
        assert_eq!(
            hosts_text("node-1", &hosts),
            "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 node-1\n10.0.2.100 provider.test\n"
        );
    }
}
