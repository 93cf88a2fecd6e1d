//! Random queries: the joint plan, run in the clear, gives what one engine over all tables gives,
//! and its unit counts are what counting distinct units gives.
//!
//! `VEILGATE_CASES` sets the number of cases, `VEILGATE_SEED` the first seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]

#[path = "planner/clear.rs"]
mod clear;

use clear::{Clear, Data, Rows, run};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{Field, Schema};
use std::sync::Arc;
use veilgate_federated::catalog::{Column, Published, Table, Unit};
use veilgate_federated::error::Code;
use veilgate_federated::flow::{Me, check};
use veilgate_federated::plan::{Engine, Line, Operator, Validated};
use veilgate_federated::planner::{Federation, Member, Request, Strategy, plan};
use veilgate_federated::policy::{Leakage, Level, Policy, Reason, Rule, Use};
use veilgate_federated::schema::ScalarType;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len() as u64) as usize]
    }
}

const DECIMAL: ScalarType = ScalarType::Decimal {
    precision: 9,
    scale: 2,
};

fn column(name: &str, data_type: ScalarType, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        data_type,
        nullable,
        description: String::new(),
        canonical: Vec::new(),
        max_bytes: if data_type == ScalarType::Utf8 { 12 } else { 0 },
        codes: Vec::new(),
        max_distinct: 0,
        max_abs: 0,
        max_repeats: 0,
        fixed_point: false,
    }
}

/// The same columns everywhere, so that queries can be composed freely.
fn columns() -> Vec<Column> {
    vec![
        column("id", ScalarType::Int64, false),
        column("alt", ScalarType::Int64, true),
        column("n", ScalarType::Int64, true),
        column("m", DECIMAL, true),
        column("w", DECIMAL, false),
        column("d", ScalarType::Date, true),
        column("b", ScalarType::Bool, true),
        Column {
            codes: ["east", "north", "west"].map(str::to_owned).to_vec(),
            ..column("area", ScalarType::Utf8, true)
        },
        column("t", ScalarType::Utf8, true),
        column("unit", ScalarType::Int64, true),
    ]
}

struct World {
    federation: Federation,
    data: Vec<Data>,
}

const DEPARTMENTS: [&str; 3] = ["alpha", "beta", "gamma"];

fn world(random: &mut Random) -> World {
    let mut members = vec![Member {
        department: "bureau".to_owned(),
        catalog: None,
        policy: None,
    }];
    let mut data = Vec::new();
    let leakage = if random.one_in(3) {
        Leakage::None
    } else {
        Leakage::Sizes
    };
    // The members stay in ascending order: alpha, beta, bureau, gamma.
    for department in DEPARTMENTS {
        let unique = random.one_in(2);
        let unit = match random.below(4) {
            0 => Unit::None,
            1 => Unit::Column("unit".to_owned()),
            2 if unique => Unit::Row,
            _ => Unit::Column("id".to_owned()),
        };
        let rows = random.below(30);
        let table = Table {
            name: "facts".to_owned(),
            description: String::new(),
            key: if unique {
                vec!["id".to_owned()]
            } else {
                Vec::new()
            },
            unit,
            max_rows: 100,
            columns: columns(),
        };
        let batch = batch(random, rows as usize, unique);
        data.push(Data {
            department: department.to_owned(),
            name: "facts".to_owned(),
            batch,
        });
        let rules = Use::ALL
            .into_iter()
            .map(|permits| Rule {
                name: format!("{permits}"),
                table: "facts".to_owned(),
                column: "*".to_owned(),
                permits,
                k: 1,
                leakage,
                recipients: Vec::new(),
                purposes: Vec::new(),
                case: false,
                weights: None,
            })
            .collect();
        let sets = [
            ["alpha", "beta", "bureau"],
            ["alpha", "bureau", "gamma"],
            ["beta", "bureau", "gamma"],
        ]
        .map(|set| set.map(str::to_owned));
        let levels = vec![("facts".to_owned(), "*".to_owned(), Level::L1)];
        members.push(Member {
            department: department.to_owned(),
            catalog: Some(Published {
                department: department.to_owned(),
                tables: vec![table],
            }),
            policy: Some(Policy::new(department.to_owned(), sets.to_vec(), rules, levels).unwrap()),
        });
    }
    members.sort_by(|a, b| a.department.cmp(&b.department));
    World {
        federation: Federation {
            members,
            tables: vec![],
        },
        data,
    }
}

fn batch(random: &mut Random, rows: usize, unique: bool) -> RecordBatch {
    let mut ids: Vec<i64> = (0..40).collect();
    for i in (1..ids.len()).rev() {
        ids.swap(i, random.below(i as u64 + 1) as usize);
    }
    let id: Int64Array = (0..rows)
        .map(|row| {
            Some(if unique {
                ids[row]
            } else {
                random.below(12) as i64
            })
        })
        .collect();
    let mut numbers = |range: u64, offset: i64, nulls: u64| -> Vec<Option<i64>> {
        (0..rows)
            .map(|_| {
                let value = random.below(range) as i64 - offset;
                (nulls == 0 || !random.one_in(nulls)).then_some(value)
            })
            .collect()
    };
    let alt = Int64Array::from(numbers(6, 0, 6));
    let n = Int64Array::from(numbers(2_000, 1_000, 4));
    let decimal = |values: Vec<Option<i64>>| {
        Decimal128Array::from(
            values
                .into_iter()
                .map(|v| v.map(i128::from))
                .collect::<Vec<_>>(),
        )
        .with_precision_and_scale(9, 2)
        .unwrap()
    };
    let m = decimal(numbers(200_000, 100_000, 4));
    let w = decimal(numbers(200_000, 100_000, 0));
    let d = Date32Array::from(
        numbers(20, 0, 5)
            .into_iter()
            .map(|v| v.map(|v| 10_000 + v as i32))
            .collect::<Vec<_>>(),
    );
    let b = BooleanArray::from(
        numbers(2, 0, 5)
            .into_iter()
            .map(|v| v.map(|v| v == 1))
            .collect::<Vec<_>>(),
    );
    let text = |values: Vec<Option<i64>>, words: &[&str]| {
        StringArray::from(
            values
                .into_iter()
                .map(|v| v.map(|v| words[v as usize].to_owned()))
                .collect::<Vec<_>>(),
        )
    };
    let area = text(numbers(3, 0, 6), &["east", "north", "west"]);
    let t = text(numbers(4, 0, 6), &["", "a", "b%", "it's"]);
    let unit = Int64Array::from(numbers(8, 0, 6));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(id),
        Arc::new(alt),
        Arc::new(n),
        Arc::new(m),
        Arc::new(w),
        Arc::new(d),
        Arc::new(b),
        Arc::new(area),
        Arc::new(t),
        Arc::new(unit),
    ];
    let fields: Vec<Field> = columns()
        .iter()
        .map(|column| Field::new(&column.name, column.data_type.to_arrow(), column.nullable))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// A condition on one table.
fn local(random: &mut Random, a: &str) -> String {
    let simple = match random.below(14) {
        0 => format!("{a}.n > {}", random.below(500)),
        1 => format!("{a}.m + 0.5 <= {a}.w * 2"),
        2 => format!("{a}.area IN ('east', 'west')"),
        3 => format!("{a}.t LIKE '%''%'"),
        4 => format!("{a}.d BETWEEN DATE '1997-05-20' AND DATE '1997-06-01'"),
        5 => format!("NOT {a}.b"),
        6 => format!("{a}.b IS NOT TRUE"),
        7 => format!("{a}.n IS NULL"),
        8 => format!("-{a}.n - ({a}.alt - 3) * 2 < 100"),
        9 => format!("coalesce({a}.n, 0) % 3 = 1"),
        10 => format!("upper({a}.t) <> 'A'"),
        11 => format!("date_part('day', {a}.d) > 25"),
        12 => format!("CASE WHEN {a}.b THEN {a}.n ELSE {a}.alt END > 2"),
        _ => format!("{a}.w NOT IN (1.00, 2.5) AND {a}.alt <> 3"),
    };
    if random.one_in(4) {
        let other = local(random, a);
        let word = random.pick(&["AND", "OR", "AND NOT"]);
        format!("({simple} {word} ({other}))")
    } else {
        simple
    }
}

/// A condition across two tables.
fn cross(random: &mut Random, a: &str, b: &str) -> String {
    let simple = match random.below(9) {
        0 => format!("{a}.n < {b}.n"),
        1 => format!("{a}.m * 2 >= {b}.w"),
        2 => format!("{a}.d <> {b}.d"),
        3 => format!("{a}.b = {b}.b"),
        4 => format!("{a}.area = {b}.area"),
        5 => format!("{a}.t <= {b}.t"),
        6 => format!("{a}.n BETWEEN {b}.m AND {b}.w"),
        7 => format!("{a}.alt + 1 IN ({b}.alt, {b}.n, 3)"),
        _ => format!("{a}.n > {b}.m"),
    };
    match random.below(6) {
        0 => format!("NOT ({simple} AND {})", local(random, a)),
        1 => format!("({simple} OR {})", local(random, b)),
        2 => format!(
            "({simple} OR {} OR {})",
            local(random, a),
            cross(random, b, a)
        ),
        3 => format!("NOT ({simple})"),
        _ => simple,
    }
}

struct Asked {
    sql: String,
    from: String,
    groups: Vec<String>,
    /// Column aliases of the tables, in order.
    aliases: Vec<&'static str>,
}

fn query(random: &mut Random) -> Asked {
    let tables = 1 + random.below(3) as usize;
    let mut departments = DEPARTMENTS.to_vec();
    let turn = random.below(3) as usize;
    departments.rotate_left(turn);
    let aliases: Vec<&'static str> = ["x", "y", "z"][..tables].to_vec();
    let mut from = format!("{}.facts x", departments[0]);
    let mut conditions = Vec::new();
    let commas = random.one_in(3);
    for i in 1..tables {
        let on = aliases[random.below(i as u64) as usize];
        let this = aliases[i];
        let mut join = match random.below(6) {
            0 => format!("{on}.alt = {this}.alt"),
            1 => format!("{on}.id = {this}.id AND {on}.alt = {this}.alt"),
            2 => format!("{on}.alt = {this}.id"),
            _ => format!("{on}.id = {this}.id"),
        };
        if commas {
            from = format!("{from}, {}.facts {this}", departments[i]);
            conditions.push(join);
        } else {
            if random.one_in(4) {
                join = format!("{join} AND {}", cross(random, this, on));
            }
            from = format!("{from} JOIN {}.facts {this} ON {join}", departments[i]);
        }
    }
    let any = |random: &mut Random| aliases[random.below(tables as u64) as usize];
    while random.one_in(2) {
        let a = any(random);
        let b = any(random);
        conditions.push(if a == b {
            local(random, a)
        } else {
            cross(random, a, b)
        });
    }
    let from = if conditions.is_empty() {
        from
    } else {
        format!("{from} WHERE {}", conditions.join(" AND "))
    };
    let mut groups: Vec<String> = Vec::new();
    for _ in 0..random.below(3) {
        let group = format!(
            "{}.{}",
            any(random),
            random.pick(&["area", "b", "d", "alt", "t", "m"])
        );
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut items = groups.clone();
    for _ in 0..=random.below(3) {
        let a = any(random);
        let item = match random.below(10) {
            0 => "COUNT(*)".to_owned(),
            1 => format!(
                "COUNT({a}.{})",
                random.pick(&["n", "t", "b", "d", "area", "w"])
            ),
            2 => format!("SUM({a}.n)"),
            3 => format!("SUM({a}.m)"),
            4 => format!("AVG({a}.n)"),
            5 => format!("AVG({a}.w)"),
            6 => format!("SUM({a}.m * 2 - {a}.w + 1)"),
            7 => format!("SUM({a}.n) / COUNT(*)"),
            8 => format!("COALESCE(SUM({a}.m), 0) + COUNT({a}.n)"),
            _ => format!("AVG({a}.m)"),
        };
        if !items.contains(&item) {
            items.push(item);
        }
    }
    let mut sql = format!("SELECT {} FROM {from}", items.join(", "));
    if !groups.is_empty() {
        sql.push_str(&format!(" GROUP BY {}", groups.join(", ")));
    }
    if random.one_in(4) {
        sql.push_str(&format!(" HAVING COUNT(*) > {}", random.below(3)));
    }
    if random.one_in(2) && !groups.is_empty() {
        let order: Vec<String> = (1..=groups.len())
            .map(|i| format!("{i} {}", random.pick(&["ASC", "DESC", "DESC NULLS LAST"])))
            .collect();
        sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
        if random.one_in(2) {
            sql.push_str(&format!(
                " LIMIT {} OFFSET {}",
                random.below(4),
                random.below(2)
            ));
        }
    }
    Asked {
        sql,
        from,
        groups,
        aliases,
    }
}

fn sorted(rows: &Rows) -> Vec<String> {
    let mut text: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    text.sort();
    text
}

/// Distinct units of each owner in each group, counted by the engine.
fn check_units(
    world: &World,
    asked: &Asked,
    clear: &Clear<'_>,
    planned: &veilgate_federated::plan::JointPlan,
    tables: &[(String, RecordBatch)],
    seed: u64,
) {
    let groups = clear.groups();
    let Some(Operator::Aggregate { units, .. }) = planned.operators.last() else {
        panic!("no aggregate")
    };
    // Relation i of the plan is the i-th table of FROM, with alias i.
    for (index, unit) in units
        .iter()
        .enumerate()
        .filter(|(_, unit)| unit.argument.is_none())
    {
        let department = &planned.parties[unit.owner].department;
        let relation = planned
            .fragments
            .iter()
            .position(|fragment| fragment.owner == unit.owner)
            .unwrap();
        let alias = asked.aliases[relation];
        let member = world.federation.member(department).unwrap();
        let table = &member.catalog.as_ref().unwrap().tables[0];
        let counted = match &table.unit {
            Unit::Column(column) => format!("COUNT(DISTINCT {alias}.{column})"),
            Unit::Row => format!("COUNT(DISTINCT {alias}.id)"),
            Unit::None => panic!("a unit of public data"),
        };
        let mut items = asked.groups.clone();
        items.push(counted);
        let mut sql = format!("SELECT {} FROM {}", items.join(", "), asked.from);
        if !asked.groups.is_empty() {
            sql.push_str(&format!(" GROUP BY {}", asked.groups.join(", ")));
        }
        let (expected, _) = run(&sql, tables);
        let expected = sorted(&expected);
        let have: Rows = groups
            .iter()
            .map(|group| {
                let mut row = group.keys.clone();
                row.push(datafusion::common::ScalarValue::Int64(Some(
                    group.units[index] as i64,
                )));
                row
            })
            .collect();
        assert_eq!(sorted(&have), expected, "units, seed {seed}: {}", asked.sql);
    }
}

#[test]
fn plans_mean_what_the_query_means() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let cases = number("VEILGATE_CASES").unwrap_or(150);
    let first = number("VEILGATE_SEED").unwrap_or(1);
    let (mut planned, mut refused) = (0_u64, 0_u64);
    for seed in first..first + cases {
        let mut random = Random(seed);
        let world = world(&mut random);
        let asked = query(&mut random);
        let strategy =
            [None, Some(Strategy::Aligned), Some(Strategy::Oblivious)][random.below(3) as usize];
        let made = plan(&Request {
            sql: &asked.sql,
            parameters: None,
            home: "alpha",
            federation: &world.federation,
            engine: Engine {
                version: String::new(),
                config_hash: [0; 32],
            },
            line: Line::default(),
            strategy,
        });
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                assert!(
                    matches!(error.code, Code::NotUnique | Code::Unsupported),
                    "seed {seed}: {}\n{error}",
                    asked.sql
                );
                refused += 1;
                continue;
            }
        };
        planned += 1;
        let validated = Validated::from_plan(&made.plan)
            .unwrap_or_else(|error| panic!("seed {seed}: {}\n{error}", asked.sql));
        for member in &world.federation.members {
            let me = Me {
                department: &member.department,
                catalog: member.catalog.as_ref(),
                policy: member.policy.as_ref(),
                engine: &made.plan.engine,
                home: "alpha",
                reason: Reason::default(),
            };
            if made.plan.party(&member.department).is_some() {
                check(&validated, &me)
                    .unwrap_or_else(|error| panic!("seed {seed}: {}\n{error}", asked.sql));
            }
        }
        let tables: Vec<_> = world
            .data
            .iter()
            .map(|table| (format!("{}.facts", table.department), table.batch.clone()))
            .collect();
        let (expected, schema) = run(&asked.sql, &tables);
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let output: Vec<&str> = made
            .plan
            .release
            .output
            .iter()
            .map(|o| o.name.as_str())
            .collect();
        assert_eq!(output, names, "seed {seed}: {}", asked.sql);
        // Programs are run by all parties, in the tests of TPC-H and in the differential test.
        if matches!(made.plan.operators.last(), Some(Operator::Program(_))) {
            continue;
        }
        let clear = Clear::new(&made.plan, &world.data);
        let have = clear.release(&clear.groups());
        if asked.sql.contains("ORDER BY") {
            assert_eq!(
                format!("{have:?}"),
                format!("{expected:?}"),
                "seed {seed}: {}",
                asked.sql
            );
        } else {
            assert_eq!(
                sorted(&have),
                sorted(&expected),
                "seed {seed}: {}",
                asked.sql
            );
        }
        check_units(&world, &asked, &clear, &made.plan, &tables, seed);
    }
    assert!(
        planned * 3 > cases,
        "{planned} of {cases} cases were planned, {refused} refused"
    );
}
