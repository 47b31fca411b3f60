//! What a valid machine-config says: the types that the rest of the node works with.
//!
//! A value of [`MachineConfig`] only comes out of [`MachineConfig::parse`], so whoever holds one need not ask
//! again whether a gateway can be reached or a name is a name. The sections can be serialized, each for the one
//! service that needs it; the whole can't, since no service needs all of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A whole machine-config, valid.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// Who the node is.
    pub node: NodeIdentity,
    /// How it is connected.
    pub network: Network,
    /// How the agent runtime is run.
    pub runtime: Runtime,
    /// The agents it serves.
    pub agents: Vec<Agent>,
    /// The model providers that the agents may use.
    pub providers: Vec<Provider>,
    /// Certificate authorities to trust beside the image's own: PEM, each one or more `CERTIFICATE` blocks.
    pub certificate_authorities: Vec<String>,
    /// Who may operate the node.
    pub operator: Operator,
    /// From where it is updated; `None` for a node that never is.
    pub update: Option<Update>,
}

/// `node`: who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Identity, and the DNS name in the node's certificate: one lower-case label.
    pub id: String,
    /// Host name, at most 64 bytes; `id` unless given.
    pub hostname: String,
}

/// `network`: how the node is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Interfaces to configure; empty means DHCP, and IPv6 by router advertisement, on every Ethernet link.
    pub interfaces: Vec<Interface>,
    /// Name servers, at most 3; empty means those that DHCP gives.
    pub nameservers: Vec<IpAddr>,
    /// Static names, lower-case, at most 256.
    pub hosts: BTreeMap<String, IpAddr>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Which link it is.
    pub link: Link,
    /// Where its addresses come from.
    pub addressing: Addressing,
}

/// How a link is recognized.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Link {
    /// By the kernel's name, at most 15 bytes.
    Name(String),
    /// By its hardware address.
    Mac([u8; 6]),
}

/// Where an interface's addresses come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addressing {
    /// From DHCP, and for IPv6 from router advertisements.
    Dhcp,
    /// From the machine-config.
    Static {
        /// Addresses with their prefix length; at least one, at most 16.
        addresses: Vec<Cidr>,
        /// Default router for IPv4, inside the network of one of the addresses, or beside one with a /32.
        gateway: Option<Ipv4Addr>,
        /// Default router for IPv6, inside the network of one of the addresses, link-local, or beside one with a /128.
        gateway6: Option<Ipv6Addr>,
    },
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix: 1 to 32 or 128.
    pub prefix: u8,
}

/// `runtime`: how the agent runtime is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Which parts of the runtime serve.
    pub profile: Profile,
    /// Where its HTTP interface listens. It has no authentication of its own: loopback unless opened here.
    pub listen: SocketAddr,
}

/// Which parts of the runtime serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// All in one node.
    Full,
}

/// One of `agents`.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// `metadata.name`: unique, `[a-z0-9][a-z0-9-]{0,62}`, so it can be a file name.
    pub name: String,
    /// The whole document. [`Agent::yaml`] is its text for the runtime.
    pub document: serde_json::Value,
}

/// One of `providers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its unique name, for people.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// The environment variable by which agents ask for the key; unique.
    pub api_key_env: String,
    /// The key; `None` for a provider that needs none, whose variable is then set to `none`.
    pub api_key: Option<Secret>,
}

/// An `http` or `https` URL, taken apart. Its text is [`ToString`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whether it is `https`.
    pub tls: bool,
    /// Its host.
    pub host: Host,
    /// Its port; 443 or 80 unless given.
    pub port: u16,
    /// Its path: empty, or beginning with `/`.
    pub path: String,
}

/// A host, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// A DNS name, lower-case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// `operator`: who may operate the node, and how the node shows who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Authorities whose clients may use the control API: PEM.
    pub ca: String,
    /// The node's own certificate, and the chain to it if there is one: PEM.
    pub certificate: String,
    /// Its key: PEM, PKCS#8.
    pub key: Secret,
    /// Where the control API listens.
    pub listen: SocketAddr,
}

/// `update`: from where releases come, whose they must be, and when they may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Registry and repository; `None` for a node that takes releases from a drive alone.
    pub image: Option<String>,
    /// The tag that names the newest release.
    pub channel: String,
    /// Public keys in PEM, one of which must have signed a release.
    pub keys: Vec<String>,
    /// Who begins an update.
    pub mode: UpdateMode,
    /// How often `auto` looks, in minutes.
    pub check_every_minutes: u32,
    /// When `auto` may install and reboot; `None` means always.
    pub window: Option<Window>,
    /// Most bytes fetched in a second; `None` means as fast as it goes.
    pub max_bytes_per_second: Option<u64>,
    /// User and password at the registry.
    pub account: Option<(String, Secret)>,
    /// Whether the registry is spoken to without TLS: for a network that is closed by other means. What is taken is
    /// decided by `keys` all the same.
    pub plain_http: bool,
    /// How long health must hold before a new release is kept, in seconds.
    pub bless_after_seconds: u32,
    /// How long a new release may take until health holds before the machine reboots, in seconds.
    pub healthy_within_seconds: u32,
}

/// Who begins an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateMode {
    /// An operator, with `astromeshctl update apply`.
    Manual,
    /// The node itself, inside its window.
    Auto,
}

/// A part of the day, in UTC; it may pass midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first minute, from 0 to 1439.
    pub from_minute: u16,
    /// The minute after its last.
    pub to_minute: u16,
}

impl Window {
    /// Whether a minute of the day is inside.
    pub fn contains(&self, minute: u16) -> bool {
        if self.from_minute < self.to_minute {
            (self.from_minute..self.to_minute).contains(&minute)
        } else {
            minute >= self.from_minute || minute < self.to_minute
        }
    }
}

/// Text that is never shown: its `Debug` is a placeholder, and it has no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Cidr {
    /// Whether `address` is in the same network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}
