//! The fragment of one table, column by column: what its owner computes alone.

use super::block::Relation;
use super::columns;
use super::emit::{self, Place};
use super::order::Shape;
use super::sql::{Tables, schema_of};
use crate::catalog;
use crate::error::{Code, Error, Result};
use crate::flow::bounds;
use crate::plan::{ColumnRef, Encoding, Fragment, FragmentColumn, PartyIndex, PublicSize};
use crate::schema::ScalarType;
use datafusion::common::Column;
use datafusion::logical_expr::Expr;

/// The most bytes of text that are compared or grouped by.
const MAX_TEXT_BYTES: u32 = 4096;

/// The most conditions, so that owners need not recurse deeply to check them.
const MAX_CONDITIONS: usize = 128;

/// A fragment while its columns are collected.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    index: usize,
    relation: &'a Relation,
    pub(super) shape: Shape,
    columns: Vec<DraftColumn>,
    /// Expressions of WHERE, joined by AND.
    conditions: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct DraftColumn {
    sql: String,
    label: String,
    encoding: Encoding,
    aggregate: bool,
}

impl<'a> Draft<'a> {
    /// An empty fragment of the relation at this position.
    pub(super) fn new(index: usize, relation: &'a Relation, shape: Shape) -> Self {
        Self {
            index,
            relation,
            shape,
            columns: Vec::new(),
            conditions: Vec::new(),
        }
    }

    /// Rows without a value in this column are dropped.
    pub(super) fn not_null(&mut self, column: usize) {
        if let Some(column) = self.relation.table.columns.get(column) {
            let condition = format!("{} IS NOT NULL", emit::quoted(&column.name));
            if !self.conditions.contains(&condition) {
                self.conditions.push(condition);
            }
        }
    }

    /// Rows for which this is not true are dropped.
    pub(super) fn condition(&mut self, expr: &Expr) -> Result<()> {
        let text = self.sql(expr)?;
        // OR binds more loosely than the AND that joins conditions.
        let text = match expr {
            Expr::BinaryExpr(binary) if binary.op == datafusion::logical_expr::Operator::Or => {
                format!("({text})")
            }
            _ => text,
        };
        if !self.conditions.contains(&text) {
            self.conditions.push(text);
        }
        Ok(())
    }

    /// A column of each row (or group): its position.
    pub(super) fn value(&mut self, expr: &Expr, encoding: Encoding) -> Result<ColumnRef> {
        let (mut sql, label) = (self.sql(expr)?, self.label(expr)?);
        // To the engine a cast has the name of what it casts; grouping by both fails.
        if self.shape.grouped && matches!(expr, Expr::Cast(_)) {
            sql = format!("coalesce({sql})");
        }
        Ok(self.column(sql, label, encoding, false))
    }

    /// A bit of each row: whether a condition is true.
    pub(super) fn flag(&mut self, expr: &Expr) -> Result<ColumnRef> {
        let flag = Expr::IsTrue(Box::new(expr.clone()));
        let (sql, label) = (self.sql(&flag)?, self.label(&flag)?);
        Ok(self.column(sql, label, Encoding::Bits(1), false))
    }

    /// Key columns, always new and adjacent.
    pub(super) fn keys(&mut self, columns: &[usize], class: u32, bits: u32) -> Result<ColumnRef> {
        let first = self.columns.len();
        for column in columns {
            let name = self.catalogued(*column)?.name.clone();
            self.columns.push(DraftColumn {
                sql: emit::quoted(&name),
                label: name,
                encoding: Encoding::KeyTag { class, bits },
                aggregate: false,
            });
        }
        Ok(self.at(first))
    }

    /// Number of rows of the table in each group; none where rows are not grouped.
    pub(super) fn weight(&mut self) -> Option<ColumnRef> {
        self.shape.grouped.then(|| {
            self.column(
                "COUNT(*)".to_owned(),
                "COUNT(*)".to_owned(),
                Encoding::Ring64,
                true,
            )
        })
    }

    /// `COUNT(argument)` of each group.
    pub(super) fn count(&mut self, argument: &Expr) -> Result<ColumnRef> {
        let sql = format!("COUNT({})", self.sql(argument)?);
        let label = format!("COUNT({})", self.label(argument)?);
        Ok(self.column(sql, label, Encoding::Ring64, true))
    }

    /// `COUNT(argument)` of each group, NULL where it is 0.
    pub(super) fn count_or_null(&mut self, argument: &Expr) -> Result<ColumnRef> {
        let sql = format!("NULLIF(COUNT({}), 0)", self.sql(argument)?);
        let label = format!("COUNT({})", self.label(argument)?);
        Ok(self.column(sql, label, Encoding::Ring64, true))
    }

    /// The exact sum of each group.
    pub(super) fn sum(&mut self, argument: &Expr, scale: u8) -> Result<ColumnRef> {
        let sql = format!("SUM(CAST({} AS DECIMAL(38, {scale})))", self.sql(argument)?);
        let label = format!("SUM({})", self.label(argument)?);
        Ok(self.column(sql, label, Encoding::Ring128, true))
    }

    /// Whether no column leaves yet.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    fn column(
        &mut self,
        sql: String,
        label: String,
        encoding: Encoding,
        aggregate: bool,
    ) -> ColumnRef {
        let column = DraftColumn {
            sql,
            label,
            encoding,
            aggregate,
        };
        let position = match self.columns.iter().position(|known| *known == column) {
            Some(position) => position,
            None => {
                self.columns.push(column);
                self.columns.len() - 1
            }
        };
        self.at(position)
    }

    fn at(&self, column: usize) -> ColumnRef {
        ColumnRef {
            fragment: self.index,
            column,
        }
    }

    /// The form in which a column of the table can be compared or released as a group key.
    pub(super) fn shared_form(&self, column: usize) -> Result<Encoding> {
        let column = self.catalogued(column)?;
        if !column.codes.is_empty() {
            return Ok(Encoding::Codes(column.codes.clone()));
        }
        if column.data_type == ScalarType::Utf8 {
            return Ok(Encoding::Text {
                max_bytes: self.text_bytes(column)?,
            });
        }
        number_form(column.data_type)
    }

    /// The declared maximum of a text column.
    pub(super) fn text_bytes(&self, column: &catalog::Column) -> Result<u32> {
        let bytes = bounds::text_bytes(column).unwrap_or(0);
        if bytes == 0 || bytes > MAX_TEXT_BYTES {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "{}.{} is text without a public bound: its owner declares codes, or max_bytes \
                     up to {MAX_TEXT_BYTES}, before groups or comparisons across departments use it",
                    self.relation.name(),
                    column.name
                ),
            ));
        }
        Ok(bytes)
    }

    pub(super) fn catalogued(&self, column: usize) -> Result<&catalog::Column> {
        self.relation
            .table
            .columns
            .get(column)
            .ok_or_else(|| Error::new(Code::Internal, "a column of the plan does not exist"))
    }

    fn sql(&self, expr: &Expr) -> Result<String> {
        self.text(expr, &|column| emit::quoted(&column.name))
    }

    fn label(&self, expr: &Expr) -> Result<String> {
        self.text(expr, &crate::catalog::Column::label)
    }

    fn text(
        &self,
        expr: &Expr,
        write: &dyn Fn(&crate::catalog::Column) -> String,
    ) -> Result<String> {
        emit::emit(expr, Place::Row, &|column: &Column| {
            let id = columns::base(column)
                .ok_or_else(|| Error::new(Code::Internal, "a column of the plan is not bound"))?;
            Ok(write(self.catalogued(id.column)?))
        })
    }

    /// The fragment, typed as its owner's engine types it.
    pub(super) fn finish(
        self,
        owner: PartyIndex,
        size: PublicSize,
        estimated_rows: u64,
        unique_key: bool,
    ) -> Result<Fragment> {
        if self.columns.is_empty() {
            return Err(Error::new(
                Code::Unsupported,
                format!(
                    "joint queries do not support COUNT(*) alone over {}: group by a column, or \
                     aggregate one",
                    self.relation.name()
                ),
            ));
        }
        if self.conditions.len() > MAX_CONDITIONS {
            return Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "more than {MAX_CONDITIONS} conditions on {}",
                    self.relation.name()
                ),
            ));
        }
        let mut sql = "SELECT ".to_owned();
        for (position, column) in self.columns.iter().enumerate() {
            if position > 0 {
                sql.push_str(", ");
            }
            sql.push_str(&format!("{} AS c{position}", column.sql));
        }
        sql.push_str(&format!(
            " FROM {}",
            emit::quoted(&self.relation.table.name)
        ));
        if !self.conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", self.conditions.join(" AND ")));
        }
        if self.shape.grouped {
            let mut by: Vec<&str> = Vec::new();
            for column in self.columns.iter().filter(|column| !column.aggregate) {
                if !by.contains(&column.sql.as_str()) {
                    by.push(&column.sql);
                }
            }
            sql.push_str(&format!(" GROUP BY {}", by.join(", ")));
        }
        let types = schema_of(&sql, Tables::one(&self.relation.table))?;
        let columns = self
            .columns
            .into_iter()
            .zip(types)
            .map(|(column, (data_type, nullable))| {
                let data_type = ScalarType::from_arrow(&data_type)
                    .filter(|data_type| *data_type != ScalarType::Float64)
                    .ok_or_else(|| {
                        Error::new(
                            Code::Unsupported,
                            format!(
                                "an expression over {} has a type that cannot leave a department: \
                                 cast it to int64, decimal, date, timestamp or bool",
                                self.relation.name()
                            ),
                        )
                    })?;
                Ok(FragmentColumn {
                    data_type,
                    nullable,
                    encoding: column.encoding,
                    label: column.label,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Fragment {
            owner,
            sql,
            columns,
            size,
            estimated_rows,
            unique_key,
        })
    }
}

/// Boolean shares of a number, date, timestamp or bool.
pub(super) fn number_form(data_type: ScalarType) -> Result<Encoding> {
    Ok(Encoding::Bits(match data_type {
        ScalarType::Bool => 1,
        ScalarType::Date => 32,
        ScalarType::Int64 | ScalarType::Timestamp => 64,
        ScalarType::Decimal { precision, .. } if precision <= 18 => 64,
        ScalarType::Decimal { .. } => 128,
        ScalarType::Utf8 | ScalarType::Float64 => {
            return Err(Error::new(
                Code::Unsupported,
                "joint queries do not support a comparison or group of this type",
            ));
        }
    }))
}
