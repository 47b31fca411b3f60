//! Firmware's interfaces, beside the drivers that use them.
#![allow(unsafe_code)]

use uefi::boot::{self, OpenProtocolAttributes, OpenProtocolParams, ScopedProtocol};
use uefi::prelude::*;
use uefi::proto::ProtocolPointer;

/// An interface of a handle. Not opened exclusively: of a PCI root bridge that would take every driver away from every
/// device behind it, the disk's among them.
pub fn get<P: ProtocolPointer + ?Sized>(handle: Handle) -> uefi::Result<ScopedProtocol<P>> {
    let params = OpenProtocolParams { handle, agent: boot::image_handle(), controller: None };
    // SAFETY: nothing removes an interface while this program has the one processor that runs: the calls made with what is
    // opened here (a look at a path, reads and writes of registers) load and unload no driver, and it is dropped before the
    // boot loader is started.
    unsafe { boot::open_protocol(params, OpenProtocolAttributes::GetProtocol) }
}
