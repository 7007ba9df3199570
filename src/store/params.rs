//! The parameters of a statement, each with its type in PostgreSQL.
//!
//! The types go along so that a statement can also be sent in one message without being prepared,
//! and so that no statement depends on what the server would guess.

use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// A value and its type.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// What may be a parameter.
pub(super) trait Value: ToSql + Sync {
    /// Its type.
    const TYPE: Type;
    /// The type of an array of it.
    const ARRAY: Type;
}

macro_rules! values {
    ($($rust:ty: $one:ident, $many:ident;)+) => {
        $(impl Value for $rust {
            const TYPE: Type = Type::$one;
            const ARRAY: Type = Type::$many;
        })+
    };
}

values! {
    &str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    bool: BOOL, BOOL_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    f64: FLOAT8, FLOAT8_ARRAY;
    &[u8]: BYTEA, BYTEA_ARRAY;
    Uuid: UUID, UUID_ARRAY;
    OffsetDateTime: TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
}

impl<T: Value> Value for Option<T> {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Value> Value for Vec<T> {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAY; // PostgreSQL's arrays of arrays are arrays
}

impl<T: Value> Value for &[T] {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Value> Value for &T {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

/// One parameter.
pub(super) fn param<T: Value>(value: &T) -> Param<'_> {
    (value, T::TYPE)
}

/// The parameters of a statement, in their order.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::params::param(&$value)),*] };
}
pub(super) use params;
