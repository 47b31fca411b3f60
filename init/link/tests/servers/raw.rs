//! Bytes as a person writes them, and the packets around them.

use std::net::Ipv4Addr;

/// The hardware address that answers are for.
pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// The transaction.
pub const TRANSACTION: u32 = 0x3903_f326;

/// Bytes in hex, in groups of any length; text stands between `'`.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        if let Some(text) = word.strip_prefix('\'') {
            bytes.extend(text.strip_suffix('\'').unwrap_or_else(|| panic!("{word}")).as_bytes());
        } else {
            let pairs = word.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            bytes.extend(pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{word}"))));
        }
    }
    bytes
}

/// What a DHCP server answers.
#[derive(Debug, Clone, Copy)]
pub struct Reply {
    /// Where this form is from.
    pub source: &'static str,
    /// Who sends it.
    pub from: [u8; 4],
    /// By which port.
    pub port: u16,
    /// The address that it is about.
    pub address: [u8; 4],
    /// All options but the type of the message and the end.
    pub options: &'static str,
    /// The field for the name of a file.
    pub file: &'static str,
    /// The field for the name of a server.
    pub sname: &'static str,
    /// What is taken from it; empty when it is passed over.
    pub taken: &'static str,
}

/// What most replies have in common.
pub const REPLY: Reply = Reply {
    source: "",
    from: [10, 0, 0, 1],
    port: 67,
    address: [10, 0, 0, 5],
    options: "",
    file: "",
    sname: "",
    taken: "",
};

impl Reply {
    /// The IPv4 packet, as an OFFER (2), an ACK (5) or a NAK (6).
    pub fn packet(&self, kind: u8) -> Vec<u8> {
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[2, 1, 6, 0]);
        message[4..8].copy_from_slice(&TRANSACTION.to_be_bytes());
        message[16..20].copy_from_slice(&self.address);
        message[28..34].copy_from_slice(&MAC);
        for (at, field) in [(44, self.sname), (108, self.file)] {
            let field = bytes(field);
            message[at..at + field.len()].copy_from_slice(&field);
        }
        message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend([53, 1, kind]);
        message.extend(bytes(self.options));
        message.push(255);
        // Most servers fill up to the least length of BOOTP.
        message.resize(message.len().max(300), 0);
        let length = u16::try_from(message.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend((length + 28).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(self.from);
        packet.extend(Ipv4Addr::BROADCAST.octets());
        packet.extend(self.port.to_be_bytes());
        packet.extend(68_u16.to_be_bytes());
        packet.extend((length + 8).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(message);
        packet
    }
}
