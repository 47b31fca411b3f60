//! The figures of both sides, and how they are written for people. Pure.

use super::build::Built;
use super::machine::{Boot, Stages};
use serde::{Deserialize, Serialize};

/// Everything that was measured, as it is kept in `bench/peer.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Comparison {
    /// What it was measured on.
    pub(super) machine: Machine,
    pub(super) ours: Side,
    pub(super) peer: Side,
    /// Ours without its root: boot loader, kernel, `init`, hash tree.
    pub(super) without_root: u64,
    /// What the peer is made of.
    pub(super) built: Built,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Machine {
    /// `tcg` or `kvm`.
    pub(super) accelerator: String,
    /// First line of QEMU's `--version`.
    pub(super) qemu: String,
    /// Processors of the host.
    pub(super) host_processors: usize,
}

/// One side. A list has a value for each boot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Side {
    /// Bytes of what is installed.
    pub(super) installed: u64,
    /// The same as one tar archive by `zstd -19`.
    pub(super) compressed: u64,
    /// Boots by UEFI, in milliseconds.
    pub(super) firmware: Vec<Stages>,
    /// Boots with kernel and initramfs put into memory by QEMU.
    pub(super) direct: Vec<Stages>,
    /// Guest instructions from kernel entry to healthy, of one boot on one processor.
    pub(super) instructions: u64,
    pub(super) processes: u64,
    /// Their names.
    pub(super) names: Vec<String>,
    /// Proportional size of every process but the agent.
    pub(super) besides_kib: Vec<u64>,
    pub(super) available_kib: Vec<u64>,
    pub(super) executables: u64,
    pub(super) setuid: u64,
    /// Protocol, address, port.
    pub(super) sockets: Vec<String>,
    /// Units of the last boot that took longest, and what the agent's waited for; ours has no units.
    pub(super) slowest: Vec<String>,
    pub(super) waited_for: Vec<String>,
    /// Checks or units that failed.
    pub(super) failed: Vec<String>,
}

impl Side {
    /// Adds what one boot told.
    pub(super) fn add(&mut self, boot: Boot, by_firmware: bool) {
        if by_firmware { &mut self.firmware } else { &mut self.direct }.push(boot.stages);
        self.besides_kib.push(boot.facts.besides_kib);
        self.available_kib.push(boot.facts.available_kib);
        self.processes = boot.facts.processes;
        self.names = boot.facts.names;
        self.slowest = boot.facts.slowest;
        self.waited_for = boot.facts.waited_for;
        self.failed = boot.facts.failed;
        if !boot.facts.sockets.is_empty() {
            self.sockets = boot.facts.sockets;
        }
    }
}

/// The boot in the middle by its time to the first 200: unlike the middles of each stage, its stages add up.
pub(super) fn middle(boots: &[Stages]) -> Stages {
    let mut sorted = boots.to_vec();
    sorted.sort_unstable_by_key(|stages| stages.to_first_200());
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::peer::tree::Weight;
    use crate::statistics::median;

    /// Figures like those of a first measurement.
    pub(in crate::bench::peer) fn example() -> Comparison {
        let stages = |firmware, kernel, initramfs, services, runtime| Stages {
            firmware,
            kernel,
            initramfs,
            services,
            runtime,
        };
        let weight = Weight { bytes: 279_000_000, files: 9000, executables: 900, setuid: 11 };
        let packages = vec![
            ("linux-image-6.12-cloud-amd64".to_owned(), "6.12.1-1".to_owned()),
            ("python3.13".to_owned(), "3.13.5-2".to_owned()),
            ("systemd".to_owned(), "257.9-1".to_owned()),
        ];
        Comparison {
            machine: Machine {
                accelerator: "tcg".into(),
                qemu: "QEMU emulator version 7.2".into(),
                host_processors: 2,
            },
            without_root: 9_500_000,
            built: Built {
                weight,
                boot_bytes: 40_000_000,
                compressed: 106_000_000,
                bytecode: 2500,
                imported: 900,
                packages,
                mmdebstrap: "mmdebstrap 1.3.5".into(),
            },
            ours: Side {
                installed: 32_000_000,
                compressed: 29_000_000,
                firmware: vec![stages(9000, 2200, 0, 400, 11_000), stages(9500, 2300, 0, 450, 12_000)],
                direct: vec![stages(1200, 2200, 0, 400, 11_000), stages(1300, 2100, 0, 420, 14_000)],
                instructions: 3_550_000_000,
                processes: 4,
                names: vec!["init".into(), "net".into(), "control".into(), "agent".into()],
                besides_kib: vec![3080, 3100],
                available_kib: vec![900_000, 901_000],
                executables: 3,
                setuid: 0,
                sockets: vec!["tcp 0.0.0.0:8000".into(), "tcp 0.0.0.0:50000".into()],
                slowest: Vec::new(),
                waited_for: Vec::new(),
                failed: Vec::new(),
            },
            peer: Side {
                installed: 279_000_000,
                compressed: 106_000_000,
                firmware: vec![
                    stages(12_000, 7000, 12_000, 17_000, 20_000),
                    stages(12_500, 7500, 12_000, 18_000, 20_500),
                ],
                direct: vec![
                    stages(1500, 7000, 12_000, 17_000, 19_500),
                    stages(1600, 6900, 12_500, 17_500, 24_500),
                ],
                instructions: 9_000_000_000,
                processes: 8,
                names: vec!["/sbin/init".into()],
                besides_kib: vec![30_000, 31_000],
                available_kib: vec![800_000, 801_000],
                executables: 900,
                setuid: 11,
                sockets: vec!["tcp 0.0.0.0:8000".into()],
                slowest: Vec::new(),
                waited_for: Vec::new(),
                failed: Vec::new(),
            },
        }
    }

    #[test]
    fn the_boot_in_the_middle_is_one_that_happened_and_takes_the_median_time() {
        let boots = [9000, 2000, 5000].map(|runtime| Stages {
            firmware: 10_000 - runtime,
            kernel: runtime,
            runtime,
            ..Stages::default()
        });
        assert_eq!(middle(&boots), boots[2]);
        assert_eq!(middle(&boots).to_first_200(), median(&boots.map(Stages::to_first_200)));
        assert_eq!(middle(&[]), Stages::default());
    }

    #[test]
    fn what_is_kept_can_be_read_again() {
        let text = serde_json::to_string(&example()).unwrap();
        let again: Comparison = serde_json::from_str(&text).unwrap();
        assert_eq!(again.ours.firmware, example().ours.firmware);
    }
}
