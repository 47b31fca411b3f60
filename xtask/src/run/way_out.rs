//! The one way out of the guest's closed network, to a provider that a person named by its URL.

use anyhow::{Result, anyhow, bail};
use astromesh_proto::machine_config::{Endpoint, Host, MachineConfig};
use astromesh_qemu::node::PROVIDER_INSIDE;
use std::net::{IpAddr, SocketAddrV4};

/// A way out of the guest's closed network: to one port of one host, which is at one address inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// Where it leads, for this machine: `HOST:PORT`.
    pub target: String,
    /// Its port, here as there.
    port: u16,
    /// The provider's name, which the guest must have at the way's beginning; `None` where it asks for the address itself.
    pub name: Option<String>,
    /// The provider's URL as the guest is told.
    pub url: String,
}

impl WayOut {
    /// To the host of a provider's URL.
    ///
    /// A name stays as it is, since a certificate may be for it. But an address and `localhost` mean something else inside the
    /// guest (`localhost` the guest itself), so there the address at which the way begins stands for them.
    pub fn to(url: &str) -> Result<Self> {
        let endpoint = url.parse::<Endpoint>().map_err(|fault| {
            anyhow!(
                "--provider takes a URL such as https://host/v1 or http://127.0.0.1:8080/v1: this is {fault}"
            )
        })?;
        let port = endpoint.port;
        let target = format!("{}:{port}", endpoint.host);
        let name = match &endpoint.host {
            Host::Name(name) if name != "localhost" && !name.ends_with(".localhost") => Some(name.clone()),
            _ => None,
        };
        if name.is_none() && endpoint.tls {
            bail!(
                "--provider: the certificate of {} can't be checked from inside the guest, which reaches it by another \
                 address: use its name, or http",
                endpoint.host
            );
        }
        let inside = match name {
            Some(_) => endpoint,
            None => Endpoint { host: Host::Address(IpAddr::V4(*PROVIDER_INSIDE.ip())), ..endpoint },
        };
        Ok(Self { target, port, name, url: inside.to_string() })
    }

    /// Where it begins, inside.
    pub fn inside(&self) -> SocketAddrV4 {
        SocketAddrV4::new(*PROVIDER_INSIDE.ip(), self.port)
    }

    /// That a machine-config of somebody's own makes use of it.
    pub fn must_be_in(&self, config: &MachineConfig) -> Result<()> {
        let inside = IpAddr::V4(*self.inside().ip());
        match &self.name {
            Some(name) if config.network.hosts.get(name) != Some(&inside) => {
                bail!(
                    "the way out to {name} is at {inside} inside: say so in the machine-config's network.hosts"
                )
            }
            None if !config.providers.iter().any(|provider| {
                provider.endpoint.host == Host::Address(inside) && provider.endpoint.port == self.port
            }) =>
            {
                bail!(
                    "the way out to {} is {} inside: name that as a provider's endpoint",
                    self.target,
                    self.url
                )
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_by_name_is_asked_by_its_name() {
        let way = WayOut::to("https://api.example/v1").unwrap();
        assert_eq!((way.target.as_str(), way.name.as_deref()), ("api.example:443", Some("api.example")));
        assert_eq!(
            (way.url.as_str(), way.inside().to_string().as_str()),
            ("https://api.example/v1", "10.0.2.100:443")
        );
        for wrong in
            ["api.example/v1", "https:///v1", "https://u@h/v1", "https://h:x/v1", "ftp://h", "http://h/?q"]
        {
            assert!(WayOut::to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_provider_by_address_or_on_this_machine_is_asked_where_its_way_begins() {
        for (url, target, inside) in [
            ("http://127.0.0.1:8080/v1", "127.0.0.1:8080", "http://10.0.2.100:8080/v1"),
            ("http://localhost:11434/v1", "localhost:11434", "http://10.0.2.100:11434/v1"),
            ("http://[::1]:8080/v1", "[::1]:8080", "http://10.0.2.100:8080/v1"),
            ("http://192.168.1.20", "192.168.1.20:80", "http://10.0.2.100"),
        ] {
            let way = WayOut::to(url).unwrap();
            assert_eq!((way.target.as_str(), way.url.as_str(), way.name), (target, inside, None));
        }
        // No certificate is for the address at which the way begins.
        assert!(
            WayOut::to("https://127.0.0.1:8443/v1").is_err() && WayOut::to("https://localhost/v1").is_err()
        );
    }
}
