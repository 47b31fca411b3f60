//! What the first program of a boot does to the machine's watchdog, apart from how firmware is spoken with: so that it is
//! tested where there is no firmware. The program itself is `main.rs`.
#![no_std]

pub mod i6300esb;

/// Seconds that firmware, boot loader and kernel have together until PID 1 arms the watchdog anew (in fact until the
/// kernel's driver takes it over). Ten times what an emulated machine needs: what lasts this long stands still.
pub const SECONDS: u32 = if cfg!(feature = "short-watchdog") { 30 } else { 120 };

/// Where a PCI function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Its bus.
    pub bus: u8,
    /// Its device on the bus. Only functions 0 are looked at: a watchdog is a device by itself.
    pub device: u8,
}

/// The registers of a machine, as firmware gives access to them.
pub trait Machine {
    /// What went wrong with one.
    type Error;

    /// Reads 32 bits of a function's configuration space, at a multiple of four.
    fn read_config(&mut self, function: Function, register: u8) -> Result<u32, Self::Error>;
    /// Reads 8 bits of it. Some registers answer only to a question of their own width.
    fn read_config_8(&mut self, function: Function, register: u8) -> Result<u8, Self::Error>;
    /// Writes 16 bits of it, at a multiple of two.
    fn write_config_16(&mut self, function: Function, register: u8, value: u16) -> Result<(), Self::Error>;
    /// Writes 8 bits of it.
    fn write_config_8(&mut self, function: Function, register: u8, value: u8) -> Result<(), Self::Error>;
    /// Writes 32 bits of the machine's memory space.
    fn write_memory_32(&mut self, address: u64, value: u32) -> Result<(), Self::Error>;
    /// Writes 16 bits of the machine's memory space.
    fn write_memory_16(&mut self, address: u64, value: u16) -> Result<(), Self::Error>;
}
