//! The VM harness: boots an image in QEMU and observes it from outside.
//!
//! It exists so that a gate can assert facts the guest cannot fake: why the machine stopped (QMP), what
//! crossed its network card (pcap), which sockets its QEMU holds (`/proc`), what a provider outside really
//! received. What the guest prints on its console is kept for people, and for waiting, not as evidence.
//!
//! Invariants:
//! * **The network is closed.** [`Nic`] is the only way to a network card and always says `restrict=on`; each
//!   opening is one named connection. There is no function that gives an open network, not even at run time.
//! * **Nothing outlives its owner.** Dropping a [`Vm`] kills and reaps its QEMU; its files are in a private
//!   directory that goes with it. If this process dies, the kernel kills QEMU.
//! * **Every wait has a limit**, and its error shows the end of the console.
//!
//! It refuses to: share a port, a socket or a directory between two machines; use a KVM that cannot run a
//! stock kernel; judge a run by console text.
//!
//! ```no_run
//! use astromesh_qemu::{Disk, ExitReason, Nic, Provider, Vm, relay_path};
//! use std::time::Duration;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = Provider::start("test-key", &["10.0.2.100"])?;
//! let nic = Nic::new(relay_path()?).forward(8000).reach_loopback("10.0.2.100:443".parse()?, provider.port());
//! let mut vm = Vm::builder()
//!     .kernel("out/bzImage")
//!     .initrd("out/initrd.cpio")
//!     .cmdline("console=ttyS0 panic=-1")
//!     .memory_mib(1024)
//!     .disk(Disk::new("out/disk.raw").snapshot())
//!     .smbios("astromesh.config=...")
//!     .watchdog()
//!     .nic(nic)
//!     .start()?;
//! vm.serial().expect("astromesh: healthy", Duration::from_secs(120))?;
//! let api = vm.host_address(8000)?;
//! let run = serde_json::json!({"query": "nonce:00ff", "session_id": "s"});
//! let answer = astromesh_qemu::http::post_json(api, "/v1/agents/demo/run", &run, Duration::from_secs(60))?;
//! assert!(answer.text().contains(&provider.expected_answer("00ff")));
//! assert_eq!(vm.power_off(Duration::from_secs(30))?, ExitReason::GuestShutdown);
//! # Ok(()) }
//! ```

pub mod aftermath;
pub mod artifact;
pub mod http;
pub mod node;
pub mod pcap;
pub mod provider;
pub mod release;
pub mod slots;
pub mod sockets;
pub mod tamper;
pub mod write_log;

mod accelerator;
mod builder;
mod disk;
pub mod emulator;
mod exit;
mod fat;
mod nic;
mod process;
mod qmp;
mod relay;
mod save;
mod serial;
mod snapshot;
mod tpm;
mod vm;

pub use accelerator::Accelerator;
pub use builder::{BuildError, SmbiosEntryPoint, VmBuilder, WatchdogModel};
pub use disk::{Disk, DiskFormat, DiskInterface};
pub use emulator::Emulator;
pub use exit::ExitReason;
pub use nic::{Nic, NicModel, Subnet};
pub use process::{Plug, ProcessError};
pub use provider::Provider;
pub use qmp::{QmpError, QmpEvent};
pub use relay::{RelayError, relay, relay_path};
pub use serial::{Serial, SerialError};
pub use snapshot::Snapshot;
pub use sockets::{QemuSockets, SocketSampler};
pub use tpm::{Tpm, TpmError};
pub use vm::{Vm, VmError};
