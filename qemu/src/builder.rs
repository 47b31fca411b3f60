//! What a machine is made of, and the command line that says so.
//!
//! It exists so that a reader of a test sees hardware, not QEMU syntax. Everything not asked for is absent:
//! `-nodefaults -no-user-config`, no display, no network card. Building the command line has no side effect;
//! [`VmBuilder::start`] is in `vm.rs`.
//!
//! It refuses extra arguments that could open a network or a second way into QEMU, and OEM strings that the
//! firmware's tables can't hold.

use crate::accelerator::Accelerator;
use crate::disk::{Disk, escape_commas};
use crate::nic::Nic;
use crate::serial::Tee;
use crate::snapshot::{FIRMWARE_VARIABLES, Snapshot};
use crate::tpm::{self, Tpm};
use std::path::{Path, PathBuf};

/// The firmware's code: a link in the machine's private directory, where its variables are too.
pub(crate) const FIRMWARE_CODE: &str = "firmware.fd";

/// Why a machine can't be built as asked.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The table has 65535 bytes for everything.
    #[error(
        "the SMBIOS strings have {size} bytes, the firmware's tables hold {SMBIOS_LIMIT}. Use fw_cfg or a disk"
    )]
    SmbiosSize {
        /// All strings together.
        size: usize,
    },
    /// A NUL ends an SMBIOS string.
    #[error("an SMBIOS string holds a NUL byte, which would end it there. Encode it, for instance in base64")]
    SmbiosNul,
    /// An argument outside the list.
    #[error(
        "the QEMU option {option:?} is not allowed as an extra argument ({ALLOWED_EXTRA:?} are): it could open \
             the network. Add a method to the builder that says what it is for"
    )]
    ExtraOption {
        /// The option.
        option: String,
    },
    /// QEMU keeps the rest of the name space for itself.
    #[error("fw_cfg names must begin with \"opt/\" and have at most 55 bytes, {name:?} doesn't. Rename it")]
    FwCfgName {
        /// The name.
        name: String,
    },
}

/// SMBIOS 2.1 tables have a 16-bit length; the other tables of q35 take about 1 KiB for each 4 CPUs.
const SMBIOS_LIMIT: usize = 60_000;

/// Options that add a device or a diagnosis and can't by themselves open a socket.
const ALLOWED_EXTRA: [&str; 6] = ["-device", "-global", "-d", "-D", "-rtc", "-uuid"];

/// How the guest finds the SMBIOS tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmbiosEntryPoint {
    /// `_SM_`, version 2.1: what every firmware and guest understands.
    #[default]
    V21,
    /// `_SM3_`, version 3.0, as on new machines (seen through SeaBIOS 1.16.2 by Linux 6.12).
    V30,
}

/// The watchdog device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogModel {
    /// Intel 6300ESB, on PCI: Linux's `i6300esb`.
    I6300esb,
    /// iBASE 700, on ISA: one port write arms it.
    Ib700,
}

/// A machine to be. Made by [`crate::Vm::builder`].
#[must_use]
pub struct VmBuilder {
    pub(crate) name: Option<String>,
    pub(crate) accelerator: Accelerator,
    pub(crate) nics: Vec<Nic>,
    pub(crate) tee: Option<Tee>,
    pub(crate) serial_log: Option<PathBuf>,
    pub(crate) smbios: Vec<String>,
    pub(crate) fw_cfg: Vec<(String, Vec<u8>)>,
    pub(crate) uefi: bool,
    pub(crate) tpm: Option<Tpm>,
    pub(crate) snapshot: Option<Snapshot>,
    dmi: Vec<String>,
    machine: String,
    cpu: Option<String>,
    cpus: u32,
    memory_mib: u32,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    cmdline: Option<String>,
    disks: Vec<Disk>,
    entry_point: SmbiosEntryPoint,
    watchdog: Option<WatchdogModel>,
    rng: bool,
    reboot: bool,
    extra: Vec<String>,
}

impl VmBuilder {
    pub(crate) fn new() -> Self {
        Self {
            name: None,
            accelerator: Accelerator::detect(),
            nics: Vec::new(),
            tee: None,
            serial_log: None,
            smbios: Vec::new(),
            fw_cfg: Vec::new(),
            uefi: false,
            tpm: None,
            snapshot: None,
            dmi: Vec::new(),
            machine: "q35".into(),
            cpu: None,
            cpus: 1,
            memory_mib: 512,
            kernel: None,
            initrd: None,
            cmdline: None,
            disks: Vec::new(),
            entry_point: SmbiosEntryPoint::default(),
            watchdog: None,
            rng: false,
            reboot: false,
            extra: Vec::new(),
        }
    }

    /// Names the console's file. Without it the test's own name is used.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Boots this kernel (bzImage, or vmlinux with PVH) without a boot loader.
    pub fn kernel(mut self, path: impl Into<PathBuf>) -> Self {
        self.kernel = Some(path.into());
        self
    }

    /// Starts with UEFI firmware (OVMF), with variables of its own that go with the machine.
    pub fn uefi(mut self) -> Self {
        self.uefi = true;
        self
    }

    /// The kernel's initrd.
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.initrd = Some(path.into());
        self
    }

    /// The kernel's command line.
    pub fn cmdline(mut self, cmdline: impl Into<String>) -> Self {
        self.cmdline = Some(cmdline.into());
        self
    }

    /// Adds a disk; the first is the guest's first.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Adds a network card. There is none otherwise.
    pub fn nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// Memory in MiB; 512 unless said.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Number of CPUs; one unless said.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Another machine type than q35, for instance `microvm,acpi=off`.
    pub fn machine(mut self, machine: impl Into<String>) -> Self {
        self.machine = machine.into();
        self
    }

    /// Another CPU model than the accelerator's best.
    pub fn cpu(mut self, model: impl Into<String>) -> Self {
        self.cpu = Some(model.into());
        self
    }

    /// Another engine than [`Accelerator::detect`] gives.
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = accelerator;
        self
    }

    /// Adds an OEM string (SMBIOS type 11), which Linux shows in `/sys/firmware/dmi/entries/11-*/raw`.
    pub fn smbios(mut self, string: impl Into<String>) -> Self {
        self.smbios.push(string.into());
        self
    }

    /// Who made the machine and what it is, as the firmware says (SMBIOS type 1): by this a guest tells its cloud.
    pub fn dmi_system(mut self, manufacturer: &str, product: &str) -> Self {
        let (manufacturer, product) = (escape_commas(manufacturer), escape_commas(product));
        self.dmi.push(format!("type=1,manufacturer={manufacturer},product={product}"));
        self
    }

    /// The asset tag of its chassis, as the firmware says (SMBIOS type 3).
    pub fn dmi_chassis_asset(mut self, tag: &str) -> Self {
        self.dmi.push(format!("type=3,asset={}", escape_commas(tag)));
        self
    }

    /// How the guest finds the SMBIOS tables.
    pub fn smbios_entry_point(mut self, entry_point: SmbiosEntryPoint) -> Self {
        self.entry_point = entry_point;
        self
    }

    /// Adds a file to the firmware configuration device; `name` begins with `opt/`.
    pub fn fw_cfg(mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.fw_cfg.push((name.into(), content.into()));
        self
    }

    /// An i6300esb watchdog that resets the machine when nobody pets it.
    pub fn watchdog(self) -> Self {
        self.watchdog_model(WatchdogModel::I6300esb)
    }

    /// None, whatever was said before.
    pub fn no_watchdog(mut self) -> Self {
        self.watchdog = None;
        self
    }

    /// A watchdog of this model.
    pub fn watchdog_model(mut self, model: WatchdogModel) -> Self {
        self.watchdog = Some(model);
        self
    }

    /// A virtio-rng device, fed by the host's random numbers.
    pub fn rng(mut self) -> Self {
        self.rng = true;
        self
    }

    /// A TPM 2.0, by the interface that firmware and kernel call CRB.
    pub fn tpm(mut self, tpm: &Tpm) -> Self {
        self.tpm = Some(tpm.clone());
        self
    }

    /// A reset boots again. Without this a reset ends the machine and is its exit reason.
    pub fn allow_reboot(mut self) -> Self {
        self.reboot = true;
        self
    }

    /// Where the console's copy goes, instead of `target/vm-logs/`.
    pub fn serial_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.serial_log = Some(path.into());
        self
    }

    /// Called with each piece of console output as it arrives.
    pub fn serial_tee(mut self, tee: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.tee = Some(Box::new(tee));
        self
    }

    /// Goes on from a snapshot of a machine that was described like this one, instead of booting.
    pub fn resume(mut self, snapshot: &Snapshot) -> Self {
        self.snapshot = Some(snapshot.clone());
        self
    }

    /// One more QEMU option with its value, from a short list that can't open the network.
    pub fn extra(mut self, option: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.extend([option.into(), value.into()]);
        self
    }

    /// Checks what QEMU itself would take silently or refuse obscurely.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let size = self.smbios.iter().map(|s| s.len() + 1).sum();
        if size > SMBIOS_LIMIT {
            return Err(BuildError::SmbiosSize { size });
        }
        if self.smbios.iter().any(|s| s.contains('\0')) {
            return Err(BuildError::SmbiosNul);
        }
        if let Some((name, _)) = self.fw_cfg.iter().find(|(n, _)| !n.starts_with("opt/") || n.len() > 55) {
            return Err(BuildError::FwCfgName { name: name.clone() });
        }
        match self.extra.iter().step_by(2).find(|option| !ALLOWED_EXTRA.contains(&option.as_str())) {
            Some(option) => Err(BuildError::ExtraOption { option: option.clone() }),
            None => Ok(()),
        }
    }

    /// The whole command line. `dir` has the sockets `qmp` and `serial` and the files that `vm.rs` writes.
    pub(crate) fn arguments(&self, dir: &Path) -> Vec<String> {
        let inside = |name: &str| escape_commas(&dir.join(name).to_string_lossy());
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(ToString::to_string));
        // -S: stopped until QMP is negotiated, so that no event is missed.
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
        let machine = match self.entry_point {
            SmbiosEntryPoint::V21 => self.machine.clone(),
            SmbiosEntryPoint::V30 => format!("{},smbios-entry-point-type=64", self.machine),
        };
        add(&["-machine", &machine, "-m", &format!("{}M", self.memory_mib), "-smp", &self.cpus.to_string()]);
        add(&[
            "-chardev",
            &format!("socket,id=qmp,path={}", inside("qmp")),
            "-mon",
            "chardev=qmp,mode=control",
        ]);
        add(&[
            "-chardev",
            &format!("socket,id=serial,path={}", inside("serial")),
            "-serial",
            "chardev:serial",
        ]);
        if !self.reboot {
            add(&["-no-reboot"]);
        }
        if self.uefi {
            // Two flash chips: the code, and the variables that it keeps.
            let code = inside(FIRMWARE_CODE);
            add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")]);
            let variables = inside(FIRMWARE_VARIABLES);
            add(&["-drive", &format!("if=pflash,unit=1,format=raw,file={variables}")]);
        }
        for (option, path) in [("-kernel", &self.kernel), ("-initrd", &self.initrd)] {
            if let Some(path) = path {
                add(&[option, &path.to_string_lossy()]);
            }
        }
        if let Some(snapshot) = &self.snapshot {
            add(&["-incoming", &format!("file:{}", snapshot.memory().display())]);
        }
        if let Some(cmdline) = &self.cmdline {
            add(&["-append", cmdline]);
        }
        for index in 0..self.smbios.len() {
            add(&["-smbios", &format!("type=11,path={}", inside(&format!("smbios{index}")))]);
        }
        for facts in &self.dmi {
            add(&["-smbios", facts]);
        }
        for (index, (name, _)) in self.fw_cfg.iter().enumerate() {
            let (name, file) = (escape_commas(name), inside(&format!("fw_cfg{index}")));
            add(&["-fw_cfg", &format!("name={name},file={file}")]);
        }
        match self.watchdog {
            Some(WatchdogModel::I6300esb) => add(&["-device", "i6300esb", "-action", "watchdog=reset"]),
            Some(WatchdogModel::Ib700) => add(&["-device", "ib700", "-action", "watchdog=reset"]),
            None => {}
        }
        if self.tpm.is_some() {
            let socket = inside(tpm::SOCKET);
            add(&["-chardev", &format!("socket,id=tpm,path={socket}")]);
            add(&["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]);
        }
        if self.rng {
            add(&["-object", "rng-builtin,id=rng0", "-device", "virtio-rng-pci,rng=rng0"]);
        }
        arguments.extend(self.accelerator.arguments(self.cpu.as_deref()));
        arguments.extend(self.disks.iter().enumerate().flat_map(|(index, disk)| disk.arguments(index)));
        arguments.extend(self.nics.iter().enumerate().flat_map(|(index, nic)| nic.arguments(index)));
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_no_network_unless_it_is_given_a_card() {
        let arguments = VmBuilder::new().kernel("k").arguments(Path::new("/d"));
        assert!(arguments.iter().all(|a| !a.contains("net")), "{arguments:?}");
        assert!(arguments.contains(&"-nodefaults".into()) && arguments.contains(&"-no-reboot".into()));
    }

    #[test]
    fn an_extra_option_that_could_open_the_network_is_refused() {
        for option in
            ["-netdev", "-nic", "-net", "--netdev", "-readconfig", "-monitor", "-gdb", "-chardev", "-drive"]
        {
            let refused = VmBuilder::new().extra(option, "user").check();
            assert!(matches!(refused, Err(BuildError::ExtraOption { .. })), "{option}");
        }
        VmBuilder::new().extra("-device", "pvpanic").check().unwrap();
    }

    #[test]
    fn strings_that_the_firmware_cannot_hold_are_refused() {
        let refused = VmBuilder::new().smbios("x".repeat(60_000)).check();
        assert!(matches!(refused, Err(BuildError::SmbiosSize { size: 60_001 })));
        assert!(matches!(VmBuilder::new().smbios("a\0b").check(), Err(BuildError::SmbiosNul)));
        assert!(matches!(VmBuilder::new().fw_cfg("x", *b"y").check(), Err(BuildError::FwCfgName { .. })));
    }
}
