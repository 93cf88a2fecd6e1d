//! `veilgate catalog`: the tables and columns that the federation publishes, one row a column.

use super::args::{Common, ConnectArgs, Format};
use super::client::{Client, Member, until_signal};
use super::connect::Target;
use super::output::{self, Rows};
use super::{runtime, say};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use veilgate_federated::catalog::Unit;
use veilgate_federated::error::{Code, Error, Result};

pub(super) fn run(args: &ConnectArgs, common: &Common) -> Result<()> {
    let target = Target::resolve(args)?;
    let members = runtime()?.block_on(until_signal(async {
        Client::connect(&target).await?.catalog().await
    }))?;
    // Descriptions do not fit a terminal's width beside the rest.
    let described = common.output != Format::Table;
    output::print(&rows(&members, described)?, common.output)?;
    if !common.quiet {
        for member in members.iter().filter(|member| member.catalog.is_none()) {
            let why = if member.unavailable.is_empty() {
                "a neutral gateway, without data"
            } else {
                &member.unavailable
            };
            say(&format!("{}: {why}", member.department));
        }
    }
    Ok(())
}

/// One row for each published table.
pub(super) fn tables(members: &[Member]) -> Result<Rows> {
    let (mut names, mut columns, mut most) = (Vec::new(), Vec::new(), Vec::new());
    let mut descriptions = Vec::new();
    for catalog in members.iter().filter_map(|member| member.catalog.as_ref()) {
        for table in &catalog.tables {
            names.push(format!("{}.{}", catalog.department, table.name));
            columns.push(i64::try_from(table.columns.len()).unwrap_or(i64::MAX));
            most.push(i64::try_from(table.max_rows).unwrap_or(i64::MAX));
            descriptions.push(table.description.clone());
        }
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("table", Arc::new(StringArray::from(names))),
        ("columns", Arc::new(Int64Array::from(columns))),
        ("max_rows", Arc::new(Int64Array::from(most))),
        ("description", Arc::new(StringArray::from(descriptions))),
    ];
    RecordBatch::try_from_iter(columns)
        .map(Rows::from_batch)
        .map_err(|_| Error::new(Code::Internal, "the catalogue does not fit its columns"))
}

/// One row for each column of one table, `department.table`.
///
/// # Errors
/// `UnknownTable` for one that nobody publishes.
pub(super) fn rows_of(members: &[Member], name: &str) -> Result<Rows> {
    let mut of = members.to_vec();
    for member in &mut of {
        if let Some(catalog) = &mut member.catalog {
            let department = catalog.department.clone();
            let full = |table: &str| format!("{department}.{table}");
            catalog
                .tables
                .retain(|table| full(&table.name).eq_ignore_ascii_case(name));
        }
    }
    let found = of.iter().filter_map(|member| member.catalog.as_ref());
    if found.map(|catalog| catalog.tables.len()).sum::<usize>() == 0 {
        return Err(Error::new(
            Code::UnknownTable,
            "no department publishes a table of this name: \\dt lists them",
        ));
    }
    rows(&of, false)
}

/// One row for each published column.
fn rows(members: &[Member], described: bool) -> Result<Rows> {
    let (mut tables, mut names, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let (mut nullable, mut roles, mut max_rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut descriptions = Vec::new();
    for catalog in members.iter().filter_map(|member| member.catalog.as_ref()) {
        for table in &catalog.tables {
            for column in &table.columns {
                tables.push(format!("{}.{}", catalog.department, table.name));
                names.push(column.name.clone());
                types.push(match column.error_bound() {
                    Some(bound) => format!("{} ±{bound}", column.data_type),
                    None => column.data_type.to_string(),
                });
                nullable.push(column.nullable);
                let mut role = Vec::new();
                if table.key.contains(&column.name) {
                    role.push("key");
                }
                if matches!(&table.unit, Unit::Column(unit) if *unit == column.name) {
                    role.push("unit");
                }
                roles.push(role.join(", "));
                max_rows.push(i64::try_from(table.max_rows).unwrap_or(i64::MAX));
                descriptions.push(column.description.clone());
            }
        }
    }
    let text = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
    let mut columns = vec![
        ("table", text(tables)),
        ("column", text(names)),
        ("type", text(types)),
        (
            "nullable",
            Arc::new(BooleanArray::from(nullable)) as ArrayRef,
        ),
        ("role", text(roles)),
        ("max_rows", Arc::new(Int64Array::from(max_rows)) as ArrayRef),
    ];
    if described {
        columns.push(("description", text(descriptions)));
    }
    let batch = RecordBatch::try_from_iter(columns)
        .map_err(|_| Error::new(Code::Internal, "the catalogue does not fit its columns"))?;
    Ok(Rows::from_batch(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_a_column() {
        let published = serde_json::json!({
            "department": "civil",
            "tables": [{
                "name": "residents", "key": ["person_id"], "unit": { "column": "person_id" },
                "max_rows": 100,
                "columns": [
                    { "name": "person_id", "type": "utf8", "nullable": false },
                    { "name": "income", "type": "decimal(14,2)" },
                    { "name": "ratio", "type": "decimal(9,3)", "fixed_point": true },
                ],
            }],
        });
        let member = Member {
            department: "civil".into(),
            catalog: Some(serde_json::from_value(published).unwrap()),
            unavailable: String::new(),
        };
        let mut out = Vec::new();
        rows(&[member], true)
            .unwrap()
            .write(super::super::args::Format::Csv, 80, &mut out)
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "table,column,type,nullable,role,max_rows,description\n\
             civil.residents,person_id,utf8,false,\"key, unit\",100,\"\"\n\
             civil.residents,income,\"decimal(14,2)\",true,\"\",100,\"\"\n\
             civil.residents,ratio,\"decimal(9,3) ±0.0005\",true,\"\",100,\"\"\n"
        );
    }
}
