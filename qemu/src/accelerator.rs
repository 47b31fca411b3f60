//! Which engine runs the guest's instructions.
//!
//! It exists because `/dev/kvm` alone proves nothing: a host may offer a KVM that runs only its own kind of
//! guest, and a stock kernel dies in it. So KVM is used only where the vendor module is loaded and the device
//! can be opened for writing. It refuses to guess beyond that: everything else is emulation (TCG).

use std::fs::OpenOptions;
use std::path::Path;

/// The engine, with what its command line needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation by `kvm_intel` or `kvm_amd`.
    Kvm,
    /// Emulation, with one host thread for each guest CPU.
    Tcg,
    /// Emulation that counts instructions: the guest's clock advances one nanosecond for each, so that its
    /// own timestamps are instruction counts. One thread for all CPUs, and slower.
    TcgCounted,
}

impl Accelerator {
    /// KVM where it can run a stock kernel, else [`Accelerator::Tcg`].
    pub fn detect() -> Self {
        let vendor = ["/sys/module/kvm_intel", "/sys/module/kvm_amd"].iter().any(|m| Path::new(m).exists());
        if vendor && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() {
            Self::Kvm
        } else {
            Self::Tcg
        }
    }

    /// QEMU's arguments for this engine. `cpu` overrides the model.
    pub(crate) fn arguments(self, cpu: Option<&str>) -> Vec<String> {
        let (accel, default_cpu) = match self {
            Self::Kvm => ("kvm", "host"),
            Self::Tcg => ("tcg,thread=multi", "max"),
            Self::TcgCounted => ("tcg,thread=single", "max"),
        };
        let mut arguments: Vec<String> =
            ["-accel", accel, "-cpu", cpu.unwrap_or(default_cpu)].map(String::from).into();
        if self == Self::TcgCounted {
            // sleep=off: idle time is skipped, not waited for, so the count doesn't depend on the host.
            arguments.extend(["-icount", "shift=0,sleep=off"].map(String::from));
        }
        arguments
    }
}
