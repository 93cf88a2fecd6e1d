//! Catalogues, schemas, tables, keys and types, as clients ask for them.

use super::internal;
use crate::queries::QueryManager;
use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes,
    CommandGetTables, Nullable, Searchable, SqlInfo, SqlSupportedTransaction, XdbcDataType,
};
use std::sync::Arc;
use tonic::Status;
use veilgate_federated::error::{Code, Error};
use veilgate_federated::planner::CATALOG;
use veilgate_federated::planner::statement::OWN_SCHEMA;

const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";
/// The gateway's own tables.
const VIEWS: [&str; 5] = ["audit", "catalog", "notices", "queries", "sessions"];

/// What a gateway tells of itself.
pub(super) struct Info {
    pub(super) sql: SqlInfoData,
    pub(super) types: XdbcTypeInfoData,
}

impl Info {
    pub(super) fn new() -> Result<Self, Error> {
        let internal = |_| Error::new(Code::Internal, "what the gateway tells does not encode");
        let mut sql = SqlInfoDataBuilder::new();
        sql.append(SqlInfo::FlightSqlServerName, "Veilgate");
        sql.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
        sql.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
        sql.append(SqlInfo::FlightSqlServerReadOnly, true);
        sql.append(SqlInfo::FlightSqlServerSql, true);
        sql.append(SqlInfo::FlightSqlServerSubstrait, false);
        sql.append(
            SqlInfo::FlightSqlServerTransaction,
            SqlSupportedTransaction::None as i32,
        );
        sql.append(SqlInfo::FlightSqlServerCancel, true);
        sql.append(SqlInfo::FlightSqlServerBulkIngestion, false);
        sql.append(SqlInfo::SqlDdlCatalog, false);
        sql.append(SqlInfo::SqlDdlSchema, false);
        sql.append(SqlInfo::SqlDdlTable, false);
        sql.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
        let mut types = XdbcTypeInfoDataBuilder::new();
        for (name, data_type, size, quote) in [
            ("BOOLEAN", XdbcDataType::XdbcBit, 1, None),
            ("BIGINT", XdbcDataType::XdbcBigint, 19, None),
            ("DECIMAL", XdbcDataType::XdbcDecimal, 38, None),
            ("DOUBLE", XdbcDataType::XdbcDouble, 53, None),
            ("VARCHAR", XdbcDataType::XdbcVarchar, i32::MAX, Some("'")),
            ("DATE", XdbcDataType::XdbcDate, 10, Some("'")),
            ("TIMESTAMP", XdbcDataType::XdbcTimestamp, 26, Some("'")),
        ] {
            types.append(XdbcTypeInfo {
                type_name: name.to_owned(),
                data_type,
                column_size: Some(size),
                literal_prefix: quote.map(str::to_owned),
                literal_suffix: quote.map(str::to_owned),
                nullable: Nullable::NullabilityNullable,
                case_sensitive: name == "VARCHAR",
                searchable: Searchable::Full,
                unsigned_attribute: Some(false),
                sql_data_type: data_type,
                ..XdbcTypeInfo::default()
            });
        }
        Ok(Self {
            sql: sql.build().map_err(internal)?,
            types: types.build().map_err(internal)?,
        })
    }
}

/// A table as it is listed.
pub(super) struct Table {
    schema: String,
    name: String,
    kind: &'static str,
    columns: Schema,
    key: Vec<String>,
}

/// All tables that the federation publishes, and the gateway's own.
pub(super) async fn tables(manager: &QueryManager) -> Vec<Table> {
    let (federation, _) = manager.coordinator.federation().await;
    let mut all: Vec<Table> = VIEWS
        .iter()
        .map(|name| Table {
            schema: OWN_SCHEMA.to_owned(),
            name: (*name).to_owned(),
            kind: VIEW,
            columns: Schema::empty(),
            key: Vec::new(),
        })
        .collect();
    for catalog in federation
        .members
        .iter()
        .filter_map(|of| of.catalog.as_ref())
    {
        for table in &catalog.tables {
            let columns = table.columns.iter().map(|column| {
                let data_type = column.data_type.to_arrow();
                Field::new(&column.name, data_type, column.nullable)
            });
            all.push(Table {
                schema: catalog.department.clone(),
                name: table.name.clone(),
                kind: TABLE,
                columns: Schema::new(columns.collect::<Vec<_>>()),
                key: table.key.clone(),
            });
        }
    }
    for table in &federation.tables {
        let full = table.name();
        let Some((schema, name)) = full.split_once('.') else {
            continue;
        };
        // Its members have the same columns.
        let first = table.members().first();
        let found = all.iter().find(|of| {
            first.is_some_and(|(department, table)| of.schema == *department && of.name == *table)
        });
        let columns = found
            .map(|of| of.columns.clone())
            .unwrap_or_else(Schema::empty);
        all.push(Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: TABLE,
            columns,
            key: Vec::new(),
        });
    }
    all
}

pub(super) fn unbuilt<E>(_: E) -> Status {
    internal("metadata does not encode")
}

pub(super) fn catalogs(asked: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = asked.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(unbuilt::<FlightError>)
}

pub(super) fn schemas(asked: CommandGetDbSchemas, all: &[Table]) -> Result<RecordBatch, Status> {
    let mut names: Vec<&str> = all.iter().map(|table| table.schema.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut builder = asked.into_builder();
    for name in names {
        builder.append(CATALOG, name);
    }
    builder.build().map_err(unbuilt::<FlightError>)
}

pub(super) fn listed(asked: CommandGetTables, all: &[Table]) -> Result<RecordBatch, Status> {
    let mut builder = asked.into_builder();
    for table in all {
        builder
            .append(
                CATALOG,
                &table.schema,
                &table.name,
                table.kind,
                &table.columns,
            )
            .map_err(unbuilt::<FlightError>)?;
    }
    builder.build().map_err(unbuilt::<FlightError>)
}

pub(super) fn table_types(asked: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = asked.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.build().map_err(unbuilt::<FlightError>)
}

/// The columns that GetPrimaryKeys answers with.
pub(super) fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

pub(super) fn primary_keys(
    asked: &CommandGetPrimaryKeys,
    all: &[Table],
) -> Result<RecordBatch, Status> {
    let fits = |asked: &Option<String>, name: &str| asked.as_deref().is_none_or(|of| of == name);
    let found: Vec<(&Table, &String, i32)> = all
        .iter()
        .filter(|table| {
            fits(&asked.catalog, CATALOG)
                && fits(&asked.db_schema, &table.schema)
                && asked.table == table.name
        })
        .flat_map(|table| {
            table
                .key
                .iter()
                .zip(1..)
                .map(move |(key, at)| (table, key, at))
        })
        .collect();
    let text = |of: &dyn Fn(&(&Table, &String, i32)) -> String| {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let names: StringArray = found.iter().map(|_| None::<&str>).collect();
    RecordBatch::try_new(
        primary_keys_schema(),
        vec![
            text(&|_| CATALOG.to_owned()),
            text(&|(table, ..)| table.schema.clone()),
            text(&|(table, ..)| table.name.clone()),
            text(&|(_, key, _)| (*key).clone()),
            Arc::new(names),
            Arc::new(Int32Array::from_iter_values(
                found.iter().map(|(.., at)| *at),
            )),
        ],
    )
    .map_err(unbuilt::<ArrowError>)
}

/// The columns that questions for foreign keys are answered with. There are none: departments declare
/// no keys into each other's tables.
pub(super) fn references_schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}

pub(super) fn no_references() -> RecordBatch {
    RecordBatch::new_empty(references_schema())
}
