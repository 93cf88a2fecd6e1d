//! Queries over two departments whose files hold the same things in different types.

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int16Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray, TimestampSecondArray, UInt8Array, UInt64Array,
};
use arrow::compute::concat_batches;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use std::sync::Arc;
use veilgate_federated::catalog::{Column, Format, Table, Unit};
use veilgate_federated::error::Code;
use veilgate_federated::local::clear_session;
use veilgate_federated::plan::Operator;
use veilgate_federated::plan::explain::explain;
use veilgate_federated::policy::{AggregateFunction, Leakage, Rule, Use};
use veilgate_federated::testing::{Answer, Department, Federation, TableData, open_policy};

/// What the departments store, and what it means to the engine in the clear.
struct World {
    federation: Federation,
    clear: SessionContext,
    _folder: tempfile::TempDir,
}

fn column(name: &str, data_type: &str) -> Column {
    let nullable = name != "id";
    let json = serde_json::json!({ "name": name, "type": data_type, "nullable": nullable });
    serde_json::from_value(json).unwrap()
}

/// A department's table `t` of these columns: as declared, as stored, as meant.
type Given = (&'static str, Vec<(Column, ArrayRef, ArrayRef)>);

fn world(given: Vec<Given>, leakage: Leakage) -> World {
    let folder = tempfile::tempdir().unwrap();
    let clear = clear_session();
    let mut departments = vec![Department::neutral("bureau")];
    let seats = vec![["bureau", "customs", "tax"].map(str::to_owned)];
    for (name, columns) in given {
        let rows = |meant: bool| {
            let of = columns.iter().map(|(column, stored, clean)| {
                let array = if meant { clean } else { stored };
                (column.name.clone(), Arc::clone(array), true)
            });
            RecordBatch::try_from_iter_with_nullable(of).unwrap()
        };
        let memory = MemTable::try_new(rows(true).schema(), vec![vec![rows(true)]]).unwrap();
        let schema = MemorySchemaProvider::new();
        schema
            .register_table("t".to_owned(), Arc::new(memory))
            .unwrap();
        let catalog = clear.catalog("datafusion").unwrap();
        catalog.register_schema(name, Arc::new(schema)).unwrap();
        let table = Table {
            name: "t".to_owned(),
            description: String::new(),
            key: vec!["id".to_owned()],
            unit: Unit::Row,
            max_rows: 16,
            columns: columns.iter().map(|(column, ..)| column.clone()).collect(),
        };
        let mut policy = open_policy(name, &["t"], 1, leakage, seats.clone());
        for permits in [
            Use::Output,
            Use::Aggregate(AggregateFunction::Min),
            Use::Aggregate(AggregateFunction::Max),
        ] {
            policy.rules.push(Rule {
                name: format!("{name}.t.*/{permits}"),
                table: "t".to_owned(),
                column: "*".to_owned(),
                permits,
                k: 1,
                leakage,
                recipients: vec![],
                purposes: Vec::new(),
                case: false,
                weights: None,
            });
        }
        departments.push(Department {
            name: name.to_owned(),
            tables: vec![TableData {
                table,
                rows: rows(false),
                format: Format::Parquet,
            }],
            policy: Some(policy),
        });
    }
    World {
        federation: Federation::new(folder.path(), departments).unwrap(),
        clear,
        _folder: folder,
    }
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    (0..batch.num_rows())
        .map(|row| {
            let cells = batch.columns().iter().map(|column| {
                let cell = arrow::util::display::ArrayFormatter::try_new(column, &options);
                cell.unwrap().value(row).to_string()
            });
            cells.collect::<Vec<_>>().join("|")
        })
        .collect()
}

impl World {
    /// The answer, which is the clear engine's too.
    fn equal(&mut self, sql: &str) -> Answer {
        let answer = self.federation.run_query(sql, "tax", None);
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let clear = runtime.block_on(async {
            // The engine's own literals are in nanoseconds, which do not reach every year.
            let sql = sql.replace("TIMESTAMP '", "TIMESTAMP(6) '");
            let frame = self.clear.sql(&sql).await.unwrap();
            let schema = Arc::new(frame.schema().as_arrow().clone());
            concat_batches(&schema, &frame.collect().await.unwrap()).unwrap()
        });
        assert!(clear.num_rows() > 0, "{sql} shows nothing");
        assert_eq!(lines(&answer.batch), lines(&clear), "{sql}");
        answer
    }
}

/// Timestamps around 1970 and far from it, narrow and unsigned integers, floats; both departments with
/// the same ids but other units.
fn typed(leakage: Leakage) -> World {
    let at = [
        -1,
        0,
        1_709_251_199_999_999,
        1_709_251_200_000_000,
        253_402_300_799_999_999,
        -62_135_596_800_000_000,
    ];
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(at.to_vec()));
    let seconds: Vec<i64> = at.iter().map(|v| v.div_euclid(1_000_000)).collect();
    let floored: Vec<i64> = seconds.iter().map(|v| v * 1_000_000).collect();
    let ids: ArrayRef = Arc::new(Int16Array::from(vec![1, 2, 3, 4, 5, 6]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5, 6]));
    let codes: ArrayRef = Arc::new(UInt8Array::from(vec![200, 200, 7, 7, 7, 255]));
    let wide_codes: ArrayRef = Arc::new(Int64Array::from(vec![200, 200, 7, 7, 7, 255]));
    let huge: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1, 2, 3, 4, 5]));
    let decimals = |values: Vec<Option<i128>>, precision, scale| -> ArrayRef {
        let array = Decimal128Array::from(values);
        Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
    };
    let meant_huge = [u64::MAX, 1, 2, 3, 4, 5].map(|v| Some(v.into())).to_vec();
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(0.125),
        Some(-0.125),
        Some(1e-9),
        None,
        Some(1234.5678),
        Some(2.675),
    ]));
    let fixed = [Some(13), Some(-13), Some(0), None, Some(123_457), Some(267)].to_vec();
    let level = Column {
        fixed_point: true,
        ..column("level", "decimal(12,2)")
    };
    world(
        vec![
            (
                "customs",
                vec![
                    (column("id", "int64"), Arc::clone(&ids), Arc::clone(&wide)),
                    (column("at", "timestamp"), Arc::clone(&micros), micros),
                    (column("code", "int64"), codes, wide_codes),
                    (level, floats, decimals(fixed, 12, 2)),
                ],
            ),
            (
                "tax",
                vec![
                    (column("id", "int64"), ids, wide),
                    (
                        column("at", "timestamp"),
                        Arc::new(TimestampSecondArray::from(seconds)),
                        Arc::new(TimestampMicrosecondArray::from(floored)),
                    ),
                    (
                        column("huge", "decimal(20,0)"),
                        huge,
                        decimals(meant_huge, 20, 0),
                    ),
                ],
            ),
        ],
        leakage,
    )
}

#[test]
fn joint_answers_over_every_type_equal_clear_ones() {
    for leakage in [Leakage::Sizes, Leakage::None] {
        let mut world = typed(leakage);
        for sql in [
            // A join key, a result, an order.
            "SELECT c.at AS at, c.code AS code, t.huge AS huge FROM customs.t c JOIN \
             (SELECT at, MIN(huge) AS huge FROM tax.t GROUP BY at) t ON c.at = t.at ORDER BY at",
            // Comparison across departments, and with literals that nanoseconds do not reach.
            "SELECT c.id AS id, c.at AS at FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE c.at > t.at AND c.at < TIMESTAMP '9999-12-31 23:59:59.999999' \
             ORDER BY c.at DESC LIMIT 2",
            "SELECT c.id AS id FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE CASE WHEN t.huge > 2 THEN c.at ELSE t.at END >= TIMESTAMP '2024-03-01' \
             ORDER BY id",
            // Group keys, minima and maxima.
            "SELECT date_trunc('month', c.at) AS m, COUNT(*) AS n, SUM(t.huge) AS s FROM customs.t c \
             JOIN tax.t t ON c.id = t.id WHERE c.id BETWEEN 1 AND 4 GROUP BY date_trunc('month', c.at) \
             ORDER BY m",
            "SELECT c.code AS code, MIN(t.at) AS low, MAX(t.at) AS high, COUNT(DISTINCT t.at) AS n \
             FROM customs.t c JOIN tax.t t ON c.id = t.id GROUP BY c.code ORDER BY code",
            "SELECT c.at AS at, COUNT(*) AS n, SUM(c.level) AS s, AVG(c.level) AS a FROM customs.t c \
             JOIN tax.t t ON c.id = t.id GROUP BY c.at ORDER BY at",
            "SELECT CAST(c.at AS DATE) AS d, date_part('hour', c.at) AS h, SUM(t.id * c.code) AS s \
             FROM customs.t c JOIN tax.t t ON c.id = t.id GROUP BY CAST(c.at AS DATE), \
             date_part('hour', c.at) ORDER BY d, h",
            // Days among timestamps: a literal, and a cast.
            "SELECT c.id AS id, t.at AS at FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE c.at >= DATE '2024-03-01' AND CAST(t.at AS DATE) >= DATE '2024-01-01' ORDER BY id",
            "SELECT c.id AS id FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE c.at BETWEEN TIMESTAMP '1969-12-31' AND TIMESTAMP '2024-02-29 23:59:59.999999' \
             AND t.at IN (TIMESTAMP '1970-01-01', TIMESTAMP '2024-02-29 23:59:59') ORDER BY id",
            // Fixed point and unsigned sums.
            "SELECT SUM(c.level) AS s, SUM(t.huge) AS h, MAX(c.level) AS m, MIN(c.code) AS l \
             FROM customs.t c JOIN tax.t t ON c.id = t.id WHERE c.level <> 0.13 OR t.id = 1",
            "SELECT at, COUNT(*) AS n FROM (SELECT at FROM customs.t UNION ALL SELECT at FROM tax.t) \
             AS u GROUP BY at ORDER BY at",
        ] {
            world.equal(sql);
        }
    }
}

#[test]
fn explain_shows_types_and_the_error_bound() {
    let mut world = typed(Leakage::Sizes);
    let answer = world.equal(
        "SELECT c.at AS at, c.level AS level FROM customs.t c JOIN tax.t t ON c.id = t.id \
         WHERE c.at < TIMESTAMP '2000-01-01 12:00:00' ORDER BY at",
    );
    let plan = &answer.planned.plan;
    assert!(matches!(plan.operators.last(), Some(Operator::Program(_))));
    let text = explain(&answer.planned, &[]);
    assert!(text.contains("level ±0.005"), "{text}");
    assert!(
        text.contains("TIMESTAMP(6) '2000-01-01T12:00:00'"),
        "{text}"
    );
    let joint = world.federation.plan(
        "SELECT c.id AS id FROM customs.t c JOIN tax.t t ON c.id = t.id WHERE \
         CASE WHEN t.huge > c.id THEN c.at ELSE t.at END >= TIMESTAMP '2024-03-01 00:00:00.5'",
        "tax",
        None,
    );
    let text = explain(&joint.unwrap(), &[]);
    assert!(text.contains("'2024-03-01 00:00:00.500'"), "{text}");
    let block = world.federation.plan(
        "SELECT SUM(c.level) AS s FROM customs.t c JOIN tax.t t ON c.id = t.id",
        "tax",
        None,
    );
    let text = explain(&block.unwrap(), &[]);
    assert!(text.contains("level ±0.005"), "{text}");
}

#[test]
fn a_cast_that_can_fail_on_data_is_refused() {
    let world = typed(Leakage::Sizes);
    let refused = |sql: &str| {
        let planned = world.federation.plan(sql, "tax", None);
        planned
            .and_then(|planned| world.federation.check(&planned.plan, "tax"))
            .unwrap_err()
    };
    let error = refused(
        "SELECT c.code, COUNT(*) AS n FROM customs.t c JOIN tax.t t ON c.id = t.id \
         WHERE date_trunc('fortnight', c.at) < c.at GROUP BY c.code",
    );
    assert_eq!(error.code, Code::Unsupported, "{error}");
    assert!(
        error.message.contains("date_trunc to an unusual unit"),
        "{error}"
    );
    // In a query of several steps too.
    let error = refused(
        "SELECT c.code, date_trunc('fortnight', c.at) AS f FROM customs.t c LEFT JOIN tax.t t \
         ON c.id = t.id ORDER BY c.code LIMIT 3",
    );
    assert_eq!(error.code, Code::Unsupported, "{error}");
    // Not every date is a timestamp.
    let error = refused(
        "SELECT c.code, COUNT(*) AS n FROM customs.t c JOIN tax.t t ON c.id = t.id \
         WHERE c.at < CAST(CAST(c.at AS DATE) AS TIMESTAMP) GROUP BY c.code",
    );
    assert_eq!(error.code, Code::PolicyDenied, "{error}");
    assert!(error.message.contains("a cast"), "{error}");
    let error = refused("SELECT at FROM customs.t WHERE at < TIMESTAMP 's3cr3t'");
    assert!(!error.message.contains("s3cr3t"), "{error}");
}
