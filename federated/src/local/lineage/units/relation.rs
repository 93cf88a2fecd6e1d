//! The walk over a fragment's plan.

use super::conditions::{Condition, attributes, is_null, is_one, parts};
use super::{Attribute, Counted, Result, Who};
use crate::catalog::{Published, Unit};
use crate::local::lineage::NotAllowed;
use crate::local::lineage::dependencies::Dependencies;
use crate::local::lineage::steps::unaliased;
use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchemaRef, JoinType};
use datafusion::logical_expr::{Distinct, Expr, Join, LogicalPlan, Operator, TableScan};
use std::collections::{BTreeMap, BTreeSet};

/// A relation of the plan.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) schema: DFSchemaRef,
    pub(super) columns: Vec<Attribute>,
    pub(super) who: BTreeMap<usize, Who>,
    /// Sets of attributes of which no two rows have the same values.
    pub(super) unique: Vec<BTreeSet<Attribute>>,
}

/// The columns of two relations that a condition says are equal.
fn equal(condition: &Expr, left: &Relation, right: &Relation) -> Option<(Attribute, Attribute)> {
    let Expr::BinaryExpr(both) = unaliased(condition) else {
        return None;
    };
    let (Expr::Column(a), Expr::Column(b)) = (unaliased(&both.left), unaliased(&both.right)) else {
        return None;
    };
    if both.op != Operator::Eq {
        return None;
    }
    let as_said = left.find(a).zip(right.find(b));
    as_said.or_else(|| left.find(b).zip(right.find(a)))
}

impl Relation {
    pub(super) fn find(&self, column: &Column) -> Option<Attribute> {
        let at = self.schema.maybe_index_of_column(column)?;
        self.columns.get(at).copied()
    }
}

/// What is known while a plan is walked.
pub(super) struct Follow<'a> {
    catalog: &'a Published,
    next: Attribute,
    pub(super) tables: Vec<String>,
    pub(super) known: Dependencies<Attribute>,
    /// What attributes are computed from, over those that are not.
    pub(super) computed: BTreeMap<Attribute, Expr>,
    /// Attributes that can be NULL.
    pub(super) null: BTreeSet<Attribute>,
    pub(super) counted: BTreeMap<Attribute, Vec<Counted>>,
    pub(super) conditions: BTreeMap<Attribute, Vec<Condition>>,
    pub(super) mixed: BTreeSet<Attribute>,
    pub(super) unusual: BTreeMap<Attribute, &'static str>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(catalog: &'a Published) -> Self {
        Self {
            catalog,
            next: 0,
            tables: Vec::new(),
            known: Dependencies::default(),
            computed: BTreeMap::new(),
            null: BTreeSet::new(),
            counted: BTreeMap::new(),
            conditions: BTreeMap::new(),
            mixed: BTreeSet::new(),
            unusual: BTreeMap::new(),
        }
    }

    pub(super) fn fresh(&mut self) -> Attribute {
        self.next += 1;
        self.next
    }

    /// What is made of a value is as mixed, and as unusual.
    pub(super) fn inherits(&mut self, made: Attribute, of: Attribute) {
        if self.mixed.contains(&of) {
            self.mixed.insert(made);
        }
        if let Some(why) = self.unusual.get(&of).copied() {
            self.unusual.insert(made, why);
        }
    }

    pub(super) fn plan(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        let mut made = match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan)?,
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input)?,
            LogicalPlan::Projection(projection) => {
                let input = self.plan(&projection.input)?;
                let columns = projection
                    .expr
                    .iter()
                    .map(|expr| self.value(expr, &input))
                    .collect::<Result<_>>()?;
                Relation { columns, ..input }
            }
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                self.filter(&filter.predicate, input)?
            }
            LogicalPlan::Join(join) => self.join(join)?,
            LogicalPlan::Aggregate(group) => self.group(group)?,
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.plan(input)?;
                let keys = input.columns.clone();
                self.grouped(input, keys)?
            }
            LogicalPlan::Sort(sort) => self.plan(&sort.input)?,
            LogicalPlan::Limit(limit) => self.plan(&limit.input)?,
            LogicalPlan::Window(window) => self.window(window)?,
            LogicalPlan::Union(union) => {
                let inputs = union
                    .inputs
                    .iter()
                    .map(|input| self.plan(input))
                    .collect::<Result<Vec<_>>>()?;
                self.union(inputs, plan.schema().clone())
            }
            _ => {
                return Err(NotAllowed::new(
                    "an operator through which units cannot be followed",
                ));
            }
        };
        made.schema = plan.schema().clone();
        Ok(made)
    }

    /// Rows of several relations: units of one are named by a column that is NULL in the others.
    fn union(&mut self, inputs: Vec<Relation>, schema: DFSchemaRef) -> Relation {
        let columns: Vec<Attribute> = schema.fields().iter().map(|_| self.fresh()).collect();
        self.null.extend(&columns);
        for input in &inputs {
            for (column, of) in columns.iter().zip(&input.columns) {
                self.inherits(*column, *of);
            }
        }
        let nothing =
            |attribute: &Attribute| matches!(self.computed.get(attribute), Some(of) if is_null(of));
        let mut who = BTreeMap::new();
        for (at, input) in inputs.iter().enumerate() {
            for (scan, of) in &input.who {
                // What one input adds of a unit another could take away.
                let mut others = inputs.iter().enumerate().filter(|(other, _)| *other != at);
                let table = self.tables.get(*scan);
                if others.any(|(_, of)| of.who.keys().any(|of| self.tables.get(*of) == table)) {
                    who.insert(*scan, Who::Unknown);
                    continue;
                }
                let alone = |place: &usize| {
                    let mut others = inputs.iter().enumerate().filter(|(other, _)| *other != at);
                    let own = matches!((of, input.columns.get(*place)),
                        (Who::Each(tags), Some(attribute)) if tags.contains(attribute));
                    own && others.all(|(_, of)| of.columns.get(*place).is_some_and(nothing))
                };
                let named: BTreeSet<Attribute> = (0..columns.len())
                    .filter(alone)
                    .map(|place| columns[place])
                    .collect();
                let of = match named.is_empty() {
                    true => Who::Unknown,
                    false => Who::Each(named),
                };
                who.insert(*scan, of);
            }
        }
        let row = self.fresh();
        self.known.add([row], columns.iter().copied());
        Relation {
            schema,
            columns,
            who,
            unique: vec![BTreeSet::from([row])],
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Relation> {
        let name = scan.table_name.table();
        let table = self.catalog.table(name);
        let table = table.ok_or_else(|| NotAllowed::new("a table that is not there"))?;
        let mut by: BTreeMap<&str, Attribute> = BTreeMap::new();
        for column in &table.columns {
            let attribute = self.fresh();
            if column.nullable {
                self.null.insert(attribute);
            }
            by.insert(&column.name, attribute);
        }
        let row = self.fresh();
        self.known.add([row], by.values().copied());
        let mut unique = vec![BTreeSet::from([row])];
        let keyed = !table.key.is_empty()
            && table
                .key
                .iter()
                .all(|of| table.column(of).is_some_and(|of| !of.nullable));
        if keyed {
            let key: BTreeSet<Attribute> = table
                .key
                .iter()
                .filter_map(|of| by.get(of.as_str()).copied())
                .collect();
            self.known.add(key.iter().copied(), [row]);
            unique.push(key);
        }
        let mut who = BTreeMap::new();
        let unit = match &table.unit {
            Unit::None => None,
            Unit::Row => Some(row),
            Unit::Column(name) => by.get(name.as_str()).copied(),
        };
        if let Some(unit) = unit {
            let mut tags = BTreeSet::from([unit]);
            // The row is as good as what tells rows apart.
            if table.unit == Unit::Row && keyed && table.key.len() == 1 {
                tags.extend(table.key.iter().filter_map(|of| by.get(of.as_str())));
            }
            who.insert(self.tables.len(), Who::Each(tags));
            self.tables.push(name.to_owned());
        }
        let fields = scan.projected_schema.fields().iter();
        let columns = fields
            .map(|field| by.get(field.name().as_str()).copied())
            .collect::<Option<_>>()
            .ok_or_else(|| NotAllowed::new("a column that is not there"))?;
        Ok(Relation {
            schema: scan.projected_schema.clone(),
            columns,
            who,
            unique,
        })
    }

    /// The attribute of an expression over a relation.
    pub(super) fn value(&mut self, expr: &Expr, relation: &Relation) -> Result<Attribute> {
        if let Expr::Column(column) = unaliased(expr) {
            let found = relation.find(column);
            return found.ok_or_else(|| NotAllowed::new("a column that is not there"));
        }
        // An integer of another width is the same number.
        if let Expr::Cast(cast) = unaliased(expr)
            && let Expr::Column(column) = unaliased(&cast.expr)
            && cast.field.data_type() == &DataType::Int64
            && let Some(at) = relation.schema.maybe_index_of_column(column)
            && relation.schema.field(at).data_type().is_integer()
        {
            let found = relation.columns.get(at).copied();
            return found.ok_or_else(|| NotAllowed::new("a column that is not there"));
        }
        let expanded = self.expanded(expr, relation)?;
        if let Some(known) = self.plain(&expanded) {
            return Ok(known);
        }
        let known = self.computed.iter().find(|(_, of)| **of == expanded);
        if let Some((known, _)) = known {
            return Ok(*known);
        }
        let attribute = self.fresh();
        self.known.add(attributes(&expanded), [attribute]);
        if self.nullable(&expanded) {
            self.null.insert(attribute);
        }
        // A value of aggregates is over what they are over.
        let mut conditions = Vec::new();
        for of in attributes(&expanded) {
            conditions.extend(self.conditions.get(&of).cloned().unwrap_or_default());
            self.inherits(attribute, of);
        }
        if !conditions.is_empty() {
            self.conditions.insert(attribute, conditions);
        }
        if let Some(why) = self.unusual_sum(&expanded) {
            self.unusual.insert(attribute, why);
        }
        self.computed.insert(attribute, expanded);
        Ok(attribute)
    }

    /// A column that is one in every row counts the unit that the row is of.
    pub(super) fn ones(&mut self, relation: &Relation) {
        for attribute in &relation.columns {
            if !self.computed.get(attribute).is_some_and(is_one) {
                continue;
            }
            for (scan, who) in &relation.who {
                if matches!(who, Who::Each(tags) if tags.iter().any(|tag| !self.null.contains(tag)))
                {
                    self.counted.entry(*attribute).or_default().push(Counted {
                        scan: *scan,
                        over: super::Pattern::new(),
                    });
                }
            }
        }
    }

    fn filter(&mut self, predicate: &Expr, input: Relation) -> Result<Relation> {
        let mut made = input;
        let mut rest = vec![predicate];
        while let Some(part) = rest.pop() {
            match unaliased(part) {
                Expr::BinaryExpr(both) if both.op == Operator::And => {
                    rest.extend([both.left.as_ref(), both.right.as_ref()]);
                }
                Expr::InSubquery(of) => {
                    let left = self.value(&of.expr, &made)?;
                    let right = self.plan(&of.subquery.subquery)?;
                    let pairs = right.columns.first().map(|right| (left, *right));
                    self.half(&mut made, right.who, pairs.as_slice(), of.negated);
                }
                other => {
                    // Not looked into further, but no query may hide in it.
                    self.expanded(other, &made)?;
                }
            }
        }
        Ok(made)
    }

    /// Units of the right side of a semi or anti join, behind left rows.
    fn half(
        &self,
        left: &mut Relation,
        right: BTreeMap<usize, Who>,
        pairs: &[(Attribute, Attribute)],
        absent: bool,
    ) {
        for (scan, who) in right {
            let named: BTreeSet<Attribute> = pairs
                .iter()
                .filter(|(_, b)| absent || matches!(&who, Who::Each(tags) if tags.contains(b)))
                .map(|(a, _)| *a)
                .collect();
            let who = match named.is_empty() {
                true => Who::Unknown,
                false => Who::Each(named),
            };
            left.who.insert(scan, who);
        }
    }

    fn join(&mut self, join: &Join) -> Result<Relation> {
        let left = self.plan(&join.left)?;
        let right = self.plan(&join.right)?;
        let mut pairs = Vec::new();
        for (a, b) in &join.on {
            pairs.push((self.value(a, &left)?, self.value(b, &right)?));
        }
        if let Some(filter) = &join.filter {
            for part in parts(filter) {
                pairs.extend(equal(part, &left, &right));
            }
        }
        let on = |side: fn(&(Attribute, Attribute)) -> Attribute| -> BTreeSet<Attribute> {
            pairs.iter().map(side).collect()
        };
        let (lefts, rights) = (on(|pair| pair.0), on(|pair| pair.1));
        let mut made = left.clone();
        match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti => {
                let absent = join.join_type == JoinType::LeftAnti;
                self.half(&mut made, right.who, &pairs, absent);
                return Ok(made);
            }
            JoinType::Inner | JoinType::Left | JoinType::Full => {}
            _ => {
                return Err(NotAllowed::new(
                    "a join through which units cannot be followed",
                ));
            }
        }
        let one_right = self.known.reaches(&rights, &right.unique);
        let one_left = self.known.reaches(&lefts, &left.unique);
        let all = |of: &Relation| -> BTreeSet<Attribute> {
            let mut all: BTreeSet<Attribute> = of.columns.iter().copied().collect();
            all.extend(of.unique.iter().flatten());
            all
        };
        if one_right && join.join_type != JoinType::Full {
            self.known.add(lefts.iter().copied(), all(&right));
        }
        if join.join_type == JoinType::Inner {
            for (a, b) in &pairs {
                self.known.add([*a], [*b]);
                self.known.add([*b], [*a]);
            }
            if one_left {
                self.known.add(rights.iter().copied(), all(&left));
            }
        } else {
            self.missing(&all(&right));
            if join.join_type == JoinType::Full {
                self.missing(&all(&left));
            }
        }
        made.columns.extend(&right.columns);
        made.who.extend(right.who);
        if join.join_type == JoinType::Inner {
            self.same(&mut made.who, &pairs);
        }
        let both = left.unique.iter().flat_map(|a| {
            right
                .unique
                .iter()
                .map(move |b| a.union(b).copied().collect())
        });
        made.unique = both.collect();
        Ok(made)
    }

    /// Rows that can be missing: whatever their columns were computed from, they can be NULL.
    fn missing(&mut self, of: &BTreeSet<Attribute>) {
        for attribute in of {
            self.null.insert(*attribute);
            self.computed.remove(attribute);
        }
    }

    /// What is equal to a unit names it, too.
    fn same(&self, who: &mut BTreeMap<usize, Who>, pairs: &[(Attribute, Attribute)]) {
        for who in who.values_mut() {
            if let Who::Each(tags) = who {
                for (a, b) in pairs {
                    if tags.contains(a) || tags.contains(b) {
                        tags.extend([*a, *b]);
                    }
                }
            }
        }
    }

    /// A window shows a row what others are: only those of its own unit.
    fn window(&mut self, window: &datafusion::logical_expr::Window) -> Result<Relation> {
        let mut made = self.plan(&window.input)?;
        for expr in &window.window_expr {
            let Expr::WindowFunction(call) = unaliased(expr) else {
                return Err(NotAllowed::new("a window of an unusual kind"));
            };
            let mut partition = BTreeSet::new();
            for key in &call.params.partition_by {
                partition.insert(self.value(key, &made)?);
            }
            let known = self.known.closure(&partition);
            for who in made.who.values_mut() {
                let own = matches!(who, Who::Each(tags) if !tags.is_disjoint(&known));
                if !own {
                    *who = Who::Unknown;
                }
            }
            let attribute = self.fresh();
            self.null.insert(attribute);
            self.unusual.insert(attribute, "what a window made");
            made.columns.push(attribute);
        }
        Ok(made)
    }
}
