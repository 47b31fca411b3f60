//! What the runtime sees: the verified root, its own `/proc`, `/tmp` and `/dev` with five devices, its configuration, its
//! state, and nothing else of the machine.

use astromesh_node::view::{DEVICES, Device, Memory, STRICT, Tree, View, ViewError};
use rustix::mount::mount;

const MEMORY: &[Memory] = &[
    Memory { on: c"/run", flags: STRICT, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/var", flags: STRICT, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/sys", flags: STRICT, data: c"mode=0555,size=4k", sealed: true },
    Memory { on: c"/dev", flags: DEVICES, data: c"mode=0755,size=64k", sealed: true },
    Memory { on: c"/tmp", flags: STRICT, data: c"mode=1777,size=25%", sealed: false },
];

const TREES: &[Tree] = &[
    Tree { from: c"/run/net", to: c"/run/net", writable: false },
    Tree { from: c"/run/config/agent", to: c"/run/agent", writable: false },
    Tree { from: c"/var/lib/astromesh", to: c"/var/lib/astromesh", writable: true },
];

/// Makes the view. The process must be in mount and pid namespaces of its own, as root.
pub fn build() -> Result<(), ViewError> {
    let devices = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)]
        .map(|(name, minor)| Device::memory(name, minor));
    View {
        memory: MEMORY,
        directories: &[c"/run/net", c"/run/agent", c"/var/lib", c"/var/lib/astromesh", c"/dev/shm"],
        trees: TREES,
        devices: &devices,
        proc: c"hidepid=invisible",
    }
    .build()?;
    // Shared memory, for libraries that ask for it.
    mount(c"tmpfs", c"/dev/shm", c"tmpfs", STRICT, c"mode=1777,size=16m")
        .map_err(|cause| ViewError::Mount { path: "/dev/shm", cause })
}
