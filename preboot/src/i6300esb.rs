//! Intel's 6300ESB watchdog, a PCI device that hypervisors lend (QEMU, and what is built on it).
//!
//! It counts down twice, and the second time resets the machine. Registers: "Intel 6300ESB I/O Controller Hub Datasheet",
//! section 16, order number 300641. Linux's driver of the same name stops it when it takes it over, which is before PID 1.

use crate::{Function, Machine};

/// Vendor and device, as they stand in the first register.
const IDENTITY: u32 = 0x25ab_8086;

/// Configuration space: the command register, and its bit that lets the device answer in memory.
const COMMAND: u8 = 0x04;
const MEMORY: u16 = 0x0002;
/// Configuration space: where in memory its registers are.
const BASE: u8 = 0x10;
/// Configuration space, 16 bits: no interrupt after the first count, a tick of 1 kHz, a reset after the second.
const CONFIG: u8 = 0x60;
const RESETS: u16 = 0x0003;
/// Configuration space, 8 bits: running.
const LOCK: u8 = 0x68;
const ENABLE: u8 = 0x02;

/// Memory: what each of the two counts begins with, 20 bits.
const PRELOAD: [u64; 2] = [0x00, 0x04];
const PRELOAD_MOST: u32 = 0x000f_ffff;
/// Memory: two words that have to be written before each register, and the order to begin the count anew.
const RELOAD: u64 = 0x0c;
const UNLOCK: [u16; 2] = [0x80, 0x86];
const COUNT_ANEW: u16 = 0x0100;

/// Ticks of a second in each count: 512 in the first and 512 in the second are 1024 of about a millisecond.
const TICKS: u32 = 512;

/// Arms it at the first place where there is one, so that the machine is reset `seconds` from now. Returns whether there
/// was one, and it says that it runs.
pub fn arm<M: Machine>(machine: &mut M, seconds: u32) -> Result<bool, M::Error> {
    for bus in 0..=u8::MAX {
        for device in 0..32 {
            let function = Function { bus, device };
            // A bus that this bridge doesn't have is an error, and no reason to stop looking.
            if machine.read_config(function, 0).is_ok_and(|identity| identity == IDENTITY) {
                return arm_at(machine, function, seconds);
            }
        }
    }
    Ok(false)
}

fn arm_at<M: Machine>(machine: &mut M, function: Function, seconds: u32) -> Result<bool, M::Error> {
    let base = machine.read_config(function, BASE)?;
    // Bit 0: not memory but ports. No address: firmware gave it none.
    if base & 1 != 0 || base & !0xf == 0 {
        return Ok(false);
    }
    let base = u64::from(base & !0xf);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half of the register is the command")]
    let command = machine.read_config(function, COMMAND)? as u16;
    machine.write_config_16(function, COMMAND, command | MEMORY)?;
    machine.write_config_16(function, CONFIG, RESETS)?;
    let ticks = seconds.saturating_mul(TICKS).min(PRELOAD_MOST);
    for preload in PRELOAD {
        unlock(machine, base)?;
        machine.write_memory_32(base + preload, ticks)?;
    }
    unlock(machine, base)?;
    machine.write_memory_16(base + RELOAD, COUNT_ANEW)?;
    machine.write_config_8(function, LOCK, ENABLE)?;
    Ok(machine.read_config_8(function, LOCK)? & ENABLE != 0)
}

fn unlock<M: Machine>(machine: &mut M, base: u64) -> Result<(), M::Error> {
    UNLOCK.into_iter().try_for_each(|word| machine.write_memory_16(base + RELOAD, word))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// A machine with the device at one place, which does what the datasheet says: a register is written only behind the
    /// two words, and only while the device answers in memory.
    #[derive(Default)]
    struct Fake {
        at: Option<(u8, u8)>,
        base: u32,
        config: BTreeMap<u8, u32>,
        unlocked: usize,
        registers: BTreeMap<u64, u32>,
        dead: bool,
        looked_at: Vec<Function>,
    }

    impl Fake {
        fn memory(&mut self, address: u64, value: u32) {
            let (register, base) = (address & 0xf, u64::from(self.base & !0xf));
            assert_eq!(address & !0xf, base);
            assert_ne!(self.config[&COMMAND] & u32::from(MEMORY), 0, "it doesn't answer in memory yet");
            let word = usize::from(self.unlocked == 1);
            if register == RELOAD && self.unlocked < 2 && value == u32::from(UNLOCK[word]) {
                self.unlocked += 1;
            } else if std::mem::take(&mut self.unlocked) == 2 {
                self.registers.insert(register, value);
            }
        }
    }

    impl Machine for Fake {
        type Error = ();

        fn read_config(&mut self, function: Function, register: u8) -> Result<u32, ()> {
            self.looked_at.push(function);
            match (self.at == Some((function.bus, function.device)), register) {
                (false, _) if function.bus > 3 => Err(()),
                (false, _) => Ok(u32::MAX),
                (true, 0) => Ok(IDENTITY),
                (true, BASE) => Ok(self.base),
                // As QEMU's does: nothing to who asks for more than the register.
                (true, LOCK) => Ok(0),
                (true, _) => Ok(self.config.get(&register).copied().unwrap_or(0)),
            }
        }

        fn read_config_8(&mut self, _: Function, register: u8) -> Result<u8, ()> {
            assert_eq!(register, LOCK);
            Ok(if self.dead { 0 } else { self.config[&LOCK].to_le_bytes()[0] })
        }

        fn write_config_16(&mut self, _: Function, register: u8, value: u16) -> Result<(), ()> {
            self.config.insert(register, value.into());
            Ok(())
        }

        fn write_config_8(&mut self, _: Function, register: u8, value: u8) -> Result<(), ()> {
            self.config.insert(register, value.into());
            Ok(())
        }

        fn write_memory_32(&mut self, address: u64, value: u32) -> Result<(), ()> {
            self.memory(address, value);
            Ok(())
        }

        fn write_memory_16(&mut self, address: u64, value: u16) -> Result<(), ()> {
            self.memory(address, value.into());
            Ok(())
        }
    }

    #[test]
    fn it_is_found_behind_a_bridge_set_and_started() {
        let mut machine = Fake { at: Some((3, 7)), base: 0x8010_0000, ..Fake::default() };
        machine.config.insert(COMMAND, 0x0104);
        assert_eq!(arm(&mut machine, 120), Ok(true));
        assert_eq!(machine.config[&COMMAND], 0x0106, "what was set stays set");
        assert_eq!(machine.config[&CONFIG], 3);
        assert_eq!(machine.config[&LOCK], 2);
        let wanted = BTreeMap::from([(0, 120 * 512), (4, 120 * 512), (RELOAD, 0x100)]);
        assert_eq!(machine.registers, wanted);
    }

    #[test]
    fn a_time_that_it_can_not_count_is_the_longest_that_it_can() {
        let mut machine = Fake { at: Some((0, 2)), base: 0x8010_0000, ..Fake::default() };
        assert_eq!(arm(&mut machine, u32::MAX), Ok(true));
        assert_eq!(machine.registers[&0], 0xf_ffff);
    }

    #[test]
    fn a_machine_without_one_is_looked_through_and_left_alone() {
        let mut machine = Fake::default();
        assert_eq!(arm(&mut machine, 120), Ok(false));
        assert_eq!(machine.looked_at.len(), 256 * 32);
        assert!(machine.config.is_empty() && machine.registers.is_empty());
    }

    #[test]
    fn one_that_has_no_address_or_does_not_start_is_not_said_to_be_armed() {
        for base in [0, 0x0000_000c, 0xc001] {
            let mut machine = Fake { at: Some((0, 2)), base, ..Fake::default() };
            assert_eq!(arm(&mut machine, 120), Ok(false), "{base:#x}");
            assert!(machine.registers.is_empty());
        }
        let mut machine = Fake { at: Some((0, 2)), base: 0x8010_0000, dead: true, ..Fake::default() };
        assert_eq!(arm(&mut machine, 120), Ok(false));
    }
}
