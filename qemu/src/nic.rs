//! The guest's network card, on a network that is closed.
//!
//! It exists because QEMU's user network forwards whatever a guest sends to the host's real network unless it
//! is told `restrict=on`. A [`Nic`] always tells it; no function leaves that out. What a test needs is opened
//! one connection at a time: [`Nic::forward`] inwards from a loopback port of the host, [`Nic::reach_loopback`]
//! outwards from one address inside the guest's network to one loopback port.
//!
//! It refuses to: open a network; listen on anything but 127.0.0.1; pick a host port itself (QEMU binds port 0
//! and is asked which one it got, so that two machines never race for one).

use crate::disk::escape_commas;
use std::net::SocketAddrV4;
use std::path::PathBuf;

/// What the guest sees on its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NicModel {
    /// virtio-net, as on most clouds.
    #[default]
    VirtioNet,
    /// Intel 82574L.
    E1000e,
    /// NE2000 on the ISA bus at 0x300: a boot sector drives it with port writes alone.
    Ne2kIsa,
}

/// Which IPv4 network the card is on. Router at .2, guest at .15 of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subnet {
    /// 10.0.2.0/24.
    #[default]
    Private,
    /// 169.254.169.0/24, in which clouds have their metadata server (.254): QEMU's user network gives a guest no
    /// address but those of its own network, so it must lie there for [`Nic::reach_loopback`] to name it.
    Metadata,
}

/// One network card on its own closed network, a [`Subnet`] and `fec0::/64`.
#[derive(Debug, Clone)]
pub struct Nic {
    relay: PathBuf,
    model: NicModel,
    subnet: Subnet,
    forwards: Vec<u16>,
    reaches: Vec<(SocketAddrV4, String)>,
    capture: Option<PathBuf>,
}

impl Nic {
    /// A card that reaches nothing. `relay` is the program [`crate::relay_path`] finds.
    pub fn new(relay: impl Into<PathBuf>) -> Self {
        let model = NicModel::default();
        let subnet = Subnet::default();
        Self { relay: relay.into(), model, subnet, forwards: Vec::new(), reaches: Vec::new(), capture: None }
    }

    /// Another model of card.
    #[must_use]
    pub fn model(mut self, model: NicModel) -> Self {
        self.model = model;
        self
    }

    /// On another network, which is as closed.
    #[must_use]
    pub fn subnet(mut self, subnet: Subnet) -> Self {
        self.subnet = subnet;
        self
    }

    /// Opens one TCP port of the guest to a loopback port that [`crate::Vm::host_address`] tells.
    #[must_use]
    pub fn forward(mut self, guest_port: u16) -> Self {
        self.forwards.push(guest_port);
        self
    }

    /// Lets the guest's TCP connections to `inside` (in the card's [`Subnet`]) arrive at a loopback port of the host.
    #[must_use]
    pub fn reach_loopback(mut self, inside: SocketAddrV4, port: u16) -> Self {
        self.reaches.push((inside, format!("127.0.0.1:{port}")));
        self
    }

    /// Lets the guest's TCP connections to `inside` arrive at the one `host:port` that a person named. It is
    /// for `cargo xtask run --provider`; a test never calls it.
    #[must_use]
    pub fn reach_provider(mut self, inside: SocketAddrV4, host_and_port: impl Into<String>) -> Self {
        self.reaches.push((inside, host_and_port.into()));
        self
    }

    /// Records every frame in both directions to a pcap file.
    #[must_use]
    pub fn capture(mut self, path: impl Into<PathBuf>) -> Self {
        self.capture = Some(path.into());
        self
    }

    pub(crate) fn arguments(&self, index: usize) -> Vec<String> {
        let mut network = vec![format!("user,id=net{index},restrict=on,ipv4=on,ipv6=on")];
        match self.subnet {
            Subnet::Private => {}
            Subnet::Metadata => network.push("net=169.254.169.0/24".into()),
        }
        network.extend(self.forwards.iter().map(|port| format!("hostfwd=tcp:127.0.0.1:0-:{port}")));
        network.extend(self.reaches.iter().map(|(inside, target)| {
            let command = format!("{} {}", quote(&self.relay.to_string_lossy()), quote(target));
            format!("guestfwd=tcp:{inside}-cmd:{}", escape_commas(&command))
        }));
        // romfile= : no network boot, and no need for the ROM files of another package.
        let device = match self.model {
            NicModel::VirtioNet => format!("virtio-net-pci,netdev=net{index},romfile="),
            NicModel::E1000e => format!("e1000e,netdev=net{index},romfile="),
            NicModel::Ne2kIsa => format!("ne2k_isa,iobase=0x300,irq=9,netdev=net{index}"),
        };
        let mut arguments = vec!["-netdev".into(), network.join(","), "-device".into(), device];
        if let Some(path) = &self.capture {
            let path = escape_commas(&path.to_string_lossy());
            arguments.push("-object".into());
            arguments.push(format!("filter-dump,id=dump{index},netdev=net{index},file={path}"));
        }
        arguments
    }
}

/// QEMU splits a guestfwd command as a shell would (`g_shell_parse_argv`).
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Reads the host port of each forward out of `info usernet`: lines such as
/// `TCP[HOST_FORWARD]  13  127.0.0.1 41235  10.0.2.15  8000  0  0`.
pub(crate) fn forwarded_ports(usernet: &str) -> Vec<(u16, u16)> {
    let forward = |line: &str| {
        let mut fields = line.trim().strip_prefix("TCP[HOST_FORWARD]")?.split_whitespace().skip(2);
        let host = fields.next()?.parse().ok()?;
        let guest = fields.nth(1)?.parse().ok()?;
        Some((guest, host))
    };
    usernet.lines().filter_map(forward).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_that_can_be_built_is_restricted() {
        let inside = "10.0.2.100:443".parse().unwrap();
        let metadata = "169.254.169.254:80".parse().unwrap();
        let plain = Nic::new("/r");
        let cards = [
            plain.clone(),
            plain.clone().model(NicModel::E1000e).forward(1),
            plain.clone().model(NicModel::Ne2kIsa).reach_loopback(inside, 2),
            plain.clone().reach_provider(inside, "provider.example:443"),
            // An option smuggled into a path or an address stays text.
            Nic::new("/r,restrict=off").reach_loopback(inside, 3),
            plain.clone().reach_provider(inside, "x,restrict=off"),
            plain.clone().subnet(Subnet::Metadata),
            plain.clone().subnet(Subnet::Metadata).forward(3).reach_loopback(metadata, 4),
            plain.capture("/c,netdev=other").forward(2),
        ];
        for card in cards {
            let arguments = card.arguments(0);
            let network = &arguments[1].replace(",,", "<comma>");
            assert_eq!(arguments[0], "-netdev");
            assert!(network.starts_with("user,id=net0,restrict=on,"), "{network}");
            assert_eq!(network.matches("restrict=").count() - network.matches("<comma>restrict=").count(), 1);
            assert_eq!(
                network.matches("hostfwd=").count(),
                network.matches("hostfwd=tcp:127.0.0.1:0-").count()
            );
            assert_eq!(arguments.iter().filter(|a| *a == "-netdev").count(), 1);
        }
    }

    #[test]
    fn the_port_that_qemu_got_is_read_from_its_table() {
        let table = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                     TCP[HOST_FORWARD]  13       127.0.0.1 41235       10.0.2.15  8000     0     0\r\n  \
                     TCP[ESTABLISHED]  15       127.0.0.1 41235       10.0.2.15  8000     0     0\r\n";
        assert_eq!(forwarded_ports(table), [(8000, 41235)]);
        assert_eq!(forwarded_ports("TCP[HOST_FORWARD] nonsense"), []);
    }
}
