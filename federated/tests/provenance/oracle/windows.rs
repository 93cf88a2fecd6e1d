//! Window functions: values from the engine, and who stands in the frame of each.

use super::engine::{Failure, failed};
use super::evaluate::{Evaluator, bare};
use super::relation::{Column, Origin, People, Relation};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, concat_batches, take};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Column as Name;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits};
use std::rc::Rc;
use std::sync::Arc;

/// Functions whose value is that of one other row: nobody else stands behind it.
const OF_ONE_ROW: [&str; 5] = ["lag", "lead", "first_value", "last_value", "nth_value"];

/// What a window looks at, as columns of their own.
struct Flat {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Flat {
    fn add(&mut self, values: ArrayRef) -> Expr {
        let name = format!("c{}", self.arrays.len());
        self.fields
            .push(Field::new(&name, values.data_type().clone(), true));
        self.arrays.push(values);
        Expr::Column(Name::from_name(name))
    }
}

impl Evaluator<'_> {
    pub fn window(&self, step: &Window, input: Relation) -> Result<Relation, Failure> {
        let over_groups = input.has_groups();
        let mut columns = input.columns.clone();
        for (at, expr) in step.window_expr.iter().enumerate() {
            let Expr::WindowFunction(call) = bare(expr) else {
                return Err(format!("the oracle does not know the window {expr}"));
            };
            let data_type = step.schema.field(input.columns.len() + at).data_type();
            columns.push(Column {
                values: self.window_values(&call, data_type, &input)?,
                origin: match over_groups {
                    true => Origin::Mixed,
                    false => Origin::Strict,
                },
                branches: None,
                frames: self.frames(&call, &input)?,
            });
        }
        Ok(Relation {
            schema: Arc::clone(&step.schema),
            columns,
            people: input.people,
        })
    }

    fn window_values(
        &self,
        call: &WindowFunction,
        data_type: &DataType,
        input: &Relation,
    ) -> Result<ArrayRef, Failure> {
        let mut flat = Flat {
            fields: vec![],
            arrays: vec![],
        };
        let rows = u64::try_from(input.rows()).map_err(failed)?;
        let place = flat.add(Arc::new(UInt64Array::from_iter_values(0..rows)));
        let mut call = call.clone();
        let params = &mut call.params;
        let mut parts: Vec<&mut Expr> = params.args.iter_mut().collect();
        parts.extend(params.partition_by.iter_mut());
        parts.extend(params.order_by.iter_mut().map(|order| &mut order.expr));
        parts.extend(params.filter.iter_mut().map(AsMut::as_mut));
        for part in parts {
            let schema = input.nullable()?;
            let simple = self.engine.simplified(part, &schema)?;
            *part = match simple {
                Expr::Literal(..) => simple,
                other => flat.add(input.evaluate(self.engine, &other)?),
            };
        }
        let schema = Arc::new(Schema::new(flat.fields));
        let batch = RecordBatch::try_new(schema, flat.arrays).map_err(failed)?;
        let call = Expr::WindowFunction(Box::new(call)).alias("value");
        let collected = self.engine.block_on(async {
            let frame = self.engine.context.read_batch(batch)?;
            let frame = frame
                .window(vec![call])?
                .select(vec![place, Expr::Column(Name::from_name("value"))])?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            Ok(concat_batches(&schema, &frame.collect().await?)?)
        });
        let collected =
            collected.map_err(|error: datafusion::error::DataFusionError| failed(error))?;
        let places = collected.column(0).as_primitive::<UInt64Type>();
        let mut at = vec![0; input.rows()];
        for (row, place) in (0_u64..).zip(places.values()) {
            at[usize::try_from(*place).map_err(failed)?] = row;
        }
        let values = take(collected.column(1), &UInt64Array::from(at), None).map_err(failed)?;
        arrow::compute::cast(&values, data_type).map_err(failed)
    }

    /// For each row, everybody in its frame.
    fn frames(
        &self,
        call: &WindowFunction,
        input: &Relation,
    ) -> Result<Option<Vec<Rc<People>>>, Failure> {
        if OF_ONE_ROW.contains(&call.fun.name()) {
            return Ok(None);
        }
        let params = &call.params;
        let partition = input.keys(self.engine, &params.partition_by)?;
        let order = self.order(call, input)?;
        let within = reach(&params.window_frame, params.order_by.is_empty())?;
        let mut frames = vec![];
        for row in 0..input.rows() {
            let mut people = People::default();
            for other in 0..input.rows() {
                let before = match within {
                    Reach::Partition => true,
                    Reach::Peers => order[other] <= order[row],
                    Reach::Rows => (&order[other], other) <= (&order[row], row),
                };
                if before && partition[other] == partition[row] {
                    people.add(&input.people[other]);
                }
            }
            frames.push(Rc::new(people));
        }
        Ok(Some(frames))
    }

    /// For each row, bytes that are in the order of the window.
    fn order(&self, call: &WindowFunction, input: &Relation) -> Result<Vec<Vec<u8>>, Failure> {
        if call.params.order_by.is_empty() {
            return Ok(vec![vec![]; input.rows()]);
        }
        let mut fields = vec![];
        let mut arrays = vec![];
        for key in &call.params.order_by {
            let values = input.evaluate(self.engine, &key.expr)?;
            let options = SortOptions {
                descending: !key.asc,
                nulls_first: key.nulls_first,
            };
            fields.push(SortField::new_with_options(
                values.data_type().clone(),
                options,
            ));
            arrays.push(values);
        }
        let converter = RowConverter::new(fields).map_err(failed)?;
        let rows = converter.convert_columns(&arrays).map_err(failed)?;
        Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
    }
}

/// How far a frame goes.
enum Reach {
    Partition,
    /// To the current row and all that are equal to it.
    Peers,
    /// To the current row.
    Rows,
}

fn reach(frame: &WindowFrame, unordered: bool) -> Result<Reach, Failure> {
    let unknown = || Err(format!("the oracle does not know the frame {frame}"));
    if !frame.start_bound.is_unbounded() {
        return unknown();
    }
    match &frame.end_bound {
        WindowFrameBound::Following(_) if frame.end_bound.is_unbounded() => Ok(Reach::Partition),
        WindowFrameBound::CurrentRow => Ok(match frame.units {
            _ if unordered && frame.units != WindowFrameUnits::Rows => Reach::Partition,
            WindowFrameUnits::Rows => Reach::Rows,
            WindowFrameUnits::Range | WindowFrameUnits::Groups => Reach::Peers,
        }),
        _ => unknown(),
    }
}
