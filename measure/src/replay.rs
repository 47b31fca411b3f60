//! From a log to the registers that it claims.
//!
//! A quote names registers by their values; the log says how they came about. The log is believed for a register when
//! replaying it gives the value that the TPM signed, and not before.

use crate::event_log::{Event, EventLog, LogError, NO_ACTION};
use crate::pcr::{Digest, REGISTERS, Register};

/// What a record of kind [`NO_ACTION`] begins with that says from which locality the TPM was started
/// (`TCG_EfiStartupLocalityEvent`).
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// All registers, as a log claims them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers([Register; REGISTERS as usize]);

impl Registers {
    /// Replays a log from a reset on.
    pub fn replay(log: &[u8]) -> Result<Self, LogError> {
        let mut registers = Self([Register::RESET; REGISTERS as usize]);
        // Before the first extension of register 0 the log may say where it began; after it, that would be a lie.
        let mut untouched = true;
        for event in EventLog::open(log)? {
            let event = event?;
            if event.kind != NO_ACTION {
                untouched &= event.register != 0;
                registers.extend(&event);
            } else if let Some(locality) = locality(&event).filter(|_| untouched) {
                registers.0[0] = Register::reset_at(locality);
            }
        }
        Ok(registers)
    }

    fn extend(&mut self, event: &Event<'_>) {
        if let Some(register) = self.0.get_mut(event.register as usize) {
            register.extend(event.digest);
        }
    }

    /// What a register holds; none when there is no such register.
    pub fn value(&self, register: u32) -> Option<Digest> {
        self.0.get(register as usize).map(|register| register.value())
    }
}

fn locality(event: &Event<'_>) -> Option<u8> {
    match event.data.strip_prefix(STARTUP_LOCALITY)? {
        [locality] if event.register == 0 => Some(*locality),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::tests::Made;

    fn replayed(log: &Made) -> Registers {
        Registers::replay(&log.0).unwrap()
    }

    #[test]
    fn each_register_holds_what_was_extended_into_it_in_order() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let log = Made::new().event(4, 13, one, b"").event(11, 13, two, b"").event(4, 13, two, b"");
        let mut expected = Register::RESET;
        expected.extend(one);
        expected.extend(two);
        let registers = replayed(&log);
        assert_eq!(registers.value(4), Some(expected.value()));
        assert_eq!(registers.value(5), Some(Register::RESET.value()));
        assert_eq!(registers.value(24), None);
    }

    #[test]
    fn a_record_of_no_action_changes_nothing_whatever_it_says() {
        let log = Made::new().event(4, NO_ACTION, Digest::of(b"one"), b"StartupLocality\0\x03");
        assert_eq!(replayed(&log), replayed(&Made::new()));
    }

    #[test]
    fn where_register_0_began_is_believed_before_its_first_extension_only() {
        let says = |log: Made| log.event(0, NO_ACTION, Digest::of(b""), b"StartupLocality\0\x03");
        let measured = |log: Made| log.event(0, 8, Digest::of(b"firmware"), b"");
        let mut expected = Register::reset_at(3);
        expected.extend(Digest::of(b"firmware"));
        assert_eq!(replayed(&measured(says(Made::new()))).value(0), Some(expected.value()));
        assert_eq!(replayed(&says(measured(Made::new()))), replayed(&measured(Made::new())));
    }
}
