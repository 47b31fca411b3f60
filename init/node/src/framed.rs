//! `std::io` as the framing of [`astromesh_proto::frame`] wants it.

use std::io::{self, Read};

/// A reader of `std`, read by frames.
pub struct Framed<'a, T>(pub &'a mut T);

impl<T> embedded_io::ErrorType for Framed<'_, T> {
    type Error = io::Error;
}

impl<T: Read> embedded_io::Read for Framed<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
