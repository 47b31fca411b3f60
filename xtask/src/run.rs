//! `cargo xtask run`: from source to an agent's answer.

use crate::{cargo, deps, image};
use anyhow::{Context as _, Result, bail};
use astromesh_qemu::node::{self, Delivery, Node, Setup};
use astromesh_qemu::provider::Provider;
use astromesh_qemu::{Vm, relay_path};
use astromeshctl::profile::{Overrides, Profile};
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long a clean power-off may take.
const OFF_WITHIN: Duration = Duration::from_secs(60);

/// What is asked when nobody says otherwise.
const QUESTION: &str = "In one sentence: what are you running on?";

#[derive(Args)]
pub struct RunArguments {
    /// Exit once the agent has answered
    #[arg(long)]
    once: bool,
    /// Boot with this machine-config instead of one made for the occasion; `--provider URL` opens a way out for it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "key_env"])]
    config: Option<PathBuf>,
    /// Use a real provider: its base URL, as in <https://host/v1>. Opens a way out to that host alone
    #[arg(long, value_name = "URL")]
    provider: Option<String>,
    /// The provider's model
    #[arg(long, value_name = "NAME", requires = "provider")]
    model: Option<String>,
    /// The environment variable that holds the provider's key
    #[arg(long, value_name = "VAR", requires = "provider")]
    key_env: Option<String>,
    /// What to ask
    #[arg(long, default_value = QUESTION)]
    question: String,
}

/// The README's first command as a test: it must end with an answer.
pub fn once() -> Result<()> {
    run(&RunArguments {
        once: true,
        config: None,
        provider: None,
        model: None,
        key_env: None,
        question: QUESTION.to_owned(),
    })
}

/// The command.
pub fn run(arguments: &RunArguments) -> Result<()> {
    deps::install()?;
    let image = image::build()?;
    cargo::build_relay()?;
    let relay = relay_path()?;
    let interrupted = interrupts()?;
    let provider = Provider::start("throw-away-key", &[node::PROVIDER_NAME])?;
    let guest = Guest::prepare(arguments, &provider)?;

    eprintln!("  booting; the guest's console follows\n");
    let network = guest.network(&relay, &provider);
    // SMBIOS structures share 64 KiB; fw_cfg has no such limit.
    let by = if guest.config.len() < 32 * 1024 { Delivery::Smbios } else { Delivery::FwCfg };
    let machine = node::deliver(image.machine().nic(network), &guest.config, by).serial_tee(|bytes| {
        let _ = std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush());
    });
    let vm = machine.start()?;
    let mut node = Node { profile: guest.profile(&vm)?, vm };
    let answered = ask(&node, &guest, &arguments.question, &interrupted);
    let interrupted_early = answered.is_err() && interrupted.happened();
    let outcome = match answered {
        Err(_) if interrupted_early => Ok(()),
        Ok(()) if !arguments.once => stay(&node, &interrupted),
        other => other,
    };
    eprintln!("\n  switching the node off");
    let ended = node.vm.power_off(OFF_WITHIN);
    outcome?;
    ended?;
    Ok(())
}

/// What the guest is told, and how it can be reached.
struct Guest {
    config: Vec<u8>,
    agent: String,
    setup: Option<Setup>,
    /// `--config`'s connection profile.
    file_profile: Option<PathBuf>,
    /// Real provider: host, port.
    way_out: Option<(String, u16)>,
}

impl Guest {
    fn prepare(arguments: &RunArguments, provider: &Provider) -> Result<Self> {
        if let Some(path) = &arguments.config {
            return Self::from_file(path, arguments.provider.as_deref());
        }
        if arguments.provider.is_some() && (arguments.model.is_none() || arguments.key_env.is_none()) {
            bail!("--provider needs --model NAME and --key-env VAR, or a --config FILE that says both");
        }
        let mut way_out = None;
        let setup = if let (Some(url), Some(model), Some(variable)) =
            (&arguments.provider, &arguments.model, &arguments.key_env)
        {
            let key = std::env::var(variable)
                .with_context(|| format!("--key-env {variable}: the variable is not set"))?;
            let (host, port) = host_and_port(url)?;
            let mut setup = Setup::new("", &key)?;
            setup.config["network"]["hosts"] = json!({ &host: node::PROVIDER_INSIDE.ip() });
            setup.config["agents"] = json!([node::agent("assistant", url, model)]);
            setup.config["providers"][0]["endpoint"] = json!(url);
            way_out = Some((host, port));
            setup
        } else {
            Setup::new(provider.ca_pem(), "throw-away-key")?
        };
        let config = serde_json::to_vec(&setup.config)?;
        Ok(Self { config, agent: "assistant".to_owned(), setup: Some(setup), file_profile: None, way_out })
    }

    fn from_file(path: &Path, provider: Option<&str>) -> Result<Self> {
        let config = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
        let parsed = match astromeshctl::validate::validate(&config) {
            Ok(parsed) => parsed,
            Err(error) => {
                bail!("{}", astromeshctl::validate::report(&path.display().to_string(), &config, &error))
            }
        };
        let agent =
            parsed.agents.first().context("the machine-config declares no agent to ask")?.name.clone();
        let file_profile = path.with_file_name("astromeshctl.toml");
        if !file_profile.is_file() {
            bail!(
                "{} is needed to talk to the node: make it with `astromeshctl gen config`",
                file_profile.display()
            );
        }
        if parsed.runtime.listen.ip().is_loopback() {
            bail!(
                "runtime.listen is {}: nobody outside the node can ask it; open it, as in 0.0.0.0:8000",
                parsed.runtime.listen
            );
        }
        let way_out = provider.map(host_and_port).transpose()?;
        if let Some((host, _)) = &way_out {
            let inside = IpAddr::V4(*node::PROVIDER_INSIDE.ip());
            if parsed.network.hosts.get(host) != Some(&inside) {
                bail!(
                    "the way out to {host} is at {inside} inside: say so in the machine-config's network.hosts"
                );
            }
        }
        Ok(Self { config, agent, setup: None, file_profile: Some(file_profile), way_out })
    }

    fn network(&self, relay: &Path, provider: &Provider) -> astromesh_qemu::Nic {
        let network = node::network(relay);
        match &self.way_out {
            Some((host, port)) => {
                let inside = std::net::SocketAddrV4::new(*node::PROVIDER_INSIDE.ip(), *port);
                eprintln!("  opening one way out: {host}:{port}");
                network.reach_provider(inside, format!("{host}:{port}"))
            }
            None => network.reach_loopback(node::PROVIDER_INSIDE, provider.port()),
        }
    }

    fn profile(&self, vm: &Vm) -> Result<Profile> {
        match (&self.setup, &self.file_profile) {
            (Some(setup), _) => Ok(setup.profile(vm)?),
            (None, Some(path)) => {
                let endpoint = Some(vm.host_address(node::CONTROL_PORT)?.to_string());
                Ok(Profile::load(path, &Overrides { endpoint, ..Overrides::default() })?)
            }
            (None, None) => bail!("there is no connection profile"),
        }
    }
}

/// Host and port of an `https://` or `http://` URL.
fn host_and_port(url: &str) -> Result<(String, u16)> {
    let (rest, default) = url
        .strip_prefix("https://")
        .map(|rest| (rest, 443))
        .or_else(|| url.strip_prefix("http://").map(|rest| (rest, 80)))
        .context("--provider takes a URL that begins with https:// or http://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().context("--provider: the port is not a number")?),
        None => (authority, default),
    };
    if host.is_empty() || host.contains(['@', '[', '?', '#']) {
        bail!("--provider takes a URL with a host name, as in https://host/v1");
    }
    Ok((host.to_owned(), port))
}

fn ask(node: &Node, guest: &Guest, question: &str, interrupted: &Interrupts) -> Result<()> {
    let status = interrupted.unless(node, || node.wait_healthy().map_err(Into::into))?;
    eprintln!("\n  healthy after {} ms: {}", status.uptime_ms, status.root_hash);
    eprintln!("  asking {}: {question}", guest.agent);
    let answer = interrupted.unless(node, || node.ask(&guest.agent, question).map_err(Into::into))?;
    println!("\n{}\n", astromeshctl::terminal::clean(&answer));
    print!(
        "{}",
        astromeshctl::show::boot(
            &node.boot()?,
            astromeshctl::show::Look { colour: astromeshctl::terminal::wants_colour() }
        )
    );
    Ok(())
}

fn stay(node: &Node, interrupted: &Interrupts) -> Result<()> {
    let api = node.vm.host_address(node::API_PORT)?;
    eprintln!("\n  the agent's API is on http://{api}; Ctrl-C switches the node off\n");
    while node.vm.is_running() && !interrupted.happened() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Ctrl-C, noticed instead of obeyed, so that the node is switched off cleanly.
#[derive(Clone)]
struct Interrupts(Arc<AtomicBool>);

fn interrupts() -> Result<Interrupts> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    ctrlc::set_handler(move || set.store(true, Ordering::Release)).context("Ctrl-C can't be handled")?;
    Ok(Interrupts(flag))
}

impl Interrupts {
    fn happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Does something long; on Ctrl-C switches the node off, upon which whatever waits for it fails.
    fn unless<T: Send>(&self, node: &Node, long: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            scope.spawn(move || {
                let _ = sender.send(long());
            });
            let mut told = false;
            loop {
                match receiver.recv_timeout(Duration::from_millis(100)) {
                    Ok(result) => return result,
                    Err(_) if self.happened() && !told => {
                        told = true;
                        node.vm.power_button()?;
                    }
                    Err(_) => {}
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_host_and_port_are_read_from_its_url() {
        assert_eq!(host_and_port("https://api.example/v1").unwrap(), ("api.example".to_owned(), 443));
        assert_eq!(host_and_port("http://h:8080").unwrap(), ("h".to_owned(), 8080));
        for wrong in ["api.example/v1", "https:///v1", "https://u@h/v1", "https://h:x/v1", "ftp://h"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }
}
