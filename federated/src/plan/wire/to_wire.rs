//! Domain types to wire types. Cannot fail: what does not fit becomes a value that decodes to
//! something else.

use crate::plan::{
    Cell, ColumnRef, Comparator, Encoding, Fragment, FragmentColumn, JointPlan, Operator,
    OutputColumn, PLAN_VERSION, Party, Predicate, PublicSize, Release, ReleasedColumn,
    ReleasedSource, UnitCount,
};
use crate::schema::ScalarType;
use veilgate_proto::plan::v1 as pb;

pub(super) fn plan(plan: &JointPlan) -> pb::JointPlan {
    pb::JointPlan {
        version: PLAN_VERSION,
        engine: Some(pb::Engine {
            version: plan.engine.version.clone(),
            config_hash: plan.engine.config_hash.to_vec(),
        }),
        parties: plan.parties.iter().map(party).collect(),
        fragments: plan.fragments.iter().map(fragment).collect(),
        operators: plan.operators.iter().map(operator).collect(),
        release: Some(release(&plan.release)),
        line: Some(pb::Line {
            round_trip_micros: plan.line.round_trip_micros,
            bytes_per_second: plan.line.bytes_per_second,
            lanes: plan.line.lanes,
        }),
    }
}

/// An index that does not fit 32 bits becomes one that validation refuses as out of range.
pub(super) fn index(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn indices(values: &[usize]) -> Vec<u32> {
    values.iter().copied().map(index).collect()
}

fn party(party: &Party) -> pb::Party {
    pb::Party {
        department: party.department.clone(),
        computing: party.computing.map_or(0, |role| u32::from(role) + 1),
        result: party.result,
        catalog_version: party
            .catalog_version
            .map_or_else(Vec::new, |hash| hash.to_vec()),
    }
}

pub(super) fn scalar(data_type: ScalarType) -> pb::ScalarType {
    let (kind, precision, scale) = match data_type {
        ScalarType::Int64 => (pb::ScalarKind::Int64, 0, 0),
        ScalarType::Decimal { precision, scale } => (pb::ScalarKind::Decimal, precision, scale),
        ScalarType::Date => (pb::ScalarKind::Date, 0, 0),
        ScalarType::Timestamp => (pb::ScalarKind::Timestamp, 0, 0),
        ScalarType::Bool => (pb::ScalarKind::Bool, 0, 0),
        ScalarType::Utf8 => (pb::ScalarKind::Utf8, 0, 0),
        ScalarType::Float64 => (pb::ScalarKind::Float64, 0, 0),
    };
    pb::ScalarType {
        kind: kind.into(),
        precision: precision.into(),
        scale: scale.into(),
    }
}

fn fragment(fragment: &Fragment) -> pb::Fragment {
    pb::Fragment {
        owner: index(fragment.owner),
        sql: fragment.sql.clone(),
        columns: fragment.columns.iter().map(fragment_column).collect(),
        declared_rows: match fragment.size {
            PublicSize::Bucket => 0,
            PublicSize::Declared(rows) => rows,
        },
        estimated_rows: fragment.estimated_rows,
        unique_key: fragment.unique_key,
    }
}

fn fragment_column(column: &FragmentColumn) -> pb::FragmentColumn {
    use pb::fragment_column::Encoding as Wire;
    let encoding = match &column.encoding {
        Encoding::KeyTag { class, bits } => Wire::KeyTag(pb::KeyTag {
            class: *class,
            bits: *bits,
        }),
        Encoding::UnitTag { bits } => Wire::UnitTag(pb::UnitTag { bits: *bits }),
        Encoding::Ring64 => Wire::Ring(pb::Ring { bits: 64 }),
        Encoding::Ring128 => Wire::Ring(pb::Ring { bits: 128 }),
        Encoding::Bits(bits) => Wire::Bits(pb::Bits { bits: *bits }),
        Encoding::Codes(values) => Wire::Codes(pb::Codes {
            values: values.clone(),
        }),
        Encoding::Text { max_bytes } => Wire::Text(pb::Text {
            max_bytes: *max_bytes,
        }),
    };
    pb::FragmentColumn {
        r#type: Some(scalar(column.data_type)),
        nullable: column.nullable,
        label: column.label.clone(),
        encoding: Some(encoding),
    }
}

fn column_ref(column: ColumnRef) -> pb::ColumnRef {
    pb::ColumnRef {
        fragment: index(column.fragment),
        column: index(column.column),
    }
}

fn column_refs(columns: &[ColumnRef]) -> Vec<pb::ColumnRef> {
    columns.iter().copied().map(column_ref).collect()
}

fn operator(operator: &Operator) -> pb::Operator {
    use pb::operator::Kind;
    let kind = match operator {
        Operator::Input { fragment } => Kind::Input(pb::Input {
            fragment: index(*fragment),
        }),
        Operator::Align {
            fragments,
            class,
            neutral,
            mask_holders,
        } => Kind::Align(pb::Align {
            fragments: indices(fragments),
            class: *class,
            neutral: index(*neutral),
            mask_holders: indices(mask_holders),
        }),
        Operator::Join {
            left,
            right,
            left_key,
            right_key,
        } => Kind::Join(pb::Join {
            left: index(*left),
            right: index(*right),
            left_key: Some(column_ref(*left_key)),
            right_key: Some(column_ref(*right_key)),
        }),
        Operator::Filter {
            input,
            predicate: condition,
        } => Kind::Filter(pb::Filter {
            input: index(*input),
            predicate: Some(predicate(condition)),
        }),
        Operator::Program(of) => Kind::Program(super::program::program(of)),
        Operator::Aggregate {
            input,
            keys,
            cells,
            units,
        } => Kind::Aggregate(pb::Aggregate {
            input: index(*input),
            keys: column_refs(keys),
            cells: cells.iter().map(cell).collect(),
            units: units.iter().map(unit_count).collect(),
        }),
    };
    pb::Operator { kind: Some(kind) }
}

fn predicate(condition: &Predicate) -> pb::Predicate {
    use pb::predicate::Kind;
    let list = |items: &[Predicate]| pb::PredicateList {
        items: items.iter().map(predicate).collect(),
    };
    let kind = match condition {
        Predicate::Compare {
            comparator,
            left,
            right,
        } => Kind::Comparison(pb::Comparison {
            comparator: comparator_of(*comparator).into(),
            left: Some(column_ref(*left)),
            right: Some(column_ref(*right)),
        }),
        Predicate::Flag(column) => Kind::Flag(column_ref(*column)),
        Predicate::All(items) => Kind::All(list(items)),
        Predicate::Any(items) => Kind::Any(list(items)),
    };
    pb::Predicate { kind: Some(kind) }
}

fn cell(cell: &Cell) -> pb::Cell {
    pb::Cell {
        sum: cell.sum.map(column_ref),
        weights: column_refs(&cell.weights),
        argument: cell.argument.map(column_ref),
        guards: indices(&cell.guards),
    }
}

fn unit_count(units: &UnitCount) -> pb::UnitCount {
    pb::UnitCount {
        owner: index(units.owner),
        unit: units.unit.map(column_ref),
        argument: units.argument.map(column_ref),
        k: units.k,
    }
}

fn release(release: &Release) -> pb::Release {
    pb::Release {
        input: index(release.input),
        columns: release.columns.iter().map(released_column).collect(),
        group_guards: indices(&release.group_guards),
        public_groups: release.public_groups.unwrap_or(0),
        sql: release.sql.clone(),
        output: release.output.iter().map(output_column).collect(),
    }
}

fn released_column(column: &ReleasedColumn) -> pb::ReleasedColumn {
    use pb::released_column::From;
    let from = match column.source {
        ReleasedSource::Key(key) => From::Key(index(key)),
        ReleasedSource::Cell(cell) => From::Cell(index(cell)),
        ReleasedSource::Opened(column) => From::Opened(index(column)),
        ReleasedSource::Average { sum, count } => From::Average(pb::Average {
            sum_cell: index(sum),
            count_cell: index(count),
        }),
    };
    pb::ReleasedColumn {
        r#type: Some(scalar(column.data_type)),
        nullable: column.nullable,
        from: Some(from),
    }
}

fn output_column(column: &OutputColumn) -> pb::OutputColumn {
    pb::OutputColumn {
        name: column.name.clone(),
        r#type: Some(scalar(column.data_type)),
        nullable: column.nullable,
    }
}

pub(super) fn comparator_of(comparator: Comparator) -> pb::Comparator {
    match comparator {
        Comparator::Equal => pb::Comparator::Equal,
        Comparator::NotEqual => pb::Comparator::NotEqual,
        Comparator::Less => pb::Comparator::Less,
        Comparator::LessEqual => pb::Comparator::LessEqual,
        Comparator::Greater => pb::Comparator::Greater,
        Comparator::GreaterEqual => pb::Comparator::GreaterEqual,
    }
}
