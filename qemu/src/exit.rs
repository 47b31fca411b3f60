//! Why a machine stopped, by QEMU's word.
//!
//! It exists because "it rebooted" has many causes and the console is the guest's own story. The reason is
//! computed from the QMP events and the process's status alone; it never reads the console.

use crate::qmp::QmpEvent;
use std::fmt;

/// Why QEMU ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest asked for a reset (keyboard controller, ACPI, triple fault); with reboots off this ends it.
    GuestReset,
    /// The guest switched the power off (ACPI S5).
    GuestShutdown,
    /// The guest said that it panicked (pvpanic device).
    GuestPanic,
    /// The watchdog device ran out and reset the machine.
    Watchdog,
    /// The harness reset it by QMP while reboots were off.
    HostReset,
    /// The harness ended it by QMP `quit`.
    HostQuit,
    /// A signal ended QEMU: who sent it is not known to QMP.
    HostSignal,
    /// QEMU ended with no reason given: the text has its status and its last words.
    Crashed(String),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuestReset => f.write_str("the guest reset itself"),
            Self::GuestShutdown => f.write_str("the guest switched itself off"),
            Self::GuestPanic => f.write_str("the guest panicked"),
            Self::Watchdog => f.write_str("the watchdog ran out"),
            Self::HostReset => f.write_str("the harness reset it"),
            Self::HostQuit => f.write_str("the harness ended it"),
            Self::HostSignal => f.write_str("a signal ended QEMU"),
            Self::Crashed(how) => write!(f, "QEMU ended without a reason: {how}"),
        }
    }
}

/// The reason, from all events of a machine and what is known of its process.
///
/// A watchdog's reset is announced by `WATCHDOG` and then looks like the guest's own. It counts only when no
/// `RESET` lies between the two: an earlier watchdog that only rebooted the machine explains nothing.
pub(crate) fn exit_reason(events: &[QmpEvent], process: &str) -> ExitReason {
    let Some(end) = events.iter().rposition(|e| e.name == "SHUTDOWN") else {
        return ExitReason::Crashed(process.into());
    };
    let before = &events[..end];
    let barked = before
        .iter()
        .rev()
        .take_while(|e| e.name != "RESET")
        .any(|e| e.name == "WATCHDOG" && e.data["action"] != "none");
    cause(&events[end], barked, process)
}

/// The reason of each reset that a machine has survived, oldest first.
///
/// QEMU holds back a `WATCHDOG` that comes within a second of the last one (`monitor_qapi_event_conf`), so of watchdog
/// resets in such a hurry only the first is told from the guest's own.
pub(crate) fn resets(events: &[QmpEvent]) -> Vec<ExitReason> {
    let mut reasons = Vec::new();
    let mut barked = false;
    for event in events {
        match event.name.as_str() {
            "WATCHDOG" => barked = event.data["action"] != "none",
            "RESET" => reasons.push(cause(event, std::mem::take(&mut barked), "it runs on")),
            _ => {}
        }
    }
    reasons
}

/// What an event's reason means. (https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html, ShutdownCause)
fn cause(event: &QmpEvent, barked: bool, process: &str) -> ExitReason {
    match event.data["reason"].as_str().unwrap_or_default() {
        "guest-reset" | "guest-shutdown" if barked => ExitReason::Watchdog,
        "guest-reset" => ExitReason::GuestReset,
        "guest-shutdown" => ExitReason::GuestShutdown,
        "guest-panic" => ExitReason::GuestPanic,
        "host-qmp-system-reset" => ExitReason::HostReset,
        "host-qmp-quit" => ExitReason::HostQuit,
        "host-signal" => ExitReason::HostSignal,
        other => ExitReason::Crashed(format!("shutdown reason {other:?}, {process}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(name: &str, data: serde_json::Value) -> QmpEvent {
        QmpEvent { name: name.into(), data }
    }

    #[test]
    fn a_watchdog_explains_the_reset_that_follows_it_and_no_later_one() {
        let bark = event("WATCHDOG", json!({"action": "reset"}));
        let end = event("SHUTDOWN", json!({"guest": true, "reason": "guest-reset"}));
        let reset = event("RESET", json!({"guest": true, "reason": "guest-reset"}));
        assert_eq!(exit_reason(&[bark.clone(), end.clone()], ""), ExitReason::Watchdog);
        assert_eq!(exit_reason(&[bark, reset, end.clone()], ""), ExitReason::GuestReset);
        assert_eq!(exit_reason(&[end], ""), ExitReason::GuestReset);
    }

    #[test]
    fn every_reset_that_was_survived_has_its_reason() {
        let bark = event("WATCHDOG", json!({"action": "reset"}));
        let by = |reason: &str| event("RESET", json!({"guest": true, "reason": reason}));
        let (guest, host) = (by("guest-reset"), by("host-qmp-system-reset"));
        assert_eq!(
            resets(&[guest.clone(), bark, guest.clone(), host, guest]),
            [ExitReason::GuestReset, ExitReason::Watchdog, ExitReason::HostReset, ExitReason::GuestReset]
        );
        assert_eq!(resets(&[]), []);
    }

    #[test]
    fn an_end_without_an_event_is_a_crash() {
        assert_eq!(exit_reason(&[], "signal 11"), ExitReason::Crashed("signal 11".into()));
    }
}
