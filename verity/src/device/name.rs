//! Names of devices, checked once. Messages and errors both carry one, so it stands below both.

use core::{fmt, str::FromStr};

/// Name of a device: 1 to 32 of `a-z A-Z 0-9 . _ -`, and none of the three names that device-mapper keeps for itself.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceName(heapless::String<{ DeviceName::MAX }>);

impl DeviceName {
    /// Longest name. Our own limit, a quarter of the kernel's: an error carries its device's name inline.
    pub const MAX: usize = 32;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if matches!(text, "" | "." | ".." | "control") || !text.bytes().all(plain) {
            return Err(DeviceNameError);
        }
        text.try_into().map(Self).map_err(|_| DeviceNameError)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceName({self})")
    }
}

/// Text that can't name a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("device name refused: use 1 to 32 letters, digits, dots, underscores or dashes")]
pub struct DeviceNameError;
