//! Circuits on shared columns: bit logic, comparison, addition, conversion, multiplication.
//!
//! Every function takes the run's [`Context`](crate::context::Context) and a fresh
//! [`Step`](crate::net::Step): all randomness and all messages of the call carry that name, so a step
//! used twice is an error. Bit columns are bit-sliced, so an AND gate costs one bit a row and party.
//! Functions know columns, never tables, sorting or SQL. See `docs/protocols/circuits.md`.

mod adder;
mod compare;
mod convert;
pub mod division;
mod gates;
mod logic;
mod multiply;
pub mod nullable;
mod pieces;

pub use adder::{a2b, add, b2a, greater_equal_public, negate, subtract};
pub use compare::less_than;
pub use convert::{bit_to_arith, bit_to_arith64, bit_to_arith128};
pub use logic::{
    and, and_mask, any_row, any_row_declared, equal, equal_public, not, or, select, xor,
};
pub use multiply::{clear_rows, inner_product, inner_products, multiply, multiply_by_flag, sum};

pub(crate) use compare::{Comparison, Operand, Side, picoseconds};
pub(crate) use gates::{Gates, One, cross};
pub(crate) use multiply::cross_arith;

use crate::error::{Error, Result};
use crate::share::BitColumn;

/// Refuses operands of different shapes.
fn same_shape(operator: &'static str, a: &BitColumn, b: &BitColumn) -> Result<()> {
    if a.width() == b.width() && a.rows() == b.rows() {
        return Ok(());
    }
    Err(Error::InvalidInput {
        operator,
        what: format!(
            "{} rows of {} bits against {} rows of {} bits",
            a.rows(),
            a.width(),
            b.rows(),
            b.width()
        ),
    })
}

/// Refuses operands of different lengths.
fn same_rows(operator: &'static str, a: usize, b: usize) -> Result<()> {
    if a == b {
        return Ok(());
    }
    Err(Error::InvalidInput {
        operator,
        what: format!("{a} rows against {b} rows"),
    })
}

/// Refuses a column that is not one bit wide.
fn one_bit(operator: &'static str, flag: &BitColumn) -> Result<()> {
    if flag.width() == 1 {
        return Ok(());
    }
    Err(Error::InvalidInput {
        operator,
        what: format!("a flag of {} bits", flag.width()),
    })
}
