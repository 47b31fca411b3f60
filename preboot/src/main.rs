//! `\EFI\BOOT\BOOTX64.EFI`: what firmware starts first. It starts systemd-boot, and nothing that goes wrong behind it
//! keeps the machine.
//!
//! systemd-boot has counted a try before it starts a kernel, so whatever *restarts* the machine brings the next try, and
//! at last the release before. Two things go wrong without a reboot: firmware refuses the kernel image, and systemd-boot
//! gives the error back to the firmware, which then waits for somebody; or something stands still before PID 1 has armed
//! the watchdog. For the first, this program restarts whatever comes back to it. For the second, it arms the watchdog
//! before it goes on. (docs/decisions/020-boot-counting-and-its-limit.md)
//!
//! It reads no file but the boot loader, and no variable; it can't be asked anything.
#![no_main]
#![no_std]

mod protocol;

use astromesh_preboot::{Function, Machine, SECONDS, i6300esb};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::time::Duration;
use protocol::get;
use uefi::boot::{self, LoadImageSource, SearchType};
use uefi::prelude::*;
use uefi::proto::BootPolicy;
use uefi::proto::device_path::DevicePath;
use uefi::proto::device_path::build::{DevicePathBuilder, media::FilePath};
use uefi::proto::loaded_image::LoadedImage;
use uefi::proto::pci::PciIoAddress;
use uefi::proto::pci::root_bridge::PciRootBridgeIo;
use uefi::runtime::{self, ResetType};
use uefi::{CStr16, cstr16, println};

/// Where systemd-boot is, by its own convention.
const LOADER: &CStr16 = cstr16!("\\EFI\\systemd\\systemd-bootx64.efi");

/// Bytes of a device path: a disk behind some bridges takes a tenth of it.
const PATH_BYTES: usize = 4096;

/// Between the words on the console and the reboot: time to read them, and no loop that spins.
const READABLE: Duration = Duration::from_secs(3);

#[entry]
fn main() -> Status {
    match arm() {
        Ok(true) => {}
        Ok(false) => println!(
            "astromesh: no watchdog is armed before the kernel: the machine has none of a known kind"
        ),
        Err(error) => println!("astromesh: the watchdog can't be armed before the kernel: {error}"),
    }
    match start_loader() {
        Ok(()) => println!("astromesh: the boot loader came back; rebooting"),
        Err(error) => println!("astromesh: the boot loader, or what it started, failed: {error}; rebooting"),
    }
    boot::stall(READABLE);
    runtime::reset(ResetType::COLD, Status::LOAD_ERROR, None)
}

/// Starts systemd-boot from the partition that this program was started from. Returns only when that does.
fn start_loader() -> uefi::Result {
    let this = boot::image_handle();
    let device = get::<LoadedImage>(this)?.device().ok_or(Status::NOT_FOUND)?;
    let mut storage = [MaybeUninit::uninit(); PATH_BYTES];
    let loader = {
        let device = get::<DevicePath>(device)?;
        let too_long = |_| uefi::Error::from(Status::BUFFER_TOO_SMALL);
        let mut path = DevicePathBuilder::with_buf(&mut storage);
        for node in device.node_iter() {
            path = path.push(&node).map_err(too_long)?;
        }
        let path = path.push(&FilePath { path_name: LOADER }).map_err(too_long)?;
        path.finalize().map_err(too_long)?
    };
    let source = LoadImageSource::FromDevicePath { device_path: loader, boot_policy: BootPolicy::ExactMatch };
    boot::start_image(boot::load_image(this, source)?)
}

/// Arms the machine's watchdog, if it has one that is known. Returns whether it runs.
fn arm() -> uefi::Result<bool> {
    for bridge in boot::locate_handle_buffer(SearchType::from_proto::<PciRootBridgeIo>())?.iter() {
        let mut bridge = get::<PciRootBridgeIo>(*bridge)?;
        if i6300esb::arm(&mut Bridge(&mut bridge), SECONDS)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The registers behind a PCI root bridge.
struct Bridge<'a>(&'a mut PciRootBridgeIo);

fn address(function: Function, register: u8) -> PciIoAddress {
    PciIoAddress::new(function.bus, function.device, 0).with_register(register)
}

impl Machine for Bridge<'_> {
    type Error = uefi::Error;

    fn read_config(&mut self, function: Function, register: u8) -> uefi::Result<u32> {
        self.0.pci().read_one(address(function, register))
    }

    fn read_config_8(&mut self, function: Function, register: u8) -> uefi::Result<u8> {
        self.0.pci().read_one(address(function, register))
    }

    fn write_config_16(&mut self, function: Function, register: u8, value: u16) -> uefi::Result {
        self.0.pci().write_one(address(function, register), value)
    }

    fn write_config_8(&mut self, function: Function, register: u8, value: u8) -> uefi::Result {
        self.0.pci().write_one(address(function, register), value)
    }

    fn write_memory_32(&mut self, address: u64, value: u32) -> uefi::Result {
        self.0.memory().write_one(address, value)
    }

    fn write_memory_16(&mut self, address: u64, value: u16) -> uefi::Result {
        self.0.memory().write_one(address, value)
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    println!("astromesh: {info}; rebooting");
    runtime::reset(ResetType::COLD, Status::ABORTED, None)
}
