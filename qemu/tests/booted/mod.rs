//! What tests of the image share that start a node and look at it from outside.

#![allow(dead_code, reason = "several test programs share it, and each uses a part")]

use astromesh_proto::control::{Mode, Stage, StageOutcome};
use astromesh_qemu::node::{
    API_PORT, Delivery, GateImages, Image, Node, PROVIDER_INSIDE, PROVIDER_NAME, Setup, network,
};
use astromesh_qemu::{ExitReason, Nic, Provider, VmBuilder, http, relay_path};
use serde_json::Value;
use std::error::Error;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

pub const SOON: Duration = Duration::from_secs(120);
pub const GIB: u64 = 1 << 30;

/// How long `/var` may take to grow: 64 TiB take minutes, emulated.
const GROWS_WITHIN: Duration = Duration::from_secs(1200);

pub fn images() -> &'static GateImages {
    static IMAGES: OnceLock<GateImages> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let path = std::env::var("ASTROMESH_GATE").expect("gates are run by `cargo xtask gate phase1`");
        let bytes = std::fs::read(&path).expect("the gate's images are described where the command put it");
        serde_json::from_slice(&bytes).expect("the description is what this version of the command writes")
    })
}

/// A node on a machine that firmware starts, with a provider that it can reach.
pub struct Cloud {
    pub node: Node,
    pub provider: Provider,
}

/// Starts it, and waits until it is healthy.
pub fn start(machine: VmBuilder, card: impl FnOnce(Nic) -> Nic) -> Result<Cloud> {
    let provider = Provider::start("throw-away-key", &[PROVIDER_NAME])?;
    let setup = Setup::new(provider.ca_pem(), "throw-away-key")?;
    let nic = card(network(&relay_path()?).reach_loopback(PROVIDER_INSIDE, provider.port()));
    let vm = setup.deliver(machine.nic(nic), Delivery::Smbios).start()?;
    let node = Node { profile: setup.profile(&vm)?, vm };
    let status = node.wait_healthy()?;
    assert_eq!(status.mode, Mode::Running);
    Ok(Cloud { node, provider })
}

impl Cloud {
    /// The root that is mounted is this image's, by the device-mapper's table, and every stage of the boot is done, the
    /// growth of `/var` too, which goes on after the boot.
    pub fn is(&self, image: &Image) -> Result {
        assert_eq!(self.node.status()?.root_hash, image.root_hash);
        let stages = self.grown()?;
        assert!(stages.iter().all(|stage| stage.outcome == StageOutcome::Done), "{stages:?}");
        Ok(())
    }

    /// The stages of the boot, once `/var` has grown.
    pub fn grown(&self) -> Result<Vec<Stage>> {
        let deadline = Instant::now() + GROWS_WITHIN;
        loop {
            let stages = self.node.boot()?;
            if !stages.iter().any(|stage| stage.name == "grow" && stage.outcome == StageOutcome::Running) {
                return Ok(stages);
            }
            assert!(Instant::now() < deadline, "{stages:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn answers(&self) -> Result {
        let nonce = "5eed0123456789ab";
        let answer = self.node.ask("assistant", &format!("Please transform nonce:{nonce}"))?;
        assert!(answer.contains(&self.provider.expected_answer(nonce)), "{answer}");
        Ok(())
    }

    pub fn probe(&self, name: &str) -> Result<Value> {
        let path = format!("/probe/{name}");
        Ok(http::get(self.node.vm.host_address(API_PORT)?, &path, SOON)?.json()?)
    }

    pub fn off(mut self) -> Result {
        assert_eq!(self.node.vm.power_off(SOON)?, ExitReason::GuestShutdown);
        Ok(())
    }
}
