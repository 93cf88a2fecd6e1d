//! Random tables and queries over real processes; the larger part of the random cases runs in
//! process, in `veilgate-federated`.

use crate::support::{Oracle, Sandbox, rows};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;

const K: u32 = 5;

#[test]
fn twenty_random_queries_over_processes() {
    let seed: u64 = std::env::var("VEILGATE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    write_tables(folder.path(), &mut random);
    let sandbox = Sandbox::start(folder.path());
    let oracle = Oracle::over(folder.path());
    for case in 0..20 {
        let (joint, clear) = query(&mut random);
        let got = rows(&sandbox.query(&joint));
        let want = oracle.rows(&clear);
        assert_eq!(got, want, "seed {seed}, case {case}\n{joint}\n{clear}");
    }
}

/// `shop.orders` (several a person) and `town.people` (one a person), with NULLs and gaps.
fn write_tables(folder: &std::path::Path, random: &mut StdRng) {
    let mut people = String::from("id,area,born,score\n");
    for id in 0..300 {
        let score = match random.random_range(0..5) {
            0 => String::new(),
            _ => random.random_range(-500..500).to_string(),
        };
        let _ = writeln!(
            people,
            "{id},{},{}-0{}-11,{score}",
            ["east", "west", "north", "south"][random.random_range(0..4)],
            random.random_range(1940..2000),
            random.random_range(1..10),
        );
    }
    let mut orders = String::from("number,id,price,paid\n");
    for number in 0..700 {
        let price = match random.random_range(0..8) {
            0 => String::new(),
            _ => format!(
                "{}.{:02}",
                random.random_range(-900..900),
                random.random_range(0..100)
            ),
        };
        let _ = writeln!(
            orders,
            "{number},{},{price},{}",
            random.random_range(100..400),
            random.random_bool(0.5),
        );
    }
    for (path, text) in [("town/people.csv", people), ("shop/orders.csv", orders)] {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// A joint query, and the same in the clear with k spelled out. Aggregates of nullable columns are
/// left to the in-process cases, whose oracle withholds single cells.
fn query(random: &mut StdRng) -> (String, String) {
    let condition = [
        "",
        " WHERE p.score > 0",
        " WHERE o.paid",
        " WHERE p.born < DATE '1975-01-01' AND NOT o.paid",
        " WHERE o.price > p.score",
        " WHERE p.area <> 'east' OR p.score < 100",
    ][random.random_range(0..6)];
    let (key, order) = [
        ("p.area", " ORDER BY p.area"),
        ("o.paid", " ORDER BY o.paid"),
    ][random.random_range(0..2)];
    let having = ["", " HAVING COUNT(*) > 40"][random.random_range(0..2)];
    let limit = ["", " LIMIT 2"][random.random_range(0..2)];
    let from =
        |people: &str, orders: &str| format!("FROM {people} p JOIN {orders} o ON p.id = o.id");
    let joint = format!(
        "SELECT {key} AS g, COUNT(*) AS n {}{condition} GROUP BY {key}{having}{order}{limit}",
        from("town.people", "shop.orders")
    );
    // The unit of orders is who orders, not the order.
    let threshold = format!("COUNT(DISTINCT p.id) >= {K} AND COUNT(DISTINCT o.id) >= {K}");
    let having = match having {
        "" => format!(" HAVING {threshold}"),
        more => format!("{more} AND {threshold}"),
    };
    let clear = format!(
        "SELECT {key} AS g, COUNT(*) AS n {}{condition} GROUP BY {key}{having}{order}{limit}",
        from("raw_town_people", "raw_shop_orders")
    );
    (joint, clear)
}
