//! Columns of a query: one name each, with a type.

use crate::catalog::Canonical;
use crate::error::{Code, Error, Result};
use crate::planner::emit::{self, Place};
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, ExprSchemable};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What the name of a column begins with.
const PREFIX: char = 'v';

/// A column, unique in its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::planner) struct ColumnId(u32);

impl ColumnId {
    /// In place of a union's input that has no such column: NULL in all its rows.
    pub(in crate::planner) const NOTHING: Self = Self(u32::MAX);

    /// Its name in expressions.
    pub(in crate::planner) fn name(self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// As an expression.
    pub(in crate::planner) fn expr(self) -> Expr {
        Expr::Column(Column::new_unqualified(self.name()))
    }

    /// What a reference names.
    pub(in crate::planner) fn of(column: &Column) -> Option<Self> {
        match column.relation {
            None => column.name.strip_prefix(PREFIX)?.parse().ok().map(Self),
            Some(_) => None,
        }
    }

    /// The column that an expression is, if it is one.
    pub(in crate::planner) fn of_expr(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Column(column) => Self::of(column),
            Expr::Alias(alias) => Self::of_expr(&alias.expr),
            _ => None,
        }
    }
}

/// What is known of a column wherever it goes.
#[derive(Debug, Clone)]
pub(in crate::planner) struct Info {
    pub(in crate::planner) data_type: DataType,
    /// Whether it can be NULL anywhere.
    pub(in crate::planner) nullable: bool,
    /// Whether it can be NULL where it is made, before outer joins.
    pub(in crate::planner) null_there: bool,
    /// For people.
    pub(in crate::planner) label: String,
    /// A public bound on distinct values, NULL aside.
    pub(in crate::planner) distinct: Option<u64>,
    /// A public bound on the absolute value, in units of the last digit.
    pub(in crate::planner) most: Option<u128>,
    /// The public code list of a text; empty: none.
    pub(in crate::planner) codes: Vec<String>,
    /// A public bound on the bytes of a text.
    pub(in crate::planner) bytes: Option<u32>,
    /// How a text of a table is brought to one form when it is scanned.
    pub(in crate::planner) canonical: Vec<Canonical>,
    /// Of an aggregate: columns in which rows that differ stay apart, wherever they are grouped before.
    pub(in crate::planner) apart: Vec<ColumnId>,
    /// Whether only privacy units are told apart by it.
    pub(in crate::planner) unit: bool,
}

impl Info {
    /// A column of which only its type is known.
    pub(in crate::planner) fn new(data_type: DataType, nullable: bool, label: String) -> Self {
        Self {
            data_type,
            nullable,
            null_there: nullable,
            label,
            distinct: None,
            most: None,
            codes: Vec::new(),
            bytes: None,
            canonical: Vec::new(),
            apart: Vec::new(),
            unit: false,
        }
    }
}

/// All columns of a query.
#[derive(Debug, Clone, Default)]
pub(in crate::planner) struct Columns {
    list: Vec<Info>,
    /// Conditions that are columns, computed by whose rows they are of.
    flags: Vec<(Expr, ColumnId)>,
}

impl Columns {
    /// A new column.
    pub(in crate::planner) fn add(&mut self, info: Info) -> ColumnId {
        // A query of four billion columns is refused for its length.
        let id = ColumnId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(info);
        id
    }

    /// A new column for this expression.
    pub(in crate::planner) fn compute(&mut self, expr: &Expr) -> Result<ColumnId> {
        let (data_type, nullable) = self.type_of(expr)?;
        let mut info = Info::new(data_type, nullable, self.label(expr));
        info.most = self.magnitude(expr);
        info.bytes = self.text_bytes(expr);
        Ok(self.add(info))
    }

    /// What is known of a column.
    pub(in crate::planner) fn info(&self, id: ColumnId) -> Result<&Info> {
        self.list
            .get(id.0 as usize)
            .ok_or_else(|| Error::new(Code::Internal, "a column of the plan does not exist"))
    }

    /// What is known of a column, to be changed.
    pub(in crate::planner) fn info_mut(&mut self, id: ColumnId) -> Option<&mut Info> {
        self.list.get_mut(id.0 as usize)
    }

    /// This condition is a column.
    pub(in crate::planner) fn flag(&mut self, condition: Expr, id: ColumnId) {
        self.flags.push((condition, id));
    }

    /// The columns that a condition is, itself among them if it is one of those already.
    pub(in crate::planner) fn flags_of<'c>(
        &'c self,
        condition: &'c Expr,
    ) -> impl Iterator<Item = ColumnId> + 'c {
        let same = ColumnId::of_expr(condition);
        let own = self
            .flags
            .iter()
            .filter(move |(of, id)| of == condition || same == Some(*id));
        own.map(|(_, id)| *id)
    }

    /// These columns can be NULL, wherever they are.
    pub(in crate::planner) fn can_be_null(&mut self, columns: &[ColumnId]) {
        for id in columns {
            if let Some(info) = self.list.get_mut(id.0 as usize) {
                info.nullable = true;
            }
        }
    }

    /// This column is never NULL where it is made.
    pub(in crate::planner) fn never_null(&mut self, id: ColumnId) {
        if let Some(info) = self.list.get_mut(id.0 as usize) {
            info.nullable = false;
            info.null_there = false;
        }
    }

    /// Type and nullability of an expression.
    pub(in crate::planner) fn type_of(&self, expr: &Expr) -> Result<(DataType, bool)> {
        let schema = self.schema(used(expr))?;
        let typed = expr
            .get_type(&schema)
            .and_then(|of| Ok((of, expr.nullable(&schema)?)));
        typed.map_err(|_| Error::new(Code::TypeMismatch, "an expression of the query has no type"))
    }

    /// The schema of these columns.
    pub(in crate::planner) fn schema(
        &self,
        columns: impl IntoIterator<Item = ColumnId>,
    ) -> Result<DFSchema> {
        let fields = columns
            .into_iter()
            .map(|id| {
                let info = self.info(id)?;
                let field = Field::new(id.name(), info.data_type.clone(), info.nullable);
                Ok((None, Arc::new(field)))
            })
            .collect::<Result<_>>()?;
        DFSchema::new_with_metadata(fields, HashMap::new())
            .map_err(|_| Error::new(Code::Internal, "columns of the plan have no schema"))
    }

    /// An expression for people: names of columns in place of theirs here.
    pub(in crate::planner) fn label(&self, expr: &Expr) -> String {
        let named = expr.clone().transform(|node| {
            Ok(match &node {
                Expr::Column(column) => {
                    match ColumnId::of(column).and_then(|id| self.info(id).ok()) {
                        Some(info) => Transformed::yes(Expr::Column(Column::new_unqualified(
                            info.label.clone(),
                        ))),
                        None => Transformed::no(node),
                    }
                }
                _ => Transformed::no(node),
            })
        });
        let Ok(named) = named else {
            return String::new();
        };
        let text = emit::emit(&named.data, Place::Released, &|column| {
            Ok(column.name.clone())
        });
        text.unwrap_or_else(|_| named.data.to_string())
    }
}

/// The columns of an expression.
pub(in crate::planner) fn used(expr: &Expr) -> BTreeSet<ColumnId> {
    let mut found = BTreeSet::new();
    // The closure never fails.
    let _ = expr.apply(|node| {
        if let Expr::Column(column) = node {
            found.extend(ColumnId::of(column));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The columns of several expressions.
pub(in crate::planner) fn used_by<'e>(
    exprs: impl IntoIterator<Item = &'e Expr>,
) -> BTreeSet<ColumnId> {
    exprs.into_iter().flat_map(used).collect()
}

/// The expression with columns replaced, where the map has them.
pub(super) fn substitute(expr: &Expr, by: &BTreeMap<ColumnId, Expr>) -> Result<Expr> {
    let replaced = expr.clone().transform(|node| {
        Ok(match &node {
            Expr::Column(column) => match ColumnId::of(column).and_then(|id| by.get(&id)) {
                // What replaces is not looked into again.
                Some(new) => Transformed::new(new.clone(), true, TreeNodeRecursion::Jump),
                None => Transformed::no(node),
            },
            _ => Transformed::no(node),
        })
    });
    replaced
        .map(|of| of.data)
        .map_err(|_| Error::new(Code::Internal, "an expression cannot be rewritten"))
}
