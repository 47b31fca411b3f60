//! Counts what is allocated once the boot is over, so that "PID 1 allocates nothing after boot" is a figure that a gate
//! reads and not a hope.
//!
//! The allocator is the system's; this only counts, and only in the process that called [`seal`]. It does not refuse: a
//! node that restarts because PID 1 wanted sixteen bytes would be the worse one.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::alloc::System;

static SEALED: AtomicBool = AtomicBool::new(false);
static SINCE: AtomicU32 = AtomicU32::new(0);

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`; the new size is the caller's to vouch for.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    if SEALED.load(Ordering::Relaxed) {
        SINCE.fetch_add(1, Ordering::Relaxed);
    }
}

/// From now on, allocations of this process are counted.
pub fn seal() {
    SEALED.store(true, Ordering::Relaxed);
}

/// How many there were since [`seal`].
pub fn allocations_since_sealed() -> u32 {
    SINCE.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_after_sealing_is_counted() {
        seal();
        let before = allocations_since_sealed();
        drop(std::hint::black_box(Box::new([0_u8; 100])));
        // Other tests allocate beside this one, so more may have been counted, but not less.
        assert!(allocations_since_sealed() > before);
    }
}
