//! Departments of a test federation: tables as they lie on disk, and a policy that allows much.

use crate::catalog::{Catalog, Format, Published, Source, Table};
use crate::error::{Code, Error, Result};
use crate::policy::{AggregateFunction, Leakage, Level, Policy, Rule, Use};
use arrow::array::RecordBatch;
use std::fs::File;
use std::path::Path;

/// A table as its department stores it.
#[derive(Debug, Clone)]
pub struct TableData {
    /// What is published about it.
    pub table: Table,
    /// Its rows as stored, before canonicalisation.
    pub rows: RecordBatch,
    /// The kind of file.
    pub format: Format,
}

/// One department; without tables and policy it is a neutral gateway.
#[derive(Debug, Clone)]
pub struct Department {
    /// Its name.
    pub name: String,
    /// Its tables.
    pub tables: Vec<TableData>,
    /// Its rules.
    pub policy: Option<Policy>,
}

impl Department {
    /// A gateway without data.
    #[must_use]
    pub fn neutral(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tables: vec![],
            policy: None,
        }
    }

    /// What other gateways may see; none without tables.
    #[must_use]
    pub fn published(&self) -> Option<Published> {
        if self.tables.is_empty() {
            return None;
        }
        let mut tables: Vec<Table> = self.tables.iter().map(|data| data.table.clone()).collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Published {
            department: self.name.clone(),
            tables,
        })
    }

    /// Writes the tables into `folder` and says where they are.
    pub(super) fn write(&self, folder: &Path) -> Result<Option<Catalog>> {
        let Some(published) = self.published() else {
            return Ok(None);
        };
        let failed = |_: std::io::Error| Error::new(Code::Internal, "cannot write test tables");
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut sources = vec![];
        for table in &published.tables {
            let data = self
                .tables
                .iter()
                .find(|data| data.table.name == table.name);
            let data = data.ok_or_else(|| Error::new(Code::Internal, "a table without rows"))?;
            let extension = match data.format {
                Format::Csv => "csv",
                Format::Parquet => "parquet",
            };
            let path = folder.join(format!("{}.{extension}", table.name));
            let file = File::create(&path).map_err(failed)?;
            write_rows(file, data)?;
            sources.push(Source {
                path,
                format: data.format,
            });
        }
        Ok(Some(Catalog { published, sources }))
    }
}

fn write_rows(file: File, data: &TableData) -> Result<()> {
    let failed = || Error::new(Code::Internal, "cannot write test tables");
    match data.format {
        Format::Csv => {
            let mut writer = arrow::csv::WriterBuilder::new()
                .with_header(true)
                .build(file);
            writer.write(&data.rows).map_err(|_| failed())
        }
        Format::Parquet => {
            let schema = data.rows.schema();
            let writer = parquet::arrow::ArrowWriter::try_new(file, schema, None);
            let mut writer = writer.map_err(|_| failed())?;
            writer.write(&data.rows).map_err(|_| failed())?;
            writer.close().map_err(|_| failed())?;
            Ok(())
        }
    }
}

/// A policy that allows every use but raw output, with one k and one leakage for all.
#[must_use]
pub fn open_policy(
    department: &str,
    tables: &[&str],
    k: u32,
    leakage: Leakage,
    computing: Vec<[String; 3]>,
) -> Policy {
    let uses = [
        Use::JoinKey,
        Use::Filter,
        Use::GroupKey,
        Use::Aggregate(AggregateFunction::Count),
        Use::Aggregate(AggregateFunction::Sum),
        Use::Aggregate(AggregateFunction::Avg),
        Use::Having,
        Use::SortKey,
    ];
    let rule = |table: &str, permits: &Use| Rule {
        name: format!("{department}.{table}.*/{permits:?}"),
        table: table.to_owned(),
        column: "*".to_owned(),
        permits: permits.clone(),
        k,
        leakage,
        recipients: vec![],
        purposes: Vec::new(),
        case: false,
        weights: None,
    };
    Policy {
        department: department.to_owned(),
        version: [0; 32],
        computing,
        rules: tables
            .iter()
            .flat_map(|table| uses.iter().map(|permits| rule(table, permits)))
            .collect(),
        levels: tables
            .iter()
            .map(|table| ((*table).to_owned(), "*".to_owned(), Level::L1))
            .collect(),
        min_rows: 0,
    }
}

/// A policy that allows every use of every table but raw output, with one k for all: as a starter does.
#[must_use]
pub fn every_use(published: &Published, k: u32, leakage: Leakage) -> Policy {
    let names: Vec<&str> = published.tables.iter().map(|of| of.name.as_str()).collect();
    let mut policy = open_policy(&published.department, &names, k, leakage, Vec::new());
    let more = [
        AggregateFunction::Min,
        AggregateFunction::Max,
        AggregateFunction::Median,
    ];
    for table in names {
        for function in more {
            let permits = Use::Aggregate(function);
            policy.rules.push(Rule {
                name: format!("{}.{table}.*/{permits:?}", published.department),
                table: table.to_owned(),
                column: "*".to_owned(),
                permits,
                k,
                weights: None,
                leakage,
                recipients: vec![],
                purposes: Vec::new(),
                case: false,
            });
        }
    }
    policy
}

/// Every set of three of these gateways.
pub(super) fn triples(names: &[String]) -> Vec<[String; 3]> {
    let mut all = Vec::new();
    for (i, a) in names.iter().enumerate() {
        for (j, b) in names.iter().enumerate().skip(i + 1) {
            for c in names.iter().skip(j + 1) {
                all.push([a.clone(), b.clone(), c.clone()]);
            }
        }
    }
    all
}
