//! The 22 queries of TPC-H over gateways of five departments and a neutral one, in processes of their
//! own; the larger tables are left to the tests in process and to the benchmark.

use crate::support::{Sandbox, run, text};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::tpch::{self, Split};

#[test]
fn tpch_over_processes() {
    let folder = tempfile::tempdir().unwrap();
    let departments = tpch::departments(Split::Apart, 0.01, Leakage::None, true).unwrap();
    tpch::write(folder.path(), &departments).unwrap();
    let tables: Vec<(String, RecordBatch)> = departments
        .into_iter()
        .flat_map(|department| department.tables)
        .map(|data| (data.table.name.clone(), data.rows))
        .collect();
    let sandbox = Sandbox::start(folder.path());
    let dir = sandbox.dir.to_string_lossy().into_owned();
    for number in 1..=22 {
        let sql = tpch::query(number, Split::Apart).unwrap();
        let output = run(&["query", "--dir", &dir, "--output", "arrow", &sql]);
        assert!(
            output.status.success(),
            "{number}: {}",
            text(&output.stderr)
        );
        let reader = StreamReader::try_new(output.stdout.as_slice(), None).unwrap();
        let schema = reader.schema();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        let found = concat_batches(&schema, &batches).unwrap();
        let plain = tpch::plain_query(number).unwrap();
        let expected = tpch::clear(&plain, &tables).unwrap();
        assert_eq!(tpch::lines(&found), tpch::lines(&expected), "{number}");
    }
}

#[test]
fn text_does_not_leave_where_no_rule_lets_it() {
    let folder = tempfile::tempdir().unwrap();
    let departments = tpch::departments(Split::Default, 0.01, Leakage::Sizes, false).unwrap();
    tpch::write(folder.path(), &departments).unwrap();
    let sandbox = Sandbox::start(folder.path());
    let dir = sandbox.dir.to_string_lossy().into_owned();
    // The suppliers' names and addresses are free text.
    let sql = tpch::query(20, Split::Default).unwrap();
    let output = run(&["query", "--dir", &dir, "--output", "arrow", &sql]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let errors = text(&output.stderr);
    assert!(errors.contains("no rule allows output"), "{errors}");
    // What is a number of groups is not.
    let sql = tpch::query(4, Split::Default).unwrap();
    let output = run(&["query", "--dir", &dir, "--output", "arrow", &sql]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}
