//! What must hold of every row, whoever adds one.

use super::*;
use std::collections::BTreeSet;

#[test]
fn names_are_unique_and_fit_where_they_are_told() {
    let names: BTreeSet<_> = PROCESSES.iter().map(Process::name).collect();
    assert_eq!(names.len(), PROCESSES.len());
    for name in names {
        // A message of PID 1 has room for 16 bytes, a passwd's field for anything but a colon.
        assert!(
            (1..=16).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase()),
            "{name}"
        );
    }
}

#[test]
fn users_are_unique_and_only_pid_1_and_slots_are_root() {
    let roots: Vec<_> = PROCESSES.iter().filter(|process| process.id == 0).map(Process::name).collect();
    assert_eq!(roots, ["init", "slots"]);
    let ids: BTreeSet<_> = PROCESSES.iter().map(|process| process.id).collect();
    assert_eq!(ids.len(), PROCESSES.len() - roots.len() + 1);
}

#[test]
fn only_the_two_that_configure_the_network_and_grow_keep_a_capability_and_each_has_its_reason() {
    let keeping = PROCESSES.iter().filter(|process| !process.capabilities().is_empty());
    assert_eq!(keeping.map(Process::name).collect::<Vec<_>>(), ["init", "grow", "metadata", "net"]);
    assert_eq!(GROW.capabilities(), CapabilitySet::SYS_RESOURCE);
    let of_the_network = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW | CapabilitySet::NET_BIND_SERVICE;
    for process in PROCESSES.iter().filter(|process| process.kind != Kind::Pid1) {
        let may = if process.id == GROW.id { GROW.capabilities() } else { of_the_network };
        assert!(may.contains(process.capabilities()), "{}", process.name());
        for kept in process.keeps {
            assert_eq!(kept.capabilities.bits().count_ones(), 1, "{}: one reason each", process.name());
            assert!(!kept.why.is_empty(), "{}", process.name());
        }
    }
    for limit in PROCESSES.iter().filter_map(|process| process.cgroup.as_ref()).flat_map(|one| one.limits) {
        assert!(!limit.why.is_empty(), "{:?}", limit.file);
    }
}

#[test]
fn a_cgroup_is_called_like_its_process_and_bounds_its_tasks() {
    for process in &PROCESSES {
        let Some(cgroup) = &process.cgroup else { continue };
        let name = if let Kind::Part(of) = process.kind { of } else { process.name() };
        let path = format!("/sys/fs/cgroup/{name}");
        assert_eq!(cgroup.path.to_str(), Ok(&*path));
        assert_eq!(cgroup.kill.to_str(), Ok(&*format!("{path}/cgroup.kill")));
        assert!(cgroup.limits.iter().any(|limit| limit.file == c"pids.max"), "{}", process.name());
    }
}

#[test]
fn no_two_processes_have_a_folder_in_common_and_parents_come_first() {
    let owned: Vec<_> = PROCESSES.iter().flat_map(|process| process.owns).collect();
    let read = PROCESSES.iter().filter_map(|process| process.reads);
    let paths: Vec<_> = owned.iter().map(|directory| directory.path).chain(read).collect();
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len());
    let below = |path: &str| {
        directories(path).map(|(directory, _)| directory.path.to_str().unwrap()).collect::<Vec<_>>()
    };
    // Whoever makes folders asks for one of these two.
    assert_eq!(below("/run/").len() + below("/var/lib/").len(), owned.len());
    for made in [below("/run/"), below("/var/lib/")] {
        for (index, path) in made.iter().enumerate() {
            let later = &made[index..];
            assert!(!later.iter().any(|other| path.starts_with(&format!("{other}/"))), "{path}");
        }
    }
    for (path, _) in config_directories() {
        assert!(path.to_bytes().starts_with(b"/run/config/"));
    }
}

#[test]
fn nobody_may_say_that_a_release_is_blessed_and_jobs_and_the_agent_say_nothing() {
    let bless = ToInit::Slots { work: SlotsWork::Bless, number: 1 };
    assert!(!PROCESSES.iter().any(|process| process.may_say(&bless)));
    for process in PROCESSES.iter().filter(|process| process.kind != Kind::Service) {
        assert!(process.may_say.is_empty(), "{}", process.name());
    }
    // Twin: the same question about what they may say.
    assert!(UPDATE.may_say(&ToInit::Slots { work: SlotsWork::Install, number: 1 }));
    let saying = |message: &ToInit| {
        PROCESSES.iter().filter(|one| one.may_say(message)).map(Process::name).collect::<Vec<_>>()
    };
    assert_eq!(saying(&ToInit::Ready), ["net", "control"]);
    assert_eq!(saying(&ToInit::Waiting { reason: heapless::String::new() }), ["control"]);
    assert_eq!(saying(&ToInit::Reboot), ["control", "update"]);
    assert_eq!(saying(&ToInit::Poweroff), ["control"]);
    assert_eq!(saying(&ToInit::RestartAgent), ["control"]);
    assert_eq!(saying(&ToInit::Ask { memory: true, number: 1 }), ["control"]);
    let health = ToInit::Health { healthy: true, reason: heapless::String::new() };
    assert_eq!(saying(&health), ["control"]);
}

#[test]
fn a_job_with_a_deadline_has_a_cgroup_to_be_killed_by() {
    for process in &PROCESSES {
        if let Kind::Job { within: Some(_) } = process.kind {
            assert!(process.cgroup.is_some(), "{}", process.name());
        }
    }
}

#[test]
fn a_part_lives_where_the_process_lives_that_it_is_a_part_of() {
    for process in &PROCESSES {
        let Kind::Part(of) = process.kind else { continue };
        let whole = PROCESSES.iter().find(|one| one.name() == of).unwrap();
        assert_eq!(process.namespaces, whole.namespaces);
        let cgroup = |process: &Process| process.cgroup.as_ref().map(|cgroup| cgroup.path);
        assert_eq!(cgroup(process), cgroup(whole));
    }
}
