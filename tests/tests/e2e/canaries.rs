//! Nothing in the clear on disk: 64-bit canaries planted in rows that are filtered out, unmatched or
//! below k show in no file that gateways write, whatever becomes of the queries. (What crosses
//! between gateways is recorded and searched in `veilgate-federated`'s `differential` tests.)

use crate::support::{Sandbox, rows, text};
use std::fmt::Write as _;
use std::path::Path;

const FILTERED: i64 = 0x6C1D_35A7_92E4_B08F;
const UNMATCHED: i64 = 0x5B92_E41F_07C6_3DA1;
const BELOW_K: i64 = 0x4E37_A9D0_58B1_C62F;
const ID: i64 = 0x7A46_1FD3_C05E_982B;

#[test]
fn no_canary_in_any_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut people = String::from("id,area\n");
    let mut payments = String::from("id,amount,kind\n");
    for i in 0..60 {
        let _ = writeln!(people, "{i},big");
        let amount = if i % 2 == 0 { i } else { FILTERED };
        let kind = if i % 2 == 0 { "kept" } else { "dropped" };
        let _ = writeln!(payments, "{i},{amount},{kind}");
    }
    // Two people below k, one payment without a person.
    for i in [ID, ID + 1] {
        let _ = writeln!(people, "{i},small");
        let _ = writeln!(payments, "{i},{BELOW_K},kept");
    }
    let _ = writeln!(payments, "900,{UNMATCHED},kept");
    for (path, text) in [("town/people.csv", people), ("bank/payments.csv", payments)] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let sandbox = Sandbox::start(folder.path());
    let from = "FROM town.people a JOIN bank.payments p ON a.id = p.id WHERE p.kind = 'kept'";
    let got = rows(&sandbox.query(&format!(
        "SELECT a.area, COUNT(*) AS n, SUM(p.amount) AS total {from} GROUP BY a.area"
    )));
    assert_eq!(
        got,
        serde_json::json!([{"area": "big", "n": 30, "total": 870}])
    );
    // Refused, failed and unreadable queries write things too; a literal is no less secret.
    for (sql, code) in [
        (
            format!("SELECT p.amount {from} AND p.amount = {FILTERED}"),
            77,
        ),
        (
            format!("SELECT COUNT(*) AS n {from} AND p.amonut = {FILTERED}"),
            64,
        ),
        (format!("SELEC {FILTERED}"), 64),
    ] {
        let output = sandbox.query(&sql);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(&FILTERED.to_string()));
    }
    let mut searched = 0;
    search(&folder.path().join(".veilgate"), &mut searched);
    assert!(searched > 20, "only {searched} files searched");
}

fn search(folder: &Path, searched: &mut usize) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, searched);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        *searched += 1;
        for canary in [FILTERED, UNMATCHED, BELOW_K, ID] {
            let forms = [
                canary.to_string().into_bytes(),
                format!("{canary:x}").into_bytes(),
                canary.to_le_bytes().to_vec(),
                canary.to_be_bytes().to_vec(),
            ];
            for form in forms {
                assert!(
                    !bytes.windows(form.len()).any(|window| window == form),
                    "a canary in {}",
                    path.display()
                );
            }
        }
    }
}
