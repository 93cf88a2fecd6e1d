//! What the operating system says of processes: CPU seconds, peak memory, children.

use std::fs;

/// Clock ticks a second of `/proc/*/stat`; fixed at 100 on every Linux that Rust runs on.
#[cfg(feature = "query")]
const TICKS: f64 = 100.0;

/// The direct children of a process that run a gateway, ascending.
#[cfg(feature = "query")]
pub(crate) fn gateways(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| fields(*pid).is_some_and(|fields| fields[1] == parent.to_string()))
        .collect();
    found.sort_unstable();
    found
}

/// CPU seconds, user and system, that a process has used so far.
#[cfg(feature = "query")]
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let ticks = |text: &String| text.parse::<f64>().unwrap_or(0.0);
    fields(pid).map_or(0.0, |fields| {
        (ticks(&fields[11]) + ticks(&fields[12])) / TICKS
    })
}

/// The largest resident set that a process has had, in bytes.
pub(crate) fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// Lets the largest resident set of this process begin anew, where the kernel allows it.
pub(crate) fn forget_peak() {
    // Refused inside some containers: the peak then counts the preparation too.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// CPU seconds, user and system, that this process has used so far, to the nanosecond.
pub(crate) fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The fields of `/proc/PID/stat` after the command name: state, parent, ...
#[cfg(feature = "query")]
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
