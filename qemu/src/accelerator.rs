//! Which engine runs the guest's instructions.
//!
//! It exists because `/dev/kvm` alone proves nothing: a host may offer a KVM that runs only its own kind of
//! guest, and a stock kernel dies in it. So KVM is used only where the vendor module is loaded and the device
//! can be opened for writing. It refuses to guess beyond that: everything else is emulation (TCG).

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The program, found by PATH.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// The engine, with what its command line needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation by `kvm_intel` or `kvm_amd`.
    Kvm,
    /// Emulation; one host thread for each guest CPU where this QEMU does that rightly, else one for all of them.
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
            Self::Tcg if threads_are_sound() => ("tcg,thread=multi", "max"),
            Self::Tcg | Self::TcgCounted => ("tcg,thread=single", "max"),
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

/// The first QEMU that keeps other CPUs from writing to code while it translates it (commit deba78709ae8, "accel/tcg:
/// Always lock pages before translation"). Before it, a translation of the `int3` that Linux patches in for a moment
/// can stay, and the guest dies of it much later: in 1 of 75 boots of a two-CPU guest on a busy host.
const SOUND_THREADS_SINCE: (u32, u32) = (8, 1);

/// Whether the installed QEMU can emulate CPUs in threads of their own. Asked once; an unknown version can't.
fn threads_are_sound() -> bool {
    static SOUND: OnceLock<bool> = OnceLock::new();
    *SOUND.get_or_init(|| {
        let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output();
        output.is_ok_and(|output| {
            version(&String::from_utf8_lossy(&output.stdout))
                .is_some_and(|found| found >= SOUND_THREADS_SINCE)
        })
    })
}

/// Major and minor version from the first line of `qemu-system-x86_64 --version`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("version ")?.1.split(|end: char| !end.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulated_cpus_get_threads_of_their_own_only_from_the_version_that_translates_safely() {
        let version = |text| version(text).unwrap();
        assert!(
            version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n") < SOUND_THREADS_SINCE
        );
        assert!(version("QEMU emulator version 8.0.5") < SOUND_THREADS_SINCE);
        assert!(version("QEMU emulator version 8.1.0") >= SOUND_THREADS_SINCE);
        assert!(
            version("QEMU emulator version 10.0.8 (Debian 1:10.0.8+ds-0+deb13u1)") >= SOUND_THREADS_SINCE
        );
        assert_eq!(super::version("something else"), None);
    }
}
