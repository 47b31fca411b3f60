//! Scratch
fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let show = |line: &str| eprintln!("{line}");
    if args[0] == "lock" {
        let cache = astromesh_rootfs::Cache::open(&astromesh_rootfs::Cache::default_path().unwrap()).unwrap();
        if let Err(e) = astromesh_rootfs::lock::update(&cache, &show) { eprintln!("{e}"); }
        return;
    }
    if args[0] == "hot" {
        println!("{:?}", astromesh_rootfs::hot::record(std::path::Path::new(&args[1])).map(|f| f.len()));
        return;
    }
    let options = astromesh_rootfs::BuildOptions::new(&args[0], "0.1.0").unwrap();
    match astromesh_rootfs::build(&options, &show) { Ok(i) => println!("{i:?}"), Err(e) => { eprintln!("{e}"); std::process::exit(1) } }
}
