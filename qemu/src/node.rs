//! A node of ours in a VM: image, machine-config, provider and operator put together the way a user would.
//!
//! Both `cargo xtask run` and the gates boot nodes through this module, so what a gate proves is what a user gets. The
//! machine-config is kept as JSON (which is YAML), so that a test can break one key of it and nothing else.

use crate::artifact::ArtifactError;
use crate::{Disk, Nic, Vm, VmBuilder, VmError};
use astromesh_proto::control::{Check, Request, Response, Stage, Status};
use astromesh_rootfs::command_line::command_line;
use astromeshctl::client::{Client, ClientError};
use astromeshctl::credentials::{Credentials, CredentialsError, GenOptions, generate};
use astromeshctl::profile::{Profile, ProfileError};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

pub use crate::artifact::{GateImages, Image};

/// Where the provider is, as seen from inside.
pub const PROVIDER_INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 100), 443);
/// The provider's name inside, which its certificate carries.
pub const PROVIDER_NAME: &str = "provider.test";
/// Port of the runtime's API in the guest.
pub const API_PORT: u16 = 8000;
/// Port of the control API in the guest.
pub const CONTROL_PORT: u16 = astromesh_proto::control::DEFAULT_PORT;
/// How long a node may take to be healthy. Emulated on a busy machine, the runtime's imports alone take half a minute.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(300);

/// A node could not be put together, or did not do what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no image.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The virtual machine failed.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// Credentials could not be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// They could not be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The control API did not answer as it should.
    #[error(transparent)]
    Control(#[from] ClientError),
    /// The control API answered something else.
    #[error("the control API answered with something else than was asked for")]
    Answer,
    /// The wait was too long.
    #[error("{what} within {limit:?}; the last that was seen: {last}; the end of the console:\n{console}")]
    Wait {
        /// What did not happen.
        what: &'static str,
        /// For how long it was waited for.
        limit: Duration,
        /// What was seen instead.
        last: String,
        /// The console.
        console: String,
    },
    /// The agent did not answer.
    #[error("the agent did not answer: {0}")]
    Ask(String),
}

impl Image {
    /// The kernel command line that goes with it: the release's own, with nothing for the emulator.
    ///
    /// # Panics
    ///
    /// When [`Image::root_hash`] is none; the build writes it.
    pub fn cmdline(&self) -> String {
        command_line(&self.root_hash.parse().expect("the build writes the root hash as 64 digits"))
    }

    /// A machine that boots it without firmware and boot loader, with a watchdog and a source of random numbers and
    /// nothing else yet.
    pub fn machine(&self) -> VmBuilder {
        self.machine_with_disk(Disk::new(&self.disk).snapshot())
    }

    /// The same, with this image in another file.
    pub fn machine_with_disk(&self, disk: Disk) -> VmBuilder {
        board().kernel(&self.kernel).initrd(&self.initrd).cmdline(self.cmdline()).disk(disk)
    }

    /// A machine as a cloud has it: UEFI starts what it finds on `disk`, which is this image in whatever form.
    pub fn cloud_machine(&self, disk: Disk) -> VmBuilder {
        board().uefi().disk(disk.boot())
    }
}

/// What every machine of this module is, whatever it boots: what an image is compared with runs on the same.
pub fn board() -> VmBuilder {
    Vm::builder().watchdog().rng().memory_mib(1024).cpus(2)
}

/// How the machine-config reaches the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// SMBIOS type 11, base64, under the credential's name.
    Smbios,
    /// QEMU's fw_cfg.
    FwCfg,
}

/// Who operates the node and what it is told.
pub struct Setup {
    /// The machine-config, as JSON.
    pub config: Value,
    /// The operator's.
    pub credentials: Credentials,
}

impl Setup {
    /// One agent named `assistant` which asks the provider at [`PROVIDER_NAME`], whose authority is trusted.
    pub fn new(provider_ca: &str, key: &str) -> Result<Self, NodeError> {
        let credentials = generate(&GenOptions { node: "node-1".to_owned() })?;
        let endpoint = format!("https://{PROVIDER_NAME}/v1");
        let mut config = json!({
            "apiVersion": "astromesh.os/v1",
            "kind": "MachineConfig",
            "node": { "id": "node-1" },
            "network": { "hosts": { PROVIDER_NAME: PROVIDER_INSIDE.ip() } },
            // Open inside the VM: the host reaches it through an explicit forward from loopback, nobody else does.
            "runtime": { "listen": format!("0.0.0.0:{API_PORT}") },
            "agents": [agent("assistant", &endpoint, "test-model")],
            "providers": [{
                "name": "main", "endpoint": endpoint, "apiKeyEnv": "PROVIDER_KEY", "apiKey": key,
            }],
            "operator": {
                "ca": credentials.ca_pem, "certificate": credentials.node_cert_pem, "key": credentials.node_key_pem,
            },
        });
        if !provider_ca.is_empty() {
            config["certificateAuthorities"] = json!([provider_ca]);
        }
        Ok(Self { config, credentials })
    }

    /// Adds the machine-config to a machine.
    pub fn deliver(&self, machine: VmBuilder, by: Delivery) -> VmBuilder {
        deliver(machine, self.config.to_string().as_bytes(), by)
    }

    /// What an operator connects with, once the machine runs.
    pub fn profile(&self, vm: &Vm) -> Result<Profile, NodeError> {
        let endpoint = vm.host_address(CONTROL_PORT)?.to_string();
        let credentials = &self.credentials;
        let identity = (credentials.client_cert_pem.as_str(), credentials.client_key_pem.as_str());
        let mut profile =
            Profile::from_pem(&credentials.node, &endpoint, &credentials.ca_pem, Some(identity))?;
        profile.timeout = Duration::from_secs(120);
        Ok(profile)
    }
}

/// Adds machine-config bytes to a machine.
pub fn deliver(machine: VmBuilder, bytes: &[u8], by: Delivery) -> VmBuilder {
    use base64::Engine as _;
    match by {
        Delivery::Smbios => {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            machine.smbios(format!("io.systemd.credential.binary:astromesh.machine_config={text}"))
        }
        Delivery::FwCfg => machine.fw_cfg("opt/astromesh.machine_config", bytes),
    }
}

/// An Agent document.
pub fn agent(name: &str, endpoint: &str, model: &str) -> Value {
    json!({
        "apiVersion": "astromesh/v1",
        "kind": "Agent",
        "metadata": { "name": name, "version": "1.0.0", "namespace": "default" },
        "spec": {
            "identity": { "display_name": name, "description": "Answers questions." },
            "model": { "primary": {
                "provider": "openai_compat", "model": model, "endpoint": endpoint, "api_key_env": "PROVIDER_KEY",
            } },
            "prompts": { "system": "You answer briefly and truthfully." },
            "orchestration": { "pattern": "react", "max_iterations": 4 },
        },
    })
}

/// The closed network of a node: both its ports forwarded from loopback, no way out yet.
pub fn network(relay: &Path) -> Nic {
    Nic::new(relay).forward(API_PORT).forward(CONTROL_PORT)
}

/// A running node and what is known of it.
pub struct Node {
    /// The machine.
    pub vm: Vm,
    /// What its operator connects with.
    pub profile: Profile,
}

impl Node {
    /// Asks the control API one thing.
    pub fn request(&self, request: &Request) -> Result<Response, NodeError> {
        Ok(Client::connect(&self.profile)?.request(request)?)
    }

    /// Who the node is and how it is.
    pub fn status(&self) -> Result<Status, NodeError> {
        match self.request(&Request::Status)? {
            Response::Status(status) => Ok(*status),
            _ => Err(NodeError::Answer),
        }
    }

    /// Every check.
    pub fn doctor(&self) -> Result<Vec<Check>, NodeError> {
        match self.request(&Request::Doctor)? {
            Response::Doctor(checks) => Ok(checks),
            _ => Err(NodeError::Answer),
        }
    }

    /// The stages of the boot.
    pub fn boot(&self) -> Result<Vec<Stage>, NodeError> {
        match self.request(&Request::Boot)? {
            Response::Boot(stages) => Ok(stages),
            _ => Err(NodeError::Answer),
        }
    }

    /// Waits until `holds` of the status.
    pub fn wait_for(
        &self,
        what: &'static str,
        limit: Duration,
        holds: impl Fn(&Status) -> bool,
    ) -> Result<Status, NodeError> {
        let deadline = Instant::now() + limit;
        loop {
            let last = match self.status() {
                Ok(status) if holds(&status) => return Ok(status),
                Ok(status) => status.reason,
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline || !self.vm.is_running() {
                return Err(NodeError::Wait { what, limit, last, console: self.vm.serial().tail() });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until the node is healthy.
    pub fn wait_healthy(&self) -> Result<Status, NodeError> {
        self.wait_for("the node did not become healthy", HEALTHY_WITHIN, |status| status.healthy)
    }

    /// Asks an agent, and returns its answer.
    pub fn ask(&self, agent: &str, question: &str) -> Result<String, NodeError> {
        ask(self.vm.host_address(API_PORT)?, agent, question)
    }
}

/// Asks an agent of the runtime at `api`, and returns its answer.
pub fn ask(api: SocketAddr, agent: &str, question: &str) -> Result<String, NodeError> {
    let body = json!({ "query": question, "session_id": "one" });
    let path = format!("/v1/agents/{agent}/run");
    let response = crate::http::post_json(api, &path, &body, Duration::from_secs(180))
        .map_err(|error| NodeError::Ask(error.to_string()))?;
    let answer: Value = response.json().map_err(|error| NodeError::Ask(error.to_string()))?;
    match answer.get("answer").and_then(Value::as_str) {
        Some(text) if response.status == 200 => Ok(text.to_owned()),
        _ => Err(NodeError::Ask(format!("status {}: {answer}", response.status))),
    }
}
