//! Which cloud a machine is in, by what its firmware says (DMI).
//!
//! PID 1 decides by this table whether a metadata server is asked at all, so it stands apart from the conversation
//! with that server: it reads four short strings that the kernel got from the firmware, and nothing from the network. A
//! machine whose firmware names no cloud is in none, and nobody is asked.

use core::ffi::CStr;

/// A cloud whose metadata server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon EC2, by IMDSv2 alone.
    Ec2,
    /// Google Compute Engine.
    Gce,
    /// Microsoft Azure.
    Azure,
}

/// What the firmware says of the machine: files of `/sys/class/dmi/id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DmiFacts {
    /// `sys_vendor` (SMBIOS type 1, manufacturer).
    pub sys_vendor: String,
    /// `product_name` (type 1).
    pub product_name: String,
    /// `chassis_asset_tag` (type 3).
    pub chassis_asset_tag: String,
    /// `bios_vendor` (type 0).
    pub bios_vendor: String,
}

/// How a cloud is told: the first row that holds names it.
type Row = (Cloud, fn(&DmiFacts) -> bool);

/// The clouds, in the order in which they are tried. A machine names at most one of them, so at most one is asked.
const CLOUDS: [Row; 3] = [
    // Nitro machines, metal or not, say it in both places; older ones (Xen) in the second alone, if at all.
    (Cloud::Ec2, |dmi| dmi.sys_vendor == "Amazon EC2" || dmi.bios_vendor == "Amazon EC2"),
    (Cloud::Gce, |dmi| dmi.product_name == "Google Compute Engine"),
    // Microsoft's vendor and product are those of any Hyper-V; this tag is Azure's.
    (Cloud::Azure, |dmi| dmi.chassis_asset_tag == "7783-7084-3265-9085-8269-3286-77"),
];

impl Cloud {
    /// The cloud that the firmware names, if it names one.
    pub fn recognise(dmi: &DmiFacts) -> Option<Self> {
        CLOUDS.iter().find(|(_, holds)| holds(dmi)).map(|&(cloud, _)| cloud)
    }

    /// The one whose [`Self::argument`] this is.
    pub fn from_argument(argument: &str) -> Option<Self> {
        let is_it = |cloud: &Self| cloud.argument().to_bytes() == argument.as_bytes();
        CLOUDS.iter().map(|&(cloud, _)| cloud).find(is_it)
    }

    /// Its name where a program reads it.
    pub fn argument(self) -> &'static CStr {
        match self {
            Cloud::Ec2 => c"ec2",
            Cloud::Gce => c"gce",
            Cloud::Azure => c"azure",
        }
    }

    /// Where the machine-config comes from, where a person reads it.
    pub fn source(self) -> &'static str {
        match self {
            Cloud::Ec2 => "EC2 user-data",
            Cloud::Gce => "GCE attribute astromesh-machine-config",
            Cloud::Azure => "Azure user data",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_told_by_its_firmware_and_a_machine_that_names_none_is_none() {
        let tag = "7783-7084-3265-9085-8269-3286-77";
        let facts = |vendor: &str, product: &str, tag: &str, bios: &str| DmiFacts {
            sys_vendor: vendor.to_owned(),
            product_name: product.to_owned(),
            chassis_asset_tag: tag.to_owned(),
            bios_vendor: bios.to_owned(),
        };
        for (facts, cloud) in [
            (facts("Amazon EC2", "m7i.large", "Amazon EC2", "Amazon EC2"), Some(Cloud::Ec2)),
            (facts("Xen", "HVM domU", "", "Amazon EC2"), Some(Cloud::Ec2)),
            (facts("Google", "Google Compute Engine", "", "Google"), Some(Cloud::Gce)),
            (facts("Microsoft Corporation", "Virtual Machine", tag, ""), Some(Cloud::Azure)),
            // Twins: a Hyper-V at home, Google's own products, QEMU, and nothing at all.
            (facts("Microsoft Corporation", "Virtual Machine", "", ""), None),
            (facts("Google", "Caroline", "", "coreboot"), None),
            (facts("QEMU", "Standard PC (Q35 + ICH9, 2009)", "", "SeaBIOS"), None),
            (facts("Not Amazon EC2", "", "", "amazon ec2"), None),
            (DmiFacts::default(), None),
        ] {
            assert_eq!(Cloud::recognise(&facts), cloud, "{facts:?}");
        }
        for cloud in [Cloud::Ec2, Cloud::Gce, Cloud::Azure] {
            assert_eq!(Cloud::from_argument(cloud.argument().to_str().unwrap()), Some(cloud));
        }
        assert_eq!(Cloud::from_argument("other"), None);
    }
}
