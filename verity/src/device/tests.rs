//! Opening, step by step, against a table of answers in place of the kernel.

use std::cell::RefCell;

use super::*;
use crate::{Salt, Superblock, table::TableError};
use rustix::io::Errno;

/// Records the commands, fails the one it is told to, and answers the others like a kernel that agrees.
struct Scripted {
    fails: Option<Command>,
    flags: u32,
    answers: [&'static str; 2],
    calls: RefCell<Vec<Command>>,
}

impl Scripted {
    fn new(fails: Option<Command>) -> Self {
        Self { fails, flags: READ_ONLY | ACTIVE_PRESENT, answers: ["", ""], calls: RefCell::default() }
    }
}

impl Control for Scripted {
    fn call(&self, command: Command, message: &mut Message) -> Result<(), Errno> {
        self.calls.borrow_mut().push(command);
        if self.fails == Some(command) {
            return Err(Errno::INVAL);
        }
        let table_wanted = message.flags() & STATUS_TABLE != 0;
        let bytes = message.as_mut_bytes();
        bytes[28..32].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[40..48].copy_from_slice(&(254u64 << 8 | 7).to_ne_bytes());
        if command == Command::TableStatus {
            let line = self.answers[usize::from(!table_wanted)].try_into().unwrap();
            message.set_target(TARGET, 8, &line);
        }
        Ok(())
    }
}

fn name() -> DeviceName {
    "root".parse().unwrap()
}

fn open(control: &Scripted) -> Result<Device, DeviceError> {
    let superblock = Superblock::new(Uuid::nil(), 129, Salt::default()).unwrap();
    let number = |minor| DeviceNumber { major: 253, minor };
    let table = VerityTable::new(number(2), number(3), &superblock, crate::RootHash::new([7; 32]));
    open_verity(control, &name(), superblock.uuid(), &table)
}

#[test]
fn a_device_is_created_then_loaded_then_resumed() {
    let control = Scripted::new(None);
    let device = open(&control).unwrap();
    assert_eq!(device.number(), DeviceNumber { major: 254, minor: 7 });
    assert_eq!(device.node(), "/dev/dm-7");
    assert_eq!(*control.calls.borrow(), [Command::DeviceCreate, Command::TableLoad, Command::DeviceSuspend]);
}

#[test]
fn a_step_that_fails_is_named_and_leaves_no_device() {
    let control = Scripted::new(Some(Command::DeviceCreate));
    assert!(matches!(open(&control), Err(DeviceError::CreateDevice { .. })));
    assert_eq!(*control.calls.borrow(), [Command::DeviceCreate], "the name may be somebody else's device");

    let control = Scripted::new(Some(Command::TableLoad));
    assert!(matches!(open(&control), Err(DeviceError::LoadTable { .. })));
    assert_eq!(control.calls.borrow().last(), Some(&Command::DeviceRemove));

    let control = Scripted::new(Some(Command::DeviceSuspend));
    assert!(matches!(open(&control), Err(DeviceError::ResumeDevice { .. })));
    assert_eq!(control.calls.borrow().last(), Some(&Command::DeviceRemove));
}

#[test]
fn a_device_that_is_not_live_or_takes_writes_is_removed() {
    for flags in [0, READ_ONLY, ACTIVE_PRESENT] {
        let control = Scripted { flags, ..Scripted::new(None) };
        assert!(matches!(open(&control), Err(DeviceError::NotLive { .. })), "flags {flags:#x}");
        assert_eq!(control.calls.borrow().last(), Some(&Command::DeviceRemove));
    }
}

#[test]
fn another_interface_version_is_refused() {
    assert!(check_version(&Scripted::new(None)).is_ok());
    let control = Scripted::new(Some(Command::Version));
    assert!(matches!(check_version(&control), Err(DeviceError::CheckVersion { kernel: [4, 0, 0], .. })));
}

#[test]
fn the_status_joins_table_and_verdict() {
    let line = "1 253:2 253:3 4096 4096 129 1 sha256 \
                0707070707070707070707070707070707070707070707070707070707070707 - 1 restart_on_corruption";
    let ask = |letter| status(&Scripted { answers: [line, letter], ..Scripted::new(None) }, &name());
    let valid = ask("V").unwrap();
    assert_eq!(valid.verdict, Verdict::Valid);
    assert_eq!(valid.table.line().unwrap(), *line);
    assert!(valid.read_only && !valid.suspended);
    assert_eq!(ask("C").unwrap().verdict, Verdict::Corrupt);
    assert!(matches!(ask("X"), Err(DeviceError::ParseAnswer { source: TableError::Verdict, .. })));
}

#[test]
fn names_that_device_mapper_keeps_or_can_not_take_are_refused() {
    assert_eq!("root-1.2_b".parse::<DeviceName>().unwrap().as_str(), "root-1.2_b");
    for bad in ["", ".", "..", "control", "a/b", "a b", "é", "a\0", &"n".repeat(DeviceName::MAX + 1)] {
        assert_eq!(bad.parse::<DeviceName>(), Err(DeviceNameError), "{bad:?}");
    }
}
