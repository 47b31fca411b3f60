//! Which disk is the node's own, where several hold its release: a copy that somebody attached, a second node's.
//!
//! The root is the same on each of them, and verity proves it; but `/var` is not, and an update would go to the wrong one. The
//! disk that the boot loader came from decides. Where that leaves two, no guess is made.
//!
//! A pure function, so that its table test needs no machine.

use astromesh_verity::Uuid;

/// What to do about the disks that are there by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// None of them, yet.
    Wait,
    /// The one with this index.
    Take(usize),
    /// It can't be said which.
    Refuse,
}

/// Chooses among the disks that hold the release, each by the PARTUUIDs on it. `loader` is the partition that the boot
/// loader came from, if there was one; `is_last` says that no other disk is waited for.
pub fn choose(disks: &[Vec<Uuid>], loader: Option<Uuid>, is_last: bool) -> Choice {
    let Some(loader) = loader else {
        return match disks {
            [] => Choice::Wait,
            [_] => Choice::Take(0),
            _ => Choice::Refuse,
        };
    };
    let mut own = disks.iter().enumerate().filter(|(_, partitions)| partitions.contains(&loader));
    match (own.next(), own.next(), disks) {
        (Some((index, _)), None, _) => Choice::Take(index),
        (Some(_), Some(_), _) => Choice::Refuse,
        // The boot loader came from something else, a drive or the network: the release is on this disk all the same.
        (None, _, [_]) if is_last => Choice::Take(0),
        (None, _, [_, _, ..]) if is_last => Choice::Refuse,
        _ => Choice::Wait,
    }
}

/// The partition in the Boot Loader Interface's variable `LoaderDevicePartUUID`, as efivarfs gives it: four bytes of
/// attributes, then UTF-16 that may end in zeros.
pub fn partition_in_variable(bytes: &[u8]) -> Option<Uuid> {
    let mut text = heapless::String::<36>::new();
    let units = bytes.get(4..)?.chunks(2).map(|unit| match unit {
        [low, 0] => Some(char::from(*low)),
        _ => None,
    });
    for unit in units {
        match unit? {
            '\0' => break,
            character => text.push(character).ok()?,
        }
    }
    (text.len() == 36).then(|| Uuid::parse_str(&text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(partitions: &[u128]) -> Vec<Uuid> {
        partitions.iter().map(|number| Uuid::from_u128(*number)).collect()
    }

    #[test]
    fn the_disk_that_the_boot_loader_came_from_decides() {
        let disks = [disk(&[1, 2]), disk(&[3, 4])];
        let loader = |number| Some(Uuid::from_u128(number));
        for is_last in [false, true] {
            assert_eq!(choose(&disks, loader(4), is_last), Choice::Take(1));
            assert_eq!(choose(&disks, loader(1), is_last), Choice::Take(0));
            assert_eq!(choose(&disks[..1], loader(1), is_last), Choice::Take(0));
            assert_eq!(choose(&[], loader(1), is_last), Choice::Wait);
        }
    }

    #[test]
    fn two_copies_of_one_disk_are_refused_whoever_came_first() {
        let copies = [disk(&[1, 2]), disk(&[1, 2])];
        for is_last in [false, true] {
            assert_eq!(choose(&copies, Some(Uuid::from_u128(1)), is_last), Choice::Refuse);
            assert_eq!(choose(&copies, None, is_last), Choice::Refuse);
        }
    }

    #[test]
    fn a_disk_of_another_than_the_loaders_is_taken_only_when_no_other_comes() {
        let loader = Some(Uuid::from_u128(9));
        let disks = [disk(&[1, 2]), disk(&[3, 4])];
        assert_eq!(choose(&disks[..1], loader, false), Choice::Wait);
        assert_eq!(choose(&disks[..1], loader, true), Choice::Take(0));
        assert_eq!(choose(&disks, loader, false), Choice::Wait);
        assert_eq!(choose(&disks, loader, true), Choice::Refuse);
        // Without a boot loader no disk is waited for.
        assert_eq!(choose(&disks[..1], None, false), Choice::Take(0));
    }

    fn variable(text: &str) -> Vec<u8> {
        let text = text.encode_utf16().flat_map(u16::to_le_bytes);
        [6, 0, 0, 0].into_iter().chain(text).collect()
    }

    #[test]
    fn the_variable_names_a_partition_or_nothing() {
        const TEXT: &str = "a57e0c1e-0e0f-5000-8001-000000657370";
        let id = Uuid::parse_str(TEXT).ok();
        for text in [TEXT.to_owned(), TEXT.to_uppercase(), format!("{TEXT}\0"), format!("{TEXT}\0\0x")] {
            assert_eq!(partition_in_variable(&variable(&text)), id, "{text:?}");
        }
        let long = format!("{TEXT}0");
        for text in ["", "\0", &TEXT[1..], &long, &TEXT.replace('-', "+"), &TEXT.replace('a', "\u{161}")] {
            assert_eq!(partition_in_variable(&variable(text)), None, "{text:?}");
        }
        for bytes in [&[][..], &[6, 0, 0], &[6, 0, 0, 0, b'a']] {
            assert_eq!(partition_in_variable(bytes), None);
        }
    }
}
