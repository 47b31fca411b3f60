//! An accepted partition table keeps every partition inside its usable range. The checksums are made right first:
//! a fuzzer that must guess a CRC32 looks at nothing behind it.
#![no_main]

use astromesh_verity::{Gpt, SectorSize};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for sector_size in [SectorSize::B512, SectorSize::B4096] {
        let mut disk = bytes.to_vec();
        repair(&mut disk, sector_size.bytes());
        let Ok(gpt) = Gpt::parse(&disk, sector_size) else { continue };
        let (first, last) = gpt.usable();
        for partition in gpt.partitions() {
            assert!(partition.first_lba >= first && partition.last_lba <= last && partition.sectors() > 0);
            let _: String = partition.name.to_string();
        }
    }
});

/// Protective MBR, signature, header size and both checksums, for entries right behind the header.
fn repair(disk: &mut [u8], sector: usize) {
    if disk.len() < 2 * sector {
        return;
    }
    let (front, entries) = disk.split_at_mut(2 * sector);
    front[446 + 4] = 0xee;
    front[510..512].copy_from_slice(&[0x55, 0xaa]);
    let header = &mut front[sector..];
    header[..8].copy_from_slice(b"EFI PART");
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    let count = u32::from_le_bytes([header[80], header[81], header[82], header[83]]) as usize;
    if let Some(entries) = count.checked_mul(128).and_then(|length| entries.get(..length)) {
        header[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
    }
    header[16..20].fill(0);
    let checksum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}
