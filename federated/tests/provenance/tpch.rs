//! The oracle over the 22 queries of TPC-H: with k = 1 it gives what the engine gives.

use crate::oracle::{Oracle, Verdict};
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::tpch::{Split, departments, query};

/// The tables of all departments, every unit with this k.
fn oracle(k: u32) -> Oracle {
    let departments = departments(Split::Default, 0.001, Leakage::None, true).unwrap();
    let mut tables = vec![];
    for department in departments {
        for data in department.tables {
            let name = format!("{}.{}", department.name, data.table.name);
            tables.push((name, data.rows, data.table.unit, k));
        }
    }
    Oracle::new(tables)
}

#[test]
fn tpch_is_as_the_engine_answers_it() {
    let (one, five) = (oracle(1), oracle(5));
    for number in 1..=22 {
        let sql = query(number, Split::Default).unwrap();
        let judged = one.judge(&sql);
        let judged = judged.unwrap_or_else(|error| panic!("{number}: {error}"));
        let plain = one.plain(&sql).unwrap();
        for answer in [&judged.expected, &plain] {
            let verdict = one.compare(&judged, answer, false, false);
            assert_eq!(verdict, Verdict::Equal, "{number}");
        }
        let guarded = five.judge(&sql);
        let guarded = guarded.map(|guarded| {
            let shown = guarded.groups.iter().filter(|group| group.shown).count();
            let own = five.compare(&guarded, &guarded.expected, true, true);
            assert_eq!(own, Verdict::Equal, "{number}");
            let verdict = five.compare(&guarded, &plain, false, sql.contains("limit"));
            assert!(
                !matches!(verdict, Verdict::Differs(_) | Verdict::Stricter { .. }),
                "{number}: {verdict:?}"
            );
            format!("{shown} of {} groups", guarded.groups.len())
        });
        println!(
            "{number}: {} rows, with k = 5 {}",
            plain.num_rows(),
            guarded.unwrap_or_else(|error| error)
        );
    }
}
