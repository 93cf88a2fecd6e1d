//! Wire types to domain types: everything that is missing or unknown is refused. Ranges of indices
//! are `validate`'s to check.

use crate::error::{Code, Error, Result};
use crate::plan::{
    Cell, ColumnRef, Comparator, Encoding, Engine, Fragment, FragmentColumn, JointPlan, Line,
    Operator, OutputColumn, PLAN_VERSION, Party, Predicate, PublicSize, Release, ReleasedColumn,
    ReleasedSource, UnitCount,
};
use crate::schema::ScalarType;
use veilgate_proto::plan::v1 as pb;

pub(super) fn plan(plan: pb::JointPlan) -> Result<JointPlan> {
    if plan.version != PLAN_VERSION {
        return Err(Error::new(
            Code::WrongVersion,
            format!(
                "a joint plan of version {}; this gateway reads version {PLAN_VERSION}",
                plan.version
            ),
        ));
    }
    let engine = required(plan.engine, "engine")?;
    Ok(JointPlan {
        engine: Engine {
            version: engine.version,
            config_hash: hash(&engine.config_hash, "engine configuration")?,
        },
        parties: all(plan.parties, party)?,
        fragments: all(plan.fragments, fragment)?,
        operators: all(plan.operators, operator)?,
        release: release(required(plan.release, "release")?)?,
        line: line(&required(plan.line, "line")?),
    })
}

fn line(line: &pb::Line) -> Line {
    Line {
        round_trip_micros: line.round_trip_micros,
        bytes_per_second: line.bytes_per_second,
        lanes: line.lanes,
    }
}

pub(super) fn refuse<T>(what: &str) -> Result<T> {
    Err(Error::new(
        Code::DigestMismatch,
        format!("the joint plan has {what}"),
    ))
}

pub(super) fn required<T>(value: Option<T>, what: &str) -> Result<T> {
    value.map_or_else(|| refuse(&format!("no {what}")), Ok)
}

pub(super) fn all<W, D>(items: Vec<W>, convert: impl Fn(W) -> Result<D>) -> Result<Vec<D>> {
    items.into_iter().map(convert).collect()
}

fn hash(bytes: &[u8], what: &str) -> Result<[u8; 32]> {
    bytes.try_into().map_or_else(
        |_| refuse(&format!("a hash of the {what} that is not 32 bytes long")),
        Ok,
    )
}

/// 32 bits fit `usize` wherever Veilgate runs; elsewhere the index is out of range.
pub(super) fn index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn indices(values: &[u32]) -> Vec<usize> {
    values.iter().copied().map(index).collect()
}

fn party(party: pb::Party) -> Result<Party> {
    let computing = match party.computing {
        0 => None,
        1 => Some(0),
        2 => Some(1),
        3 => Some(2),
        _ => return refuse("an unknown computing role"),
    };
    let catalog_version = if party.catalog_version.is_empty() {
        None
    } else {
        Some(hash(&party.catalog_version, "catalogue")?)
    };
    Ok(Party {
        department: party.department,
        computing,
        result: party.result,
        catalog_version,
    })
}

pub(super) fn scalar(data_type: Option<pb::ScalarType>) -> Result<ScalarType> {
    let data_type = required(data_type, "type for a column")?;
    let small = |value: u32| {
        u8::try_from(value).map_or_else(|_| refuse("a decimal with too many digits"), Ok)
    };
    match pb::ScalarKind::try_from(data_type.kind) {
        Ok(pb::ScalarKind::Int64) => Ok(ScalarType::Int64),
        Ok(pb::ScalarKind::Decimal) => Ok(ScalarType::Decimal {
            precision: small(data_type.precision)?,
            scale: small(data_type.scale)?,
        }),
        Ok(pb::ScalarKind::Date) => Ok(ScalarType::Date),
        Ok(pb::ScalarKind::Timestamp) => Ok(ScalarType::Timestamp),
        Ok(pb::ScalarKind::Bool) => Ok(ScalarType::Bool),
        Ok(pb::ScalarKind::Utf8) => Ok(ScalarType::Utf8),
        Ok(pb::ScalarKind::Float64) => Ok(ScalarType::Float64),
        Ok(pb::ScalarKind::Unspecified) | Err(_) => refuse("a column of an unknown type"),
    }
}

fn fragment(fragment: pb::Fragment) -> Result<Fragment> {
    Ok(Fragment {
        owner: index(fragment.owner),
        sql: fragment.sql,
        columns: all(fragment.columns, fragment_column)?,
        size: match fragment.declared_rows {
            0 => PublicSize::Bucket,
            rows => PublicSize::Declared(rows),
        },
        estimated_rows: fragment.estimated_rows,
        unique_key: fragment.unique_key,
    })
}

fn fragment_column(column: pb::FragmentColumn) -> Result<FragmentColumn> {
    use pb::fragment_column::Encoding as Wire;
    let encoding = match required(column.encoding, "encoding for a column, or an unknown one")? {
        Wire::KeyTag(tag) => Encoding::KeyTag {
            class: tag.class,
            bits: tag.bits,
        },
        Wire::UnitTag(tag) => Encoding::UnitTag { bits: tag.bits },
        Wire::Ring(pb::Ring { bits: 64 }) => Encoding::Ring64,
        Wire::Ring(pb::Ring { bits: 128 }) => Encoding::Ring128,
        Wire::Ring(_) => return refuse("a ring of an unknown width"),
        Wire::Bits(bits) => Encoding::Bits(bits.bits),
        Wire::Codes(codes) => Encoding::Codes(codes.values),
        Wire::Text(text) => Encoding::Text {
            max_bytes: text.max_bytes,
        },
    };
    Ok(FragmentColumn {
        data_type: scalar(column.r#type)?,
        nullable: column.nullable,
        encoding,
        label: column.label,
    })
}

fn column_ref(column: pb::ColumnRef) -> ColumnRef {
    ColumnRef {
        fragment: index(column.fragment),
        column: index(column.column),
    }
}

fn column_refs(columns: Vec<pb::ColumnRef>) -> Vec<ColumnRef> {
    columns.into_iter().map(column_ref).collect()
}

fn operator(operator: pb::Operator) -> Result<Operator> {
    use pb::operator::Kind;
    Ok(
        match required(operator.kind, "kind for an operator, or an unknown one")? {
            Kind::Input(input) => Operator::Input {
                fragment: index(input.fragment),
            },
            Kind::Align(align) => Operator::Align {
                fragments: indices(&align.fragments),
                class: align.class,
                neutral: index(align.neutral),
                mask_holders: indices(&align.mask_holders),
            },
            Kind::Join(join) => Operator::Join {
                left: index(join.left),
                right: index(join.right),
                left_key: column_ref(required(join.left_key, "left key for a join")?),
                right_key: column_ref(required(join.right_key, "right key for a join")?),
            },
            Kind::Filter(filter) => Operator::Filter {
                input: index(filter.input),
                predicate: predicate(required(filter.predicate, "predicate for a filter")?)?,
            },
            Kind::Program(program) => Operator::Program(super::program::read(program)?),
            Kind::Aggregate(aggregate) => Operator::Aggregate {
                input: index(aggregate.input),
                keys: column_refs(aggregate.keys),
                cells: aggregate.cells.into_iter().map(cell).collect(),
                units: aggregate.units.into_iter().map(unit_count).collect(),
            },
        },
    )
}

/// Recursion is as deep as the decoder of protobuf let it be: at most 100 levels.
fn predicate(condition: pb::Predicate) -> Result<Predicate> {
    use pb::predicate::Kind;
    Ok(match required(condition.kind, "kind for a predicate")? {
        Kind::Comparison(comparison) => Predicate::Compare {
            comparator: comparator(comparison.comparator)?,
            left: column_ref(required(comparison.left, "left side for a comparison")?),
            right: column_ref(required(comparison.right, "right side for a comparison")?),
        },
        Kind::Flag(column) => Predicate::Flag(column_ref(column)),
        Kind::All(list) => Predicate::All(all(list.items, predicate)?),
        Kind::Any(list) => Predicate::Any(all(list.items, predicate)?),
    })
}

fn cell(cell: pb::Cell) -> Cell {
    Cell {
        sum: cell.sum.map(column_ref),
        weights: column_refs(cell.weights),
        argument: cell.argument.map(column_ref),
        guards: indices(&cell.guards),
    }
}

fn unit_count(units: pb::UnitCount) -> UnitCount {
    UnitCount {
        owner: index(units.owner),
        unit: units.unit.map(column_ref),
        argument: units.argument.map(column_ref),
        k: units.k,
    }
}

fn release(release: pb::Release) -> Result<Release> {
    Ok(Release {
        input: index(release.input),
        columns: all(release.columns, released_column)?,
        group_guards: indices(&release.group_guards),
        public_groups: match release.public_groups {
            0 => None,
            groups => Some(groups),
        },
        sql: release.sql,
        output: all(release.output, output_column)?,
    })
}

fn released_column(column: pb::ReleasedColumn) -> Result<ReleasedColumn> {
    use pb::released_column::From;
    let source = match required(column.from, "source for a released column")? {
        From::Key(key) => ReleasedSource::Key(index(key)),
        From::Cell(cell) => ReleasedSource::Cell(index(cell)),
        From::Opened(column) => ReleasedSource::Opened(index(column)),
        From::Average(average) => ReleasedSource::Average {
            sum: index(average.sum_cell),
            count: index(average.count_cell),
        },
    };
    Ok(ReleasedColumn {
        source,
        data_type: scalar(column.r#type)?,
        nullable: column.nullable,
    })
}

fn output_column(column: pb::OutputColumn) -> Result<OutputColumn> {
    Ok(OutputColumn {
        name: column.name,
        data_type: scalar(column.r#type)?,
        nullable: column.nullable,
    })
}

pub(super) fn comparator(comparator: i32) -> Result<Comparator> {
    Ok(match pb::Comparator::try_from(comparator) {
        Ok(pb::Comparator::Equal) => Comparator::Equal,
        Ok(pb::Comparator::NotEqual) => Comparator::NotEqual,
        Ok(pb::Comparator::Less) => Comparator::Less,
        Ok(pb::Comparator::LessEqual) => Comparator::LessEqual,
        Ok(pb::Comparator::Greater) => Comparator::Greater,
        Ok(pb::Comparator::GreaterEqual) => Comparator::GreaterEqual,
        Ok(pb::Comparator::Unspecified) | Err(_) => return refuse("an unknown comparison"),
    })
}
