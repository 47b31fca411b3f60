//! A disk image as the guest sees it.
//!
//! It exists so that a test says what it means (read-only, thrown away, on NVMe) and never writes `-drive`
//! syntax, in which a comma in a path changes the meaning. The format is always named: an image that names its own
//! backing file must not be probed.

use std::path::PathBuf;

/// The bus a disk sits on: what the guest's kernel needs a driver for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskInterface {
    /// `/dev/vdX`, as on most clouds.
    #[default]
    VirtioBlk,
    /// `/dev/sdX` behind virtio-scsi.
    VirtioScsi,
    /// `/dev/nvmeXn1`.
    Nvme,
}

/// How an image's file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskFormat {
    /// Byte for byte the disk.
    #[default]
    Raw,
    /// QEMU's own.
    Qcow2,
    /// Virtual Hard Disk, as Azure takes it.
    Vhd,
    /// VMware's.
    Vmdk,
}

/// One disk.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own, as QEMU has them")]
pub struct Disk {
    path: PathBuf,
    format: DiskFormat,
    interface: DiskInterface,
    read_only: bool,
    snapshot: bool,
    sparse: bool,
    serial: Option<String>,
    boot: bool,
}

impl Disk {
    /// A writable virtio-blk disk on the raw image at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (interface, format) = (DiskInterface::default(), DiskFormat::default());
        Self {
            path: path.into(),
            format,
            interface,
            read_only: false,
            snapshot: false,
            sparse: false,
            serial: None,
            boot: false,
        }
    }

    /// The image has another layout than raw.
    #[must_use]
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = format;
        self
    }

    /// Sits on another bus.
    #[must_use]
    pub fn interface(mut self, interface: DiskInterface) -> Self {
        self.interface = interface;
        self
    }

    /// The guest is refused every write.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The guest may write, the image never changes: the writes go with the machine.
    #[must_use]
    pub fn snapshot(mut self) -> Self {
        self.snapshot = true;
        self
    }

    /// What the guest zeroes or gives back becomes a hole of the image, as in a cloud's thin volume.
    #[must_use]
    pub fn sparse(mut self) -> Self {
        self.sparse = true;
        self
    }

    /// The serial number that the guest reads. At most 20 bytes arrive (virtio-blk's and NVMe's limit).
    #[must_use]
    pub fn serial(mut self, serial: impl Into<String>) -> Self {
        self.serial = Some(serial.into());
        self
    }

    /// The firmware boots from it.
    #[must_use]
    pub fn boot(mut self) -> Self {
        self.boot = true;
        self
    }

    /// Where the image is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub(crate) fn arguments(&self, index: usize) -> Vec<String> {
        // Absolute, because QEMU takes what precedes a colon in a bare name for a protocol (nbd:, http:).
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let path = escape_commas(&path.to_string_lossy());
        let format = match self.format {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Vhd => "vpc",
            DiskFormat::Vmdk => "vmdk",
        };
        let mut drive = format!("if=none,id=disk{index},format={format},file={path}");
        if self.read_only {
            drive += ",readonly=on";
        }
        if self.snapshot {
            drive += ",snapshot=on";
        }
        if self.sparse {
            drive += ",discard=unmap,detect-zeroes=unmap";
        }
        let mut arguments = vec!["-drive".into(), drive];
        let device = match self.interface {
            DiskInterface::VirtioBlk => format!("virtio-blk-pci,drive=disk{index}"),
            DiskInterface::VirtioScsi => {
                arguments.extend(["-device".into(), format!("virtio-scsi-pci,id=scsi{index}")]);
                format!("scsi-hd,drive=disk{index},bus=scsi{index}.0")
            }
            DiskInterface::Nvme => format!("nvme,drive=disk{index}"),
        };
        let mut device = vec![device];
        match (&self.serial, self.interface) {
            (Some(serial), _) => device.push(format!("serial={}", escape_commas(serial))),
            // QEMU's NVMe controller doesn't start without a serial number.
            (None, DiskInterface::Nvme) => device.push(format!("serial=disk{index}")),
            (None, _) => {}
        }
        if self.boot {
            device.push("bootindex=1".into());
        }
        arguments.extend(["-device".into(), device.join(",")]);
        arguments
    }
}

/// In QEMU's option syntax a literal comma is written twice.
pub(crate) fn escape_commas(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_become_an_option() {
        let arguments = Disk::new("/a,readonly=on").arguments(0);
        assert_eq!(arguments[1], "if=none,id=disk0,format=raw,file=/a,,readonly=on");
    }

    #[test]
    fn a_colon_in_a_name_does_not_become_a_protocol() {
        let arguments = Disk::new("nbd:198.51.100.1:10809").arguments(0);
        assert!(arguments[1].contains("file=/") && arguments[1].ends_with("/nbd:198.51.100.1:10809"));
    }

    #[test]
    fn each_bus_is_its_own_device() {
        let device = |i| Disk::new("d").interface(i).boot().arguments(3).pop().unwrap();
        assert_eq!(device(DiskInterface::VirtioBlk), "virtio-blk-pci,drive=disk3,bootindex=1");
        assert_eq!(device(DiskInterface::VirtioScsi), "scsi-hd,drive=disk3,bus=scsi3.0,bootindex=1");
        assert_eq!(device(DiskInterface::Nvme), "nvme,drive=disk3,serial=disk3,bootindex=1");
    }
}
