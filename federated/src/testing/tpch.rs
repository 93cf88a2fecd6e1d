//! TPC-H over several departments: its eight tables as [`tpchgen`] makes them, published and stored like
//! any department's, and its 22 queries with every table named after its department.

use super::{Department, TableData};
use crate::catalog::{Column, Format, Table, Unit};
use crate::error::{Code, Error, Result};
pub use crate::local::clear;
use crate::policy::{Leakage, Level, Policy, Rule, Use};
use crate::schema::ScalarType;
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatchReader;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tpchgen::generators as made;
use tpchgen_arrow as arrows;

/// The text of the queries.
const QUERIES: &str = include_str!("tpch/queries.sql");

/// Which department has which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Customs has lineitem and orders, tax customer, market part, supplier and partsupp, stats nation
    /// and region.
    Default,
    /// As [`Self::Default`], but orders belong to port.
    Apart,
    /// As [`Self::Default`], but port has the lineitems of even orders, and `national.lineitem` means all.
    Horizontal,
}

impl Split {
    /// The split of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::Default),
            "apart" => Some(Self::Apart),
            "horizontal" => Some(Self::Horizontal),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Apart => "apart",
            Self::Horizontal => "horizontal",
        }
    }

    /// Federated tables and their members.
    #[must_use]
    pub fn federated(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Default | Self::Apart => &[],
            Self::Horizontal => &[("national.lineitem", &["customs.lineitem", "port.lineitem"])],
        }
    }

    /// Federated tables as a federation file declares them.
    #[must_use]
    pub fn declarations(self) -> String {
        let mut out = String::new();
        for (name, members) in self.federated() {
            let members = members.join("\", \"");
            let _ = write!(
                out,
                "[[federated_tables]]\nname = \"{name}\"\nmembers = [\"{members}\"]\n"
            );
        }
        out
    }

    /// Departments with their tables, in ascending order of name.
    #[must_use]
    pub fn departments(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Default => &[
                ("customs", &["lineitem", "orders"]),
                ("market", &["part", "partsupp", "supplier"]),
                ("stats", &["nation", "region"]),
                ("tax", &["customer"]),
            ],
            Self::Horizontal => &[
                ("customs", &["lineitem", "orders"]),
                ("market", &["part", "partsupp", "supplier"]),
                ("port", &["lineitem"]),
                ("stats", &["nation", "region"]),
                ("tax", &["customer"]),
            ],
            Self::Apart => &[
                ("customs", &["lineitem"]),
                ("market", &["part", "partsupp", "supplier"]),
                ("port", &["orders"]),
                ("stats", &["nation", "region"]),
                ("tax", &["customer"]),
            ],
        }
    }

    /// The department that has a table, or what stands for those that have its rows.
    #[must_use]
    pub fn home(self, table: &str) -> &'static str {
        let federated = self.federated().iter();
        for (space, name) in federated.filter_map(|(name, _)| name.split_once('.')) {
            if name == table {
                return space;
            }
        }
        let mut departments = self.departments().iter();
        departments
            .find(|(_, tables)| tables.contains(&table))
            .map_or("", |(department, _)| department)
    }
}

/// The text of query `number` (1 to 22), tables named after the departments of the split; none for
/// another number.
#[must_use]
pub fn query(number: usize, split: Split) -> Option<String> {
    named(number, |table| format!("{}.{table}", split.home(table)))
}

/// The same over tables without departments.
#[must_use]
pub fn plain_query(number: usize) -> Option<String> {
    named(number, str::to_owned)
}

fn named(number: usize, name: impl Fn(&str) -> String) -> Option<String> {
    let head = format!("-- {number}\n");
    let text = QUERIES
        .split("\n\n")
        .find_map(|part| part.trim_start().strip_prefix(&head))?;
    let mut out = String::new();
    let mut rest = text.trim();
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (table, after) = after.split_once('}')?;
        let (table, alias) = table.split_once(':').unwrap_or((table, table));
        let _ = write!(out, "{} {alias}", name(table));
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// The rows of a table at a scale factor, integers as 64 bits and text as UTF-8.
///
/// # Errors
/// `Internal` for a table that TPC-H does not have.
pub fn table(name: &str, scale: f64) -> Result<RecordBatch> {
    let failed = |_| Error::new(Code::Internal, "a TPC-H table cannot be made");
    let batches = |reader: &mut dyn RecordBatchReader| -> Result<RecordBatch> {
        let schema = reader.schema();
        let parts: Vec<RecordBatch> = reader
            .collect::<std::result::Result<_, _>>()
            .map_err(failed)?;
        concat_batches(&schema, &parts).map_err(failed)
    };
    let rows = match name {
        "customer" => batches(&mut arrows::CustomerArrow::new(
            made::CustomerGenerator::new(scale, 1, 1),
        )),
        "lineitem" => batches(&mut arrows::LineItemArrow::new(
            made::LineItemGenerator::new(scale, 1, 1),
        )),
        "nation" => batches(&mut arrows::NationArrow::new(
            made::NationGenerator::default(),
        )),
        "orders" => batches(&mut arrows::OrderArrow::new(made::OrderGenerator::new(
            scale, 1, 1,
        ))),
        "part" => batches(&mut arrows::PartArrow::new(made::PartGenerator::new(
            scale, 1, 1,
        ))),
        "partsupp" => batches(&mut arrows::PartSuppArrow::new(
            made::PartSuppGenerator::new(scale, 1, 1),
        )),
        "region" => batches(&mut arrows::RegionArrow::new(
            made::RegionGenerator::default(),
        )),
        "supplier" => batches(&mut arrows::SupplierArrow::new(
            made::SupplierGenerator::new(scale, 1, 1),
        )),
        _ => Err(Error::new(Code::Internal, "TPC-H has no such table")),
    }?;
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let data_type = match field.data_type() {
            DataType::Int32 => DataType::Int64,
            DataType::Utf8View => DataType::Utf8,
            other => other.clone(),
        };
        columns.push(cast(column, &data_type).map_err(failed)?);
        fields.push(Field::new(field.name(), data_type, false));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)
}

/// The declared key of a table.
fn key(name: &str) -> &'static [&'static str] {
    match name {
        "customer" => &["c_custkey"],
        "lineitem" => &["l_orderkey", "l_linenumber"],
        "nation" => &["n_nationkey"],
        "orders" => &["o_orderkey"],
        "part" => &["p_partkey"],
        "partsupp" => &["ps_partkey", "ps_suppkey"],
        "region" => &["r_regionkey"],
        _ => &["s_suppkey"],
    }
}

/// Text of so few values that they are published as codes.
const MAX_CODES: usize = 160;

/// What is published of a table: bounds on its integers, codes of text of few values, the most bytes of
/// other text.
fn published(name: &str, rows: &RecordBatch) -> Result<Table> {
    let mut columns = Vec::new();
    for (field, values) in rows.schema().fields().iter().zip(rows.columns()) {
        let data_type = ScalarType::from_arrow(field.data_type())
            .ok_or_else(|| Error::new(Code::Internal, "a type that does not cross"))?;
        let mut column = Column {
            name: field.name().clone(),
            data_type,
            nullable: false,
            description: String::new(),
            canonical: Vec::new(),
            max_bytes: 0,
            codes: Vec::new(),
            max_distinct: 0,
            max_abs: 0,
            max_repeats: 0,
            fixed_point: false,
        };
        let any: &dyn std::any::Any = values.as_any();
        if let Some(texts) = any.downcast_ref::<StringArray>() {
            let longest = texts.iter().flatten().map(str::len).max().unwrap_or(0);
            column.max_bytes = u32::try_from(longest).unwrap_or(u32::MAX).max(1);
            let mut seen: BTreeSet<&str> = BTreeSet::new();
            for text in texts.iter().flatten() {
                if seen.insert(text) && seen.len() > MAX_CODES {
                    break;
                }
            }
            let comment = field.name().ends_with("_comment") || field.name().ends_with("_name");
            let small = matches!(name, "nation" | "region");
            if seen.len() <= MAX_CODES && (!comment || small) {
                column.codes = seen.into_iter().map(str::to_owned).collect();
            }
        } else if let Some(numbers) = any.downcast_ref::<arrow::array::Int64Array>() {
            let most = numbers.iter().flatten().map(i64::unsigned_abs).max();
            column.max_abs = most.unwrap_or(0).max(1);
            let seen: BTreeSet<i64> = numbers.iter().flatten().collect();
            column.max_distinct = (seen.len() as u64).max(1);
        } else if let Some(numbers) = any.downcast_ref::<arrow::array::Decimal128Array>() {
            let most = numbers.iter().flatten().map(i128::unsigned_abs).max();
            column.max_abs = u64::try_from(most.unwrap_or(0)).unwrap_or(0).max(1);
        } else if let Some(dates) = any.downcast_ref::<arrow::array::Date32Array>() {
            let seen: BTreeSet<i32> = dates.iter().flatten().collect();
            column.max_distinct = (seen.len() as u64).max(1);
        }
        columns.push(column);
    }
    Ok(Table {
        name: name.to_owned(),
        description: String::new(),
        key: key(name).iter().map(|of| (*of).to_owned()).collect(),
        unit: Unit::Row,
        max_rows: (rows.num_rows() as u64).max(1),
        columns,
    })
}

/// The departments of a split with their tables at a scale factor, and the neutral bureau. Every use of
/// every column is allowed with k = 1 under this leakage; raw output of free text only where `output`.
///
/// # Errors
/// `Internal` when a table cannot be made.
pub fn departments(
    split: Split,
    scale: f64,
    leakage: Leakage,
    output: bool,
) -> Result<Vec<Department>> {
    let names: Vec<&str> = split.departments().iter().map(|(name, _)| *name).collect();
    let mut sets = Vec::new();
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            sets.push(["bureau".to_owned(), (*a).to_owned(), (*b).to_owned()]);
        }
    }
    let mut departments = vec![Department::neutral("bureau")];
    for (department, tables) in split.departments() {
        let mut stored = Vec::new();
        let mut rules = Vec::new();
        let mut levels = Vec::new();
        for name in *tables {
            let whole = table(name, scale)?;
            let mut table = published(name, &whole)?;
            let rows = share(split, department, name, whole)?;
            table.max_rows = (rows.num_rows() as u64).max(1);
            levels.push(((*name).to_owned(), "*".to_owned(), Level::L1));
            for permits in Use::ALL {
                if permits == Use::Output && !output {
                    continue;
                }
                rules.push(Rule {
                    name: format!("{department}.{name}.*/{permits}"),
                    table: (*name).to_owned(),
                    column: "*".to_owned(),
                    permits,
                    k: 1,
                    leakage,
                    recipients: Vec::new(),
                    purposes: Vec::new(),
                    case: false,
                    weights: None,
                });
            }
            stored.push(TableData {
                table,
                rows,
                format: Format::Parquet,
            });
        }
        departments.push(Department {
            name: (*department).to_owned(),
            tables: stored,
            policy: Some(Policy::new(
                (*department).to_owned(),
                sets.clone(),
                rules,
                levels,
            )?),
        });
    }
    Ok(departments)
}

/// A department's part of a table.
fn share(split: Split, department: &str, name: &str, rows: RecordBatch) -> Result<RecordBatch> {
    if split != Split::Horizontal || name != "lineitem" {
        return Ok(rows);
    }
    let failed = || Error::new(Code::Internal, "a TPC-H table cannot be divided");
    let keys: &dyn std::any::Any = rows.column(0).as_any();
    let keys = keys.downcast_ref::<arrow::array::Int64Array>();
    let even = department == "port";
    let own: arrow::array::BooleanArray = keys
        .ok_or_else(failed)?
        .iter()
        .map(|key| key.map(|key| (key % 2 == 0) == even))
        .collect();
    arrow::compute::filter_record_batch(&rows, &own).map_err(|_| failed())
}

/// The tables of all departments by name, each with the rows of all that have some.
///
/// # Errors
/// `Internal` when rows of one table have two schemas.
pub fn whole(departments: &[Department]) -> Result<Vec<(String, RecordBatch)>> {
    let mut tables: Vec<(String, RecordBatch)> = Vec::new();
    for data in departments.iter().flat_map(|of| &of.tables) {
        let known = tables.iter_mut().find(|(name, _)| *name == data.table.name);
        match known {
            Some((_, rows)) => {
                *rows = concat_batches(&rows.schema(), [&*rows, &data.rows])
                    .map_err(|_| Error::new(Code::Internal, "a table of two schemas"))?;
            }
            None => tables.push((data.table.name.clone(), data.rows.clone())),
        }
    }
    Ok(tables)
}

/// Writes departments' tables, catalogues and rules below `folder`, as a sandbox reads them.
///
/// # Errors
/// `Internal` when a file cannot be written.
pub fn write(folder: &Path, departments: &[Department]) -> Result<()> {
    let failed = |_| Error::new(Code::Internal, "cannot write a file of a department");
    for department in departments {
        let own = folder.join(&department.name);
        std::fs::create_dir_all(&own).map_err(failed)?;
        let (Some(catalog), Some(policy)) = (department.write(&own)?, &department.policy) else {
            continue;
        };
        let text = crate::catalog::file::render(&catalog, &own);
        std::fs::write(own.join(crate::catalog::file::FILE_NAME), text).map_err(failed)?;
        let text = policy_text(department, policy);
        std::fs::write(own.join(crate::policy::file::FILE_NAME), text).map_err(failed)?;
    }
    Ok(())
}

/// The rules of [`departments`] as a file.
fn policy_text(department: &Department, policy: &Policy) -> String {
    let leakage = policy
        .rules
        .first()
        .map_or(Leakage::None, |rule| rule.leakage)
        .name();
    let sets: Vec<String> = policy
        .computing
        .iter()
        .map(|set| format!("[\"{}\"]", set.join("\", \"")))
        .collect();
    let mut out = format!(
        "version = 1\ndepartment = \"{}\"\ncomputing = [{}]\n",
        department.name,
        sets.join(", ")
    );
    for data in &department.tables {
        let name = &data.table.name;
        let _ = writeln!(out, "\n[tables.{name}]\nlevel = \"L1\"\nallow = [");
        for rule in policy.rules.iter().filter(|rule| rule.table == *name) {
            let what = match &rule.permits {
                Use::Aggregate(function) => {
                    format!("use = \"aggregate\", functions = [\"{}\"]", function.name())
                }
                other => format!("use = \"{other}\""),
            };
            let _ = writeln!(out, "  {{ {what}, k = 1, leakage = \"{leakage}\" }},");
        }
        let _ = writeln!(out, "]");
    }
    out
}

/// Rows as text, floating point to six digits.
#[must_use]
pub fn lines(batch: &RecordBatch) -> Vec<String> {
    let texts: Vec<Option<StringArray>> = batch
        .columns()
        .iter()
        .map(|column| {
            let column = match column.data_type() {
                DataType::Float64 => cast(column, &DataType::Decimal128(38, 6)).ok()?,
                _ => Arc::clone(column),
            };
            let text = cast(&column, &DataType::Utf8).ok()?;
            let any: &dyn std::any::Any = text.as_any();
            any.downcast_ref::<StringArray>().cloned()
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<&str> = texts
                .iter()
                .map(|text| match text {
                    None => "?",
                    Some(text) if text.is_null(row) => "NULL",
                    Some(text) => text.value(row),
                })
                .collect();
            cells.join("|")
        })
        .collect()
}
