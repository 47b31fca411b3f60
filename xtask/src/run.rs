//! `cargo xtask run`: from source to an agent's answer.

mod way_out;

use crate::{cargo, deps, image};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use astromesh_proto::control::{Mode, Status};
use astromesh_qemu::node::{self, Delivery, Node, Setup};
use astromesh_qemu::provider::Provider;
use astromesh_qemu::{Vm, relay_path};
use astromeshctl::profile::{Overrides, Profile};
use astromeshctl::terminal::clean;
use clap::Args;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use way_out::WayOut;

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
    /// Use a real provider: its base URL, as in <https://host/v1> or <http://127.0.0.1:8080/v1>, where a server on this
    /// machine may be. Opens a way out to that host alone
    #[arg(long, value_name = "URL")]
    provider: Option<String>,
    /// The provider's model
    #[arg(long, value_name = "NAME", requires = "provider")]
    model: Option<String>,
    /// The environment variable that holds the provider's key; without it the provider needs none
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
    // First what may be wrong with the arguments: building takes longer.
    let provider = Provider::start("throw-away-key", &[node::PROVIDER_NAME])?;
    let guest = Guest::prepare(arguments, &provider)?;
    deps::install()?;
    let image = image::build()?;
    cargo::build_relay()?;
    let relay = relay_path()?;
    let interrupted = interrupts()?;

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
    /// To a real provider.
    way_out: Option<WayOut>,
}

impl Guest {
    fn prepare(arguments: &RunArguments, provider: &Provider) -> Result<Self> {
        if let Some(path) = &arguments.config {
            return Self::from_file(path, arguments.provider.as_deref());
        }
        if arguments.provider.is_some() && arguments.model.is_none() {
            bail!("--provider needs --model NAME, or a --config FILE that says which");
        }
        let (mut way_out, mut authority) = (None, provider.ca_pem());
        let key = match &arguments.key_env {
            Some(variable) => std::env::var(variable)
                .with_context(|| format!("--key-env {variable}: the variable is not set"))?,
            None => "throw-away-key".to_owned(),
        };
        if arguments.provider.is_some() {
            authority = "";
        }
        let mut setup = Setup::new(authority, &key)?;
        if let (Some(url), Some(model)) = (&arguments.provider, &arguments.model) {
            let way = WayOut::to(url)?;
            if let Some(name) = &way.name {
                setup.config["network"]["hosts"] = json!({ name: node::PROVIDER_INSIDE.ip() });
            }
            setup.config["agents"] = json!([node::agent("assistant", &way.url, model)]);
            setup.config["providers"][0]["endpoint"] = json!(&way.url);
            if arguments.key_env.is_none() {
                // A provider that needs no key, as most model servers on one's own machine.
                if let Some(main) = setup.config["providers"][0].as_object_mut() {
                    main.remove("apiKey");
                }
            }
            way_out = Some(way);
        }
        let config = serde_json::to_vec(&setup.config)?;
        // Before it boots: the node would only say so in maintenance mode.
        astromeshctl::validate::validate(&config)
            .map_err(|error| anyhow!("no valid machine-config can be made of this: {error}"))?;
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
        let way_out = provider.map(WayOut::to).transpose()?;
        if let Some(way) = &way_out {
            way.must_be_in(&parsed)?;
        }
        Ok(Self { config, agent, setup: None, file_profile: Some(file_profile), way_out })
    }

    fn network(&self, relay: &Path, provider: &Provider) -> astromesh_qemu::Nic {
        let network = node::network(relay);
        match &self.way_out {
            Some(way) => {
                eprintln!("  opening one way out, from {} inside to {}", way.inside(), way.target);
                network.reach_provider(way.inside(), way.target.clone())
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

fn ask(node: &Node, guest: &Guest, question: &str, interrupted: &Interrupts) -> Result<()> {
    let settled = |status: &Status| status.healthy || status.mode == Mode::Maintenance;
    let status = interrupted.unless(node, || {
        Ok(node.wait_for("the node did not become healthy", node::HEALTHY_WITHIN, settled)?)
    })?;
    demand_healthy(&status)?;
    eprintln!("\n  healthy after {} ms: {}", status.uptime_ms, status.root_hash);
    eprintln!("  asking {}: {question}", guest.agent);
    let answer = interrupted.unless(node, || node.ask(&guest.agent, question).map_err(Into::into))?;
    println!("\n{}\n", clean(&answer));
    print!(
        "{}",
        astromeshctl::show::boot(
            &node.boot()?,
            astromeshctl::show::Look { colour: astromeshctl::terminal::wants_colour() }
        )
    );
    Ok(())
}

/// A node in maintenance mode has no agent, and never gets one in this boot.
fn demand_healthy(status: &Status) -> Result<()> {
    ensure!(status.healthy, "the node is in maintenance mode, and no agent runs: {}", clean(&status.reason));
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
    use astromesh_proto::machine_config::MachineConfig;

    #[test]
    fn the_machine_config_of_each_kind_of_provider_is_valid_and_leads_its_way() {
        let stand_in = Provider::start("throw-away-key", &[node::PROVIDER_NAME]).unwrap();
        for url in ["https://api.example/v1", "http://127.0.0.1:8080/v1", "http://localhost:8080/v1"] {
            let arguments = RunArguments {
                once: true,
                config: None,
                provider: Some(url.to_owned()),
                model: Some("m".to_owned()),
                key_env: None,
                question: QUESTION.to_owned(),
            };
            let guest = Guest::prepare(&arguments, &stand_in).unwrap();
            let config = MachineConfig::parse(&guest.config).unwrap();
            guest.way_out.unwrap().must_be_in(&config).unwrap();
            assert!(config.providers[0].api_key.is_none());
            // Twin: another way is refused with what to write.
            let other = WayOut::to("http://127.0.0.1:1/v1").unwrap().must_be_in(&config).unwrap_err();
            assert!(other.to_string().contains("http://10.0.2.100:1/v1"), "{other}");
        }
    }

    #[test]
    fn a_node_in_maintenance_mode_ends_the_command_with_its_reason() {
        let mut status = Status {
            node: String::new(),
            hostname: String::new(),
            version: String::new(),
            mode: Mode::Maintenance,
            healthy: false,
            reason: "network.hosts: expected a host name as key".to_owned(),
            root_hash: String::new(),
            uptime_ms: 0,
            addresses: Vec::new(),
            services: Vec::new(),
            memory_total_kib: 0,
            memory_available_kib: 0,
        };
        let error = demand_healthy(&status).unwrap_err().to_string();
        assert!(error.contains("maintenance mode") && error.contains("network.hosts"), "{error}");
        (status.mode, status.healthy) = (Mode::Running, true);
        demand_healthy(&status).unwrap();
    }
}
