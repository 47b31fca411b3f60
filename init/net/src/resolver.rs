//! `/run/net/resolv.conf` and `/run/net/hosts`, which the root's `/etc` links to.
//!
//! Replaced as a whole by a rename, so that a reader sees the old file or the new one. Both directories of the names
//! in use, the machine's and the runtime's view of it, are the same one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Where both files are.
const DIRECTORY: &str = "/run/net";

/// The resolver gives up on a server after this many seconds, and asks each twice.
const OPTIONS: &str = "options timeout:3 attempts:2\n";

/// Writes the name servers; without any, a file that says so, which makes every look-up fail at once.
pub fn write_nameservers(servers: &[IpAddr]) -> io::Result<()> {
    let mut text = String::from(OPTIONS);
    // resolv.conf(5): MAXNS is 3.
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    replace("resolv.conf", &text)
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
    fn static_names_stand_one_a_line_after_the_nodes_own() {
        let hosts = BTreeMap::from([("provider.test".to_owned(), "10.0.2.100".parse().unwrap())]);
        assert_eq!(
            hosts_text("node-1", &hosts),
            "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 node-1\n10.0.2.100 provider.test\n"
        );
    }
}
