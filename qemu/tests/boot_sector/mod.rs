//! A guest of 512 bytes: enough to print, to stop in each way, and to send a frame.
//!
//! It exists so that the harness is tested without an image. The program is straight-line 16-bit code made of
//! a few instructions, each written here with its bytes; SeaBIOS loads it at 0x7c00 from the disk.

use std::path::Path;

/// Where SeaBIOS loads the sector.
const ORIGIN: usize = 0x7c00;

/// A program under construction.
pub struct Program {
    code: Vec<u8>,
    frames: Vec<Vec<u8>>,
    /// Places in the code that hold the address of a byte of a frame: (place, frame, byte).
    addresses: Vec<(usize, usize, usize)>,
    /// Where the routine begins that sends a frame.
    send: usize,
}

impl Program {
    /// `cli; xor ax, ax; mov ds, ax; cld`, then "boot sector" on the console.
    pub fn new() -> Self {
        let code = vec![0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xfc];
        Self { code, frames: Vec::new(), addresses: Vec::new(), send: 0 }.print("boot sector\r\n")
    }

    /// `mov dx, 0x3f8; (mov al, byte; out dx, al)...`: COM1. QEMU's UART takes a byte at any time.
    pub fn print(mut self, text: &str) -> Self {
        self.code.extend([0xba, 0xf8, 0x03]);
        self.code.extend(text.bytes().flat_map(|byte| [0xb0, byte, 0xee]));
        self
    }

    /// `mov dx, port; mov al, value; out dx, al`.
    pub fn out(mut self, port: u16, value: u8) -> Self {
        self.code.push(0xba);
        self.code.extend(port.to_le_bytes());
        self.code.extend([0xb0, value, 0xee]);
        self
    }

    /// `hlt; jmp -3`: stops, with interrupts off.
    pub fn halt(mut self) -> Self {
        self.code.extend([0xf4, 0xeb, 0xfd]);
        self
    }

    /// `lidt [zeroes]; int3`: an interrupt table of length 0 makes any interrupt a triple fault... in
    /// protected mode; in real mode too, since the limit is checked there as well.
    pub fn triple_fault(mut self) -> Self {
        let zeroes = ORIGIN + 500;
        self.code.extend([0x0f, 0x01, 0x1e]);
        self.code.extend(u16::try_from(zeroes).unwrap().to_le_bytes());
        self.code.push(0xcc);
        self
    }

    /// Starts the NE2000 at 0x300: receives at pages 0x46 to 0x7f, sends from page 0x40.
    pub fn start_nic(mut self) -> Self {
        // First and last page, boundary; on register page 1 the current page; command: start.
        self = self.out(0x301, 0x46).out(0x302, 0x80).out(0x303, 0x46);
        self = self.out(0x300, 0x62).out(0x307, 0x46).out(0x300, 0x22);
        // jmp over the routine
        self.code.extend([0xeb, 0]);
        self.send = self.code.len();
        // si: the frame, cx: its length. Remote start address, byte count, command: remote write.
        self = self.out(0x308, 0).out(0x309, 0x40).out_length(0x30a).out(0x300, 0x12);
        // push cx; mov dx, 0x310; rep outsb; pop cx
        self.code.extend([0x51, 0xba, 0x10, 0x03, 0xf3, 0x6e, 0x59]);
        // Page and byte count of the transmission, command: transmit.
        self = self.out(0x304, 0x40).out_length(0x305).out(0x300, 0x26);
        // ret
        self.code.push(0xc3);
        let length = self.code.len() - self.send;
        self.code[self.send - 1] = u8::try_from(length).unwrap();
        self
    }

    /// `mov dx, port; mov al, cl; out dx, al; inc dx; mov al, ch; out dx, al`.
    fn out_length(mut self, port: u16) -> Self {
        self.code.push(0xba);
        self.code.extend(port.to_le_bytes());
        self.code.extend([0x88, 0xc8, 0xee, 0x42, 0x88, 0xe8, 0xee]);
        self
    }

    /// Sends a frame.
    pub fn send(mut self, frame: &[u8]) -> Self {
        self.frames.push(frame.to_vec());
        let last = self.frames.len() - 1;
        self.send_frame(last)
    }

    /// `mov si, frame; mov cx, length; call send`.
    fn send_frame(mut self, frame: usize) -> Self {
        self.code.push(0xbe);
        self.put_address(frame, 0);
        self.code.push(0xb9);
        self.code.extend(u16::try_from(self.frames[frame].len()).unwrap().to_le_bytes());
        self.code.push(0xe8);
        let distance = self.send.wrapping_sub(self.code.len() + 2);
        self.code.extend(&distance.to_le_bytes()[..2]);
        self
    }

    fn put_address(&mut self, frame: usize, byte: usize) {
        self.addresses.push((self.code.len(), frame, byte));
        self.code.extend([0, 0]);
    }

    /// Waits for the second frame that arrives (the first is the answer to ARP), which is a SYN-ACK, and sends
    /// `frame`, a TCP segment over IPv4 with no options that acknowledges 0, after it has put the number to
    /// acknowledge into it and into its checksum.
    pub fn acknowledge(mut self, frame: &[u8]) -> Self {
        const TCP: usize = 14 + 20;
        let checksum = !u16::from_be_bytes([frame[TCP + 16], frame[TCP + 17]]);
        self.frames.push(frame.to_vec());
        let ack = self.frames.len() - 1;
        // On register page 1: mov dx, 0x307; wait: in al, dx; cmp al, 0x48; jne wait
        self = self.out(0x300, 0x62);
        self.code.extend([0xba, 0x07, 0x03, 0xec, 0x3c, 0x48, 0x75, 0xfb]);
        // Remote read of 4 bytes: the sequence number, behind the card's header of 4 bytes, in page 0x47.
        self = self.out(0x300, 0x22).out(0x308, 4 + 14 + 20 + 4).out(0x309, 0x47);
        self = self.out(0x30a, 4).out(0x30b, 0).out(0x300, 0x0a);
        // mov dx, 0x310; in al, dx to bh, bl, ch, cl
        self.code.extend([0xba, 0x10, 0x03]);
        self.code.extend([0xec, 0x88, 0xc7, 0xec, 0x88, 0xc3, 0xec, 0x88, 0xc5, 0xec, 0x88, 0xc1]);
        // add cx, 1; adc bx, 0
        self.code.extend([0x83, 0xc1, 0x01, 0x83, 0xd3, 0x00]);
        // mov ax, the sum without it; add ax, bx; adc ax, cx; adc ax, 0; not ax; xchg al, ah; mov [checksum], ax
        self.code.push(0xb8);
        self.code.extend(checksum.to_le_bytes());
        self.code.extend([0x01, 0xd8, 0x11, 0xc8, 0x83, 0xd0, 0x00, 0xf7, 0xd0, 0x86, 0xe0, 0xa3]);
        self.put_address(ack, TCP + 16);
        // xchg bl, bh; mov [acknowledgement], bx; xchg cl, ch; mov [acknowledgement + 2], cx
        self.code.extend([0x86, 0xfb, 0x89, 0x1e]);
        self.put_address(ack, TCP + 8);
        self.code.extend([0x86, 0xe9, 0x89, 0x0e]);
        self.put_address(ack, TCP + 10);
        self.send_frame(ack)
    }

    /// Writes a disk of 1 MiB whose first sector is the program.
    pub fn write(mut self, path: &Path) {
        for (frame, bytes) in self.frames.iter().enumerate() {
            for (at, _, byte) in self.addresses.iter().filter(|(_, of, _)| *of == frame) {
                let address = u16::try_from(ORIGIN + self.code.len() + byte).unwrap();
                self.code[*at..at + 2].copy_from_slice(&address.to_le_bytes());
            }
            self.code.extend(bytes);
        }
        assert!(self.code.len() <= 500, "the program has {} bytes", self.code.len());
        self.code.resize(510, 0);
        self.code.extend([0x55, 0xaa]);
        self.code.resize(1 << 20, 0);
        std::fs::write(path, self.code).unwrap();
    }
}
