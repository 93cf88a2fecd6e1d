//! Nothing in the clear: 64-bit canaries planted in rows that are filtered out, unmatched or below k
//! appear in no byte that crosses, and what crosses is uniform.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;
use veilgate_federated::catalog::{Column, Format, Table, Unit};
use veilgate_federated::planner::Strategy;
use veilgate_federated::policy::Leakage;
use veilgate_federated::schema::ScalarType;
use veilgate_federated::testing::{
    Department, Federation, Frame, Recorder, TableData, open_policy,
};

/// Values that occur nowhere else: all eight bytes differ from filling.
const CANARIES: [i64; 4] = [
    0x0123_4567_89ab_cdef,
    0x1badb002_deadbeef,
    0x7edc_ba98_7654_3210,
    0x5a17_c0de_f00d_cafe,
];
/// A text canary of eight bytes.
const WORD: &str = "CANARYtw";

fn column(name: &str, data_type: ScalarType, max_bytes: u32) -> Column {
    Column {
        name: name.to_owned(),
        data_type,
        nullable: false,
        description: String::new(),
        canonical: vec![],
        max_bytes,
        codes: vec![],
        max_distinct: 0,
        max_abs: 0,
        max_repeats: 0,
        fixed_point: false,
    }
}

fn department(name: &str, first: i64, rows: i64, sets: Vec<[String; 3]>) -> Department {
    let ids: Vec<i64> = (first..first + rows).collect();
    // Every tenth row holds a canary and is filtered out by `keep = 1`; group "CANARYtw" has one
    // member and is withheld; ids from 90 on are unmatched on the other side.
    let secret = |id: i64| id % 10 == 0 || id >= 90 || id == 7;
    let values: Vec<i64> = ids
        .iter()
        .map(|&id| {
            if secret(id) {
                CANARIES[usize::try_from(id.rem_euclid(4)).unwrap()]
            } else {
                id
            }
        })
        .collect();
    let keep: Vec<i64> = ids.iter().map(|id| i64::from(id % 10 != 0)).collect();
    let texts: Vec<&str> = ids
        .iter()
        .map(|&id| if id == 7 { WORD } else { "common" })
        .collect();
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(Int64Array::from(values)),
        Arc::new(Int64Array::from(keep)),
        Arc::new(StringArray::from(texts)),
    ];
    let columns = vec![
        column("id", ScalarType::Int64, 0),
        column("value", ScalarType::Int64, 0),
        column("keep", ScalarType::Int64, 0),
        column("word", ScalarType::Utf8, 8),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|c| Field::new(&c.name, c.data_type.to_arrow(), false))
        .collect();
    Department {
        name: name.to_owned(),
        tables: vec![TableData {
            table: Table {
                name: "t".to_owned(),
                description: String::new(),
                key: vec!["id".to_owned()],
                unit: Unit::Column("id".to_owned()),
                max_rows: 200,
                columns,
            },
            rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap(),
            format: Format::Parquet,
        }],
        policy: Some(open_policy(name, &["t"], 3, Leakage::Sizes, sets)),
    }
}

/// Runs the query; the ids of one side begin at `first`.
fn record(strategy: Strategy, seed: u64, first: i64) -> Vec<Frame> {
    let set = ["bureau", "civil", "tax"].map(str::to_owned);
    let departments = vec![
        Department::neutral("bureau"),
        department("civil", 0, 90, vec![set.clone()]),
        department("tax", first, 120, vec![set]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    let recorder = Recorder::default();
    federation.recorder = Some(recorder.clone());
    federation.seed = seed;
    let sql = "SELECT a.word, COUNT(*) AS n, SUM(b.value) AS s FROM civil.t a JOIN tax.t b \
               ON a.id = b.id WHERE a.keep = 1 AND b.keep = 1 AND a.value <= b.value \
               GROUP BY a.word";
    let answer = federation.run_query(sql, "civil", Some(strategy)).unwrap();
    assert_eq!(answer.planned.strategy, Some(strategy));
    assert_eq!(answer.batch.num_rows(), 1, "the group of one is withheld");
    recorder.take()
}

/// The canaries' bytes in every form in which a careless encoding would carry them.
fn needles() -> Vec<Vec<u8>> {
    let mut needles = vec![WORD.as_bytes().to_vec()];
    needles.push(WORD.bytes().rev().collect());
    for canary in CANARIES {
        needles.push(canary.to_le_bytes().to_vec());
        needles.push(canary.to_be_bytes().to_vec());
        needles.push(canary.to_string().into_bytes());
    }
    needles
}

#[test]
fn no_canary_crosses() {
    for strategy in [Strategy::Aligned, Strategy::Oblivious] {
        let frames = record(strategy, 11, 0);
        assert!(frames.len() > 20);
        for frame in &frames {
            for needle in needles() {
                let found = frame.payload.windows(needle.len()).any(|w| w == needle);
                assert!(
                    !found,
                    "{strategy}: a canary crossed at step {}",
                    frame.step
                );
            }
        }
    }
}

/// Chi-square of the bytes against uniform: 255 degrees of freedom.
fn chi_square(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let due = bytes.len() as f64 / 256.0;
    counts
        .iter()
        .map(|&count| (f64::from(count) - due).powi(2) / due)
        .sum()
}

/// Whether the protocol says that the message is not random: public sizes and statements, and
/// opened comparison results.
fn public(step: &str) -> bool {
    ["sizes", "statement", "reveal", "open", "positions"]
        .iter()
        .any(|name| step.contains(name))
}

#[test]
fn what_crosses_is_uniform() {
    for strategy in [Strategy::Aligned, Strategy::Oblivious] {
        let mut bytes = vec![];
        for seed in 21..24 {
            for frame in record(strategy, seed, 0) {
                // Planes are padded with zeros past the last row: whole frames of words only.
                if !public(&frame.step) && frame.payload.len() >= 1024 {
                    bytes.extend(frame.payload);
                }
            }
        }
        assert!(bytes.len() > 20_000, "{} bytes", bytes.len());
        let chi = chi_square(&bytes);
        // Mean 255, standard deviation 22.6: six of them.
        assert!(
            (120.0..391.0).contains(&chi),
            "{strategy}: chi-square {chi}"
        );
    }
}

#[test]
fn messages_do_not_depend_on_who_matches() {
    // Almost all rows match, or a third of them: the same messages of the same lengths. (The
    // oblivious join's sorts depend on a random order, so only alignment is that regular.)
    let shape = |seed, first| -> Vec<(u8, u8, String, usize)> {
        let mut frames: Vec<_> = record(Strategy::Aligned, seed, first)
            .into_iter()
            .filter(|frame| frame.step.starts_with("align"))
            .map(|frame| (frame.from.0, frame.to.0, frame.step, frame.payload.len()))
            .collect();
        frames.sort();
        frames
    };
    assert_eq!(shape(31, 0), shape(32, -60));
}
