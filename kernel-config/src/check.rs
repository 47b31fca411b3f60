//! Whether a built configuration is what the fragment asked for: a pure comparison of two texts.

use std::collections::BTreeMap;
use std::fmt;

/// A symbol that is not as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The symbol, with its `CONFIG_`.
    pub symbol: String,
    /// What the fragment says; `n` for "is not set".
    pub asked: String,
    /// What the configuration says; `n` when it says nothing.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: asked for {}, got {}", self.symbol, self.asked, self.got)
    }
}

/// Every symbol of `fragment` that `config` has otherwise. Empty means that all took effect.
pub fn differences(fragment: &str, config: &str) -> Vec<Difference> {
    let built = symbols(config);
    symbols(fragment)
        .into_iter()
        .filter_map(|(symbol, asked)| {
            let got = built.get(symbol).copied().unwrap_or("n");
            (got != asked).then(|| Difference {
                symbol: symbol.to_owned(),
                asked: asked.to_owned(),
                got: got.to_owned(),
            })
        })
        .collect()
}

/// Symbols that a fragment names twice: the second one would win silently.
pub fn named_twice(fragment: &str) -> Vec<String> {
    let mut seen = BTreeMap::new();
    for (symbol, _) in fragment.lines().filter_map(line) {
        *seen.entry(symbol).or_insert(0) += 1;
    }
    seen.into_iter().filter(|(_, count)| *count > 1).map(|(symbol, _)| symbol.to_owned()).collect()
}

/// The symbols of a fragment without its prose, sorted: what decides the bits.
pub fn canonical(fragment: &str) -> String {
    let lines: Vec<_> =
        symbols(fragment).into_iter().map(|(symbol, value)| format!("{symbol}={value}")).collect();
    lines.join("\n")
}

fn symbols(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(line).collect()
}

/// `CONFIG_X=value`, or `# CONFIG_X is not set`.
fn line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if let Some(symbol) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return symbol.starts_with("CONFIG_").then_some((symbol, "n"));
    }
    line.split_once('=').filter(|(symbol, _)| symbol.starts_with("CONFIG_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_kconfig_dropped_is_a_difference() {
        let found = differences("CONFIG_A=y\nCONFIG_B=y\n", "CONFIG_A=y\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "CONFIG_B: asked for y, got n");
    }

    #[test]
    fn a_symbol_that_something_selected_against_our_word_is_a_difference() {
        assert_eq!(differences("# CONFIG_A is not set\n", "CONFIG_A=y\n").len(), 1);
        assert!(differences("# CONFIG_A is not set\n", "").is_empty());
        assert!(differences("# CONFIG_A is not set\n", "# CONFIG_A is not set\n").is_empty());
    }

    #[test]
    fn values_are_compared_and_comments_are_not() {
        assert!(differences("# why: CONFIG_X=y would be wrong\nCONFIG_N=8\n", "CONFIG_N=8\n").is_empty());
        assert_eq!(differences("CONFIG_N=8", "CONFIG_N=64").len(), 1);
    }

    #[test]
    fn prose_and_order_do_not_decide_the_bits() {
        assert_eq!(canonical("# why\nCONFIG_B=y\nCONFIG_A=y\n"), canonical("CONFIG_A=y\nCONFIG_B=y\n"));
        assert_ne!(canonical("CONFIG_A=y\n"), canonical("# CONFIG_A is not set\n"));
    }

    #[test]
    fn our_fragment_names_no_symbol_twice() {
        assert_eq!(named_twice(crate::FRAGMENT), Vec::<String>::new());
    }

    #[test]
    fn our_fragment_asks_for_what_the_design_needs_and_for_no_modules() {
        let asked = symbols(crate::FRAGMENT);
        for symbol in [
            "DEBUG_INFO_BTF",
            "SCHED_CLASS_EXT",
            "DM_VERITY_VERIFY_ROOTHASH_SIG",
            "EROFS_FS",
            "SECURITY_SELINUX",
            "SECURITY_LANDLOCK",
            "SECURITY_LOCKDOWN_LSM",
            "SECURITY_YAMA",
            "BPF_LSM",
            "VIRTIO_NET",
            "BLK_DEV_NVME",
            "ENA_ETHERNET",
            "GVE",
            "HYPERV_NET",
            "TCG_TIS",
            "TCG_CRB",
            "I6300ESB_WDT",
            "SOFT_WATCHDOG",
        ] {
            assert_eq!(asked.get(format!("CONFIG_{symbol}").as_str()), Some(&"y"), "{symbol}");
        }
        assert_eq!(asked.get("CONFIG_MODULES"), Some(&"n"));
    }
}
