//! Gate of phase 3, trust: what a boot measures is what the build predicts, and what the log says is what the TPM holds.

mod measured;

use astromesh_measure::event_log::EventLog;
use astromesh_measure::replay::Registers;
use astromesh_measure::{Digest, Register, chain, stub};
use astromesh_qemu::node::{GateImages, Image};
use astromesh_qemu::slots::Slots;
use astromesh_qemu::{Disk, ExitReason, Tpm, tamper};
use measured::Measured;
use std::fs;
use std::path::Path;
use std::time::Duration;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A boot with firmware, emulated on a busy machine, and the observer's first round.
const SOON: Duration = Duration::from_mins(5);

fn observed_image() -> Image {
    let path = std::env::var("ASTROMESH_GATE").expect("gates are run by `cargo xtask gate phase3`");
    let images: GateImages =
        serde_json::from_slice(&fs::read(path).expect("the gate's images")).expect("JSON");
    images.observed.expect("`cargo xtask gate phase3` builds it")
}

/// Boots a disk by firmware on a machine with a TPM, and gives what that then held.
fn measured_boot(image: &Image, disk: &Path) -> Result<Measured> {
    let memory = tempfile::tempdir()?;
    let machine = image.cloud_machine(Disk::new(disk)).tpm(&Tpm::in_folder(memory.path()));
    let mut vm = machine.start()?;
    vm.serial().expect(measured::END, SOON)?;
    let seen = Measured::read(&vm.serial().log())?;
    assert_eq!(vm.power_off(SOON)?, ExitReason::GuestShutdown);
    Ok(seen)
}

/// What firmware starts from a disk without Secure Boot, as it lies there: each program's hash.
fn programs(image: &Image, uki: &[u8]) -> Result<Vec<Digest>> {
    let hash = |path: &Path| -> Result<Digest> {
        Ok(chain::authenticode(&path.display().to_string(), &fs::read(path)?)?)
    };
    Ok(vec![
        hash(&image.preboot)?,
        hash(&image.loader)?,
        chain::authenticode("the kernel image", uki)?,
        hash(&image.kernel)?,
    ])
}

#[test]
fn what_a_boot_measures_is_what_the_build_predicts_and_what_the_log_says() -> Result {
    let image = observed_image();
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    tamper::copy_image(&image.disk, &disk)?;
    let uki = fs::read(&image.uki)?;
    let seen = measured_boot(&image, &disk)?;

    // Predicted from the release's files alone.
    assert_eq!(seen.register(4), chain::register_4(&programs(&image, &uki)?).value().to_string());
    assert_eq!(seen.register(11), stub::register_11(&uki)?.value().to_string());
    // The log explains every register that a boot extends; the rest of them were never touched.
    let replayed = Registers::replay(&seen.log)?;
    for register in 0..16 {
        let claimed = replayed.value(register).ok_or("no such register")?;
        assert_eq!(seen.register(register), claimed.to_string(), "register {register}");
    }
    assert_ne!(
        seen.register(7),
        Register::RESET.value().to_string(),
        "firmware measures whether it checks signatures"
    );
    // Twin: a log with one digest's bit changed explains another value.
    let mut other = seen.log.clone();
    let kernel =
        EventLog::open(&seen.log)?.filter_map(std::result::Result::ok).find(|event| event.register == 4);
    let digest = kernel.ok_or("nothing in register 4")?.digest;
    let at = seen.log.windows(Digest::LEN).position(|bytes| bytes == digest.as_bytes()).ok_or("no digest")?;
    other[at] ^= 1;
    assert_ne!(Registers::replay(&other)?.value(4), replayed.value(4));
    Ok(())
}

#[test]
fn twin_another_command_line_in_the_image_is_another_value_in_both_registers() -> Result {
    let image = observed_image();
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    tamper::copy_image(&image.disk, &disk)?;
    // One digit of the command line; any number below zero says the same there.
    let mut uki = fs::read(&image.uki)?;
    let word = b"panic=-1";
    let at = uki.windows(word.len()).position(|bytes| bytes == word).ok_or("no such word")?;
    uki[at + word.len() - 1] = b'2';
    let slots = Slots::of(&disk);
    let name = slots.uki_names()?.first().cloned().ok_or("no image on the disk")?;
    slots.write_file(&format!("EFI/Linux/{name}"), &uki)?;

    let seen = measured_boot(&image, &disk)?;
    let genuine = fs::read(&image.uki)?;
    assert_ne!(seen.register(4), chain::register_4(&programs(&image, &genuine)?).value().to_string());
    assert_ne!(seen.register(11), stub::register_11(&genuine)?.value().to_string());
    // And these are the edited image's.
    assert_eq!(seen.register(4), chain::register_4(&programs(&image, &uki)?).value().to_string());
    assert_eq!(seen.register(11), stub::register_11(&uki)?.value().to_string());
    Ok(())
}
