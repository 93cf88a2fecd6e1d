//! A federation of a few rows that a reader can count.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;
use veilgate_federated::catalog::{Column, Format, Table, Unit};
use veilgate_federated::policy::{AggregateFunction, Leakage, Rule, Use};
use veilgate_federated::schema::ScalarType;
use veilgate_federated::testing::{Department, TableData, open_policy};

const RESIDENTS: &str = "\
person_id,name,district,born,household,low_income
p01,Ada,east,1950-03-01,1,true
p02,Ben,east,1961-07-15,1,false
p03,Cai,east,1975-01-31,2,true
p04,Dan,north,1980-02-29,3,false
p05,Eva,north,1991-12-24,3,true
p06,Fay,north,1988-05-05,4,true
p07,Gil,north,1970-10-10,5,
p08,Han,south,1965-08-08,6,false
p09,Ida,south,,7,true
p10,Jun,south,1999-09-09,,true
p11,Kim,,1955-11-30,8,false
p12,Lea,west,1983-06-21,9,true
";

const INCOME: &str = "\
person_id,year,amount,employer
p01,2022,1200.00,10
p01,2023,1300.50,10
p02,2022,5200.00,11
p02,2023,,11
p03,2023,800.25,12
p04,2022,4100.00,11
p04,2023,4300.00,13
p05,2023,950.00,10
p06,2023,700.00,
p08,2022,6100.10,14
p08,2023,6400.90,14
p09,2023,300.00,12
p10,2022,-50.00,12
p13,2023,9999.99,15
p14,2023,1.00,15
";

const RATES: &str = "\
year,rate
2021,0.1000
2022,0.1250
2023,0.2000
";

const PENSION: &str = "\
person_id,status,monthly,since
p01,active,310.00,2010-04-01
p02,active,150.50,2021-01-01
p07,ended,200.00,2015-05-01
p08,active,420.75,2018-09-01
p11,active,,2019-02-01
p15,active,99.99,2020-12-01
";

const VISITS: &str = "\
person_id,day,cost
p01,2023-01-05,20.00
p01,2023-02-07,35.50
p01,2023-03-09,20.00
p03,2023-01-20,12.25
p05,2023-06-01,80.00
p05,2023-06-02,
p08,2023-07-14,44.00
p12,2023-08-30,7.00
p15,2023-09-01,15.00
";

fn column(name: &str, data_type: ScalarType, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        data_type,
        nullable,
        description: String::new(),
        canonical: Vec::new(),
        max_bytes: 0,
        codes: Vec::new(),
        max_distinct: 0,
        max_abs: 0,
        max_repeats: 0,
        fixed_point: false,
    }
}

fn text(name: &str, max_bytes: u32, nullable: bool) -> Column {
    Column {
        max_bytes,
        ..column(name, ScalarType::Utf8, nullable)
    }
}

fn coded(name: &str, codes: &[&str]) -> Column {
    Column {
        codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        ..column(name, ScalarType::Utf8, true)
    }
}

fn small(name: &str, max_abs: u64, nullable: bool) -> Column {
    Column {
        max_abs,
        ..column(name, ScalarType::Int64, nullable)
    }
}

fn decimal(precision: u8, scale: u8) -> ScalarType {
    ScalarType::Decimal { precision, scale }
}

fn table(name: &str, key: &[&str], unit: Unit, columns: Vec<Column>, csv: &str) -> TableData {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| {
            let data_type = match column.data_type {
                ScalarType::Utf8 => DataType::Utf8,
                other => other.to_arrow(),
            };
            Field::new(&column.name, data_type, true)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let reader = arrow::csv::ReaderBuilder::new(Arc::clone(&schema)).with_header(true);
    let mut reader = reader.build(csv.as_bytes()).unwrap();
    let rows: RecordBatch = reader.next().unwrap().unwrap();
    TableData {
        table: Table {
            name: name.to_owned(),
            description: String::new(),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            unit,
            max_rows: 40,
            columns,
        },
        rows,
        format: Format::Parquet,
    }
}

fn tables(department: &str) -> Vec<TableData> {
    let person = || text("person_id", 8, false);
    let unit = || Unit::Column("person_id".to_owned());
    match department {
        "civil" => vec![table(
            "residents",
            &["person_id"],
            unit(),
            vec![
                person(),
                text("name", 12, true),
                coded("district", &["east", "north", "south", "west"]),
                column("born", ScalarType::Date, true),
                small("household", 1_000, true),
                column("low_income", ScalarType::Bool, true),
            ],
            RESIDENTS,
        )],
        "tax" => vec![
            table(
                "income",
                &["person_id", "year"],
                unit(),
                vec![
                    person(),
                    small("year", 3_000, false),
                    column("amount", decimal(12, 2), true),
                    small("employer", 1_000, true),
                ],
                INCOME,
            ),
            table(
                "rates",
                &["year"],
                Unit::None,
                vec![
                    small("year", 3_000, false),
                    column("rate", decimal(5, 4), false),
                ],
                RATES,
            ),
        ],
        _ => vec![
            table(
                "pension",
                &["person_id"],
                unit(),
                vec![
                    person(),
                    coded("status", &["active", "ended"]),
                    column("monthly", decimal(10, 2), true),
                    column("since", ScalarType::Date, false),
                ],
                PENSION,
            ),
            table(
                "visits",
                &[],
                unit(),
                vec![
                    Column {
                        max_repeats: 5,
                        ..person()
                    },
                    column("day", ScalarType::Date, false),
                    column("cost", decimal(8, 2), true),
                ],
                VISITS,
            ),
        ],
    }
}

/// civil, social and tax with data, and the neutral bureau.
pub(crate) fn departments(guarded: bool) -> Vec<Department> {
    let sets = || {
        [
            ["bureau", "civil", "tax"],
            ["bureau", "civil", "social"],
            ["bureau", "social", "tax"],
        ]
        .iter()
        .map(|set| set.map(str::to_owned))
        .collect()
    };
    let mut all = vec![Department::neutral("bureau")];
    for name in ["civil", "social", "tax"] {
        let tables = tables(name);
        let names: Vec<&str> = tables.iter().map(|data| data.table.name.as_str()).collect();
        let k = if guarded { 3 } else { 1 };
        let mut policy = open_policy(name, &names, k, Leakage::Sizes, sets());
        let more = [
            Use::Output,
            Use::Aggregate(AggregateFunction::Min),
            Use::Aggregate(AggregateFunction::Max),
            Use::Aggregate(AggregateFunction::Median),
        ];
        for table in names.iter().filter(|_| !guarded) {
            for permits in more.clone() {
                policy.rules.push(Rule {
                    name: format!("{name}.{table}.*/{permits}"),
                    table: (*table).to_owned(),
                    column: "*".to_owned(),
                    permits,
                    k,
                    leakage: Leakage::Sizes,
                    recipients: vec![],
                    purposes: Vec::new(),
                    case: false,
                    weights: None,
                });
            }
        }
        all.push(Department {
            name: name.to_owned(),
            tables,
            policy: Some(policy),
        });
    }
    all
}
