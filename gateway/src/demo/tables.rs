//! The generated tables as files: residents and incomes as Parquet, pensions as CSV. Identity
//! numbers are spelled as clerks spell them, so that only canonicalised keys meet.

use super::chance::Chance;
use super::people::{self, DISTRICTS, Person, TODAY, World};
use crate::cli::output::iso_date;
use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Int64Builder, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};

/// Public sizes of the generated tables, for their catalogues.
pub(super) struct Sizes {
    /// Rows of `civil.residents`.
    pub(super) residents: u64,
    /// Households.
    pub(super) households: u64,
    /// Rows of `tax.income`.
    pub(super) incomes: u64,
    /// People with a row in `tax.income`.
    pub(super) taxpayers: u64,
    /// Employers.
    pub(super) employers: u64,
    /// Rows of `social.pension`.
    pub(super) pensions: u64,
}

/// Writes `civil/residents.parquet`, `tax/income.parquet` and `social/pension.csv` below `dir`.
///
/// # Errors
/// `BadRequest` when a file cannot be written.
pub(super) fn write(dir: &Path, people: u64, seed: u64) -> Result<Sizes> {
    for department in ["civil", "tax", "social"] {
        let folder = dir.join(department);
        std::fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
    }
    let world = people::world(people, seed);
    let residents = residents(&world, seed).map_err(|error| defect(&error))?;
    write_parquet(&dir.join("civil/residents.parquet"), &residents)?;
    let employers = (people / 25).max(20);
    let (incomes, taxpayers) = incomes(&world, seed, employers).map_err(|error| defect(&error))?;
    write_parquet(&dir.join("tax/income.parquet"), &incomes)?;
    let (pensions, pensioners) = pensions(&world, seed);
    let file = dir.join("social/pension.csv");
    std::fs::write(&file, pensions).map_err(|error| unwritable(&file, &error))?;
    Ok(Sizes {
        residents: people,
        households: world
            .residents
            .last()
            .map_or(0, |last| (last.household - 10_000_000).unsigned_abs()),
        incomes: incomes.num_rows() as u64,
        taxpayers,
        employers,
        pensions: pensioners,
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("cannot write {}: {}", path.display(), error.kind()),
    )
}

fn defect(_: &arrow::error::ArrowError) -> Error {
    Error::new(
        Code::Internal,
        "the generated columns do not fit their schema",
    )
}

fn write_parquet(path: &Path, batch: &RecordBatch) -> Result<()> {
    let failed = |_| Error::new(Code::BadRequest, format!("cannot write {}", path.display()));
    let file = std::fs::File::create(path).map_err(|error| unwritable(path, &error))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(())
}

fn nullable(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// How clerks of one department spell an identity number: one in twelve with spaces around or
/// inside it, two in five of the X's in lower case.
fn spell(id: [u8; 18], chance: &mut Chance, out: &mut String) {
    out.clear();
    let spaced = chance.permille(80);
    let style = chance.below(4);
    if spaced && style == 0 {
        out.push(' ');
    }
    for (place, &byte) in id.iter().enumerate() {
        if spaced && style == 3 && (place == 6 || place == 14) {
            out.push(' ');
        }
        let lower = byte == b'X' && chance.permille(400);
        out.push(char::from(if lower { b'x' } else { byte }));
    }
    if spaced && style == 1 {
        out.push(' ');
    } else if spaced && style == 2 {
        out.push_str("  ");
    }
}

fn residents(
    world: &World,
    seed: u64,
) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let count = world.residents.len();
    let mut ids = StringBuilder::with_capacity(count, count * 18);
    let mut names = StringBuilder::with_capacity(count, count * 8);
    let mut births = Date32Builder::with_capacity(count);
    let mut districts = StringBuilder::with_capacity(count, count * 8);
    let mut households = Int64Builder::with_capacity(count);
    let mut low_incomes = BooleanBuilder::with_capacity(count);
    let mut spelled = String::new();
    for (index, person) in world.residents.iter().enumerate() {
        let mut chance = Chance::new(seed, 4, index as u64);
        spell(person.id, &mut chance, &mut spelled);
        ids.append_value(&spelled);
        names.append_value(people::name(seed, index as u64));
        births.append_value(person.birth);
        districts.append_value(DISTRICTS[usize::from(person.district)].name);
        households.append_value(person.household);
        low_incomes.append_value(person.low_income);
    }
    let schema = Schema::new(vec![
        required("person_id", DataType::Utf8),
        required("name", DataType::Utf8),
        required("birth_date", DataType::Date32),
        required("district", DataType::Utf8),
        required("household_id", DataType::Int64),
        required("low_income", DataType::Boolean),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.finish()),
        Arc::new(names.finish()),
        Arc::new(births.finish()),
        Arc::new(districts.finish()),
        Arc::new(households.finish()),
        Arc::new(low_incomes.finish()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns)
}

/// A year's taxable income from one employer, before the district's factor, in yuan.
const INCOMES: [(i64, i64); 11] = [
    (0, 6_000),
    (50, 18_000),
    (100, 27_000),
    (250, 49_000),
    (500, 84_000),
    (750, 138_000),
    (900, 236_000),
    (950, 342_000),
    (990, 790_000),
    (999, 2_400_000),
    (1000, 6_000_000),
];

/// No generated income is above this many yuan.
pub(super) const MAX_INCOME: i64 = 12_000_000;

/// Years with income rows.
pub(super) const YEARS: [i64; 3] = [2023, 2024, 2025];

/// The rows of `tax.income`, and how many people they concern.
fn incomes(
    world: &World,
    seed: u64,
    employers: u64,
) -> std::result::Result<(RecordBatch, u64), arrow::error::ArrowError> {
    let guess = world.residents.len() * 3;
    let mut ids = StringBuilder::with_capacity(guess, guess * 18);
    let mut years = Int64Builder::with_capacity(guess);
    let mut employer_ids = Int64Builder::with_capacity(guess);
    let mut amounts =
        Decimal128Builder::with_capacity(guess).with_data_type(DataType::Decimal128(14, 2));
    let mut spelled = String::new();
    let mut taxpayers = 0;
    for (index, person) in everybody(world) {
        let mut chance = Chance::new(seed, 5, index as u64);
        // One in ten residents never declared an income; most of the others from elsewhere did.
        if !chance.permille(if person.household > 10_000_000 {
            900
        } else {
            750
        }) {
            continue;
        }
        taxpayers += 1;
        let certain = chance.below(YEARS.len() as u64) as usize;
        let base = yearly_income(person, &mut chance);
        let employer = employer(&mut chance, employers);
        for (place, &year) in YEARS.iter().enumerate() {
            if place != certain && !chance.permille(850) {
                continue;
            }
            let rows = 1 + u64::from(chance.permille(110));
            for row in 0..rows {
                spell(person.id, &mut chance, &mut spelled);
                ids.append_value(&spelled);
                years.append_value(year);
                let employer = if row == 0 {
                    employer
                } else {
                    self::employer(&mut chance, employers)
                };
                employer_ids.append_option(employer);
                // Up to a sixth more or less from year to year; a second job pays a third.
                let cents = base * (840 + chance.below(320) as i64) / 1000 / (1 + 2 * row as i64);
                amounts.append_value(i128::from(cents.min(MAX_INCOME * 100)));
            }
        }
    }
    let schema = Schema::new(vec![
        required("person_id", DataType::Utf8),
        required("year", DataType::Int64),
        nullable("employer_id", DataType::Int64),
        required("taxable_income", DataType::Decimal128(14, 2)),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.finish()),
        Arc::new(years.finish()),
        Arc::new(employer_ids.finish()),
        Arc::new(amounts.finish()),
    ];
    Ok((RecordBatch::try_new(Arc::new(schema), columns)?, taxpayers))
}

fn everybody(world: &World) -> impl Iterator<Item = (usize, &Person)> {
    world.residents.iter().chain(&world.others).enumerate()
}

/// In cents, skewed, higher in richer districts, about a third for low-income households.
fn yearly_income(person: &Person, chance: &mut Chance) -> i64 {
    let yuan = chance.quantile(&INCOMES);
    let factor = DISTRICTS[usize::from(person.district)].income;
    let share = if person.low_income { 320 } else { 1000 };
    yuan * 100 * factor / 1000 * share / 1000 + chance.below(100) as i64
}

/// A few employers are large; one person in twelve has none.
fn employer(chance: &mut Chance, employers: u64) -> Option<i64> {
    if chance.permille(83) {
        return None;
    }
    let rank = chance.below(employers).min(chance.below(employers));
    Some(500_000 + rank.min(chance.below(employers)) as i64)
}

/// A month's pension in yuan.
const PENSIONS: [(i64, i64); 6] = [
    (0, 1_050),
    (150, 2_300),
    (500, 3_900),
    (850, 6_200),
    (980, 9_800),
    (1000, 14_500),
];

/// No generated pension is above this many yuan a month.
pub(super) const MAX_PENSION: i64 = 15_000;

/// The lines of `social.pension`, and how many people they concern.
fn pensions(world: &World, seed: u64) -> (String, u64) {
    let mut text = String::with_capacity(world.residents.len() * 16);
    text.push_str("person_id,status,monthly_pension,insured_since\n");
    let mut spelled = String::new();
    let mut count = 0;
    for (index, person) in everybody(world) {
        let mut chance = Chance::new(seed, 6, index as u64);
        let age = (TODAY - person.birth) / 365;
        let share = match age {
            60.. => 920,
            55.. => 430,
            50.. => 90,
            _ => 4,
        };
        if !chance.permille(share) {
            continue;
        }
        count += 1;
        spell(person.id, &mut chance, &mut spelled);
        let status = match chance.below(100) {
            0..=90 => "active",
            91..=95 => "suspended",
            _ => "ended",
        };
        let _ = write!(text, "{spelled},{status},");
        if status != "ended" {
            let cents = chance.quantile(&PENSIONS) * 100 + chance.below(100) as i64;
            let _ = write!(text, "{}.{:02}", cents / 100, cents % 100);
        }
        text.push(',');
        // The oldest paper files never got their date of entry.
        if !chance.permille(if age > 75 { 160 } else { 40 }) {
            let worked_from = person.birth + 18 * 365 + chance.below(12 * 365) as i32;
            text.push_str(&iso_date(worked_from.min(TODAY)));
        }
        text.push('\n');
    }
    (text, count)
}
