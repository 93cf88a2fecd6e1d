//! Figures of large joins, not bars. All three parties in one process, over TCP or TLS on loopback:
//! `ROWS=1048576 cargo test -p veilgate-mpc --features tls psi::tests::figures -- --ignored --nocapture
//! --test-threads 1`.

use super::*;
use crate::net::stream::StreamLink;
use std::time::Duration;

/// Clock ticks of 10 ms that this process has computed.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    [11, 12]
        .iter()
        .filter_map(|&i| fields.get(i)?.parse::<u64>().ok())
        .sum()
}

/// Most memory this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[allow(clippy::disallowed_methods)] // it measures
fn figures(transport: &str, links: impl Fn() -> Vec<StreamLink>) {
    let rows = std::env::var("ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok());
    let rows: usize = rows.unwrap_or(1 << 20);
    let dummies = Dummies::new(1, 2, 30).unwrap();
    let padded = AlignPlan::padded_rows(rows, 0, &dummies, 2);
    for (name, left, right) in [
        ("two 64-bit columns", vec![A64], vec![A64]),
        (
            "128 bits, 5 bits",
            vec![A128],
            vec![ColumnKind::Bits { width: 5 }],
        ),
        ("two 128-bit columns", vec![A128], vec![A128]),
    ] {
        let owners: [(u8, u8, usize, &[ColumnKind]); 2] =
            [(0, 1, padded, &left), (1, 0, padded, &right)];
        let plan = plan_of(&owners, dummies);
        let mut stream = Stream::new(&[7; 16]);
        let keys: Vec<u64> = (0..rows as u64).collect();
        let start = ticks();
        let mut tables = BTreeMap::from([
            (0, table(1, &keys, &left, &mut stream)),
            (1, table(1, &keys, &right, &mut stream)),
        ]);
        drop(keys);
        let tagged = ticks();
        let links = links();
        let clock = std::time::Instant::now();
        let sent: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = links
                .into_iter()
                .map(|link| {
                    let plan = &plan;
                    let table = tables.remove_entry(&link.me().0);
                    scope.spawn(move || {
                        let mut ctx = context(1, Box::new(link));
                        let step = Step::new("join");
                        match table {
                            None => align_neutral(&mut ctx, &step, plan, &seed(1, "neutral")),
                            Some((me, table)) => {
                                align_owner(&mut ctx, &step, plan, table, &secrets(1, me))
                            }
                        }
                        .unwrap();
                        let mut link = ctx.into_link();
                        link.digests();
                        link.traffic().bytes_sent
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        println!(
            "{{\"bench\":\"join-aligned\",\"transport\":\"{transport}\",\"rows\":{rows},\
             \"payload\":\"{name}\",\"wall_s\":{:.3},\"cpu_s\":{:.2},\"tables_cpu_s\":{:.2},\
             \"bytes_per_input_row\":{:.1},\"peak_mib_all\":{}}}",
            clock.elapsed().as_secs_f64(),
            (ticks() - tagged) as f64 / 100.0,
            (tagged - start) as f64 / 100.0,
            sent as f64 / (2 * rows) as f64,
            peak(),
        );
    }
}

#[test]
#[ignore = "prints figures"]
fn tcp() {
    use crate::net::tcp::loopback_network;
    figures("tcp", || {
        loopback_network(3, Duration::from_secs(60), &Default::default()).unwrap()
    });
}

#[cfg(feature = "tls")]
#[test]
#[ignore = "prints figures"]
fn tls() {
    figures("tls", || crate::net::tls::loopback::network(3));
}
