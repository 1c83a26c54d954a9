//! Conditions of a rule on the arguments of a call.

use carrack_oci_config::LinuxSeccompArg;

/// How an argument is compared; numbers are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & value == value_two`.
    MaskedEqual,
}

/// Names in a profile.
pub(crate) const OPERATORS: &[(&str, Operator)] = &[
    ("SCMP_CMP_NE", Operator::NotEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_LE", Operator::LessOrEqual),
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::GreaterOrEqual),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
];

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    pub(crate) operator: Operator,
    pub(crate) value: u64,
    pub(crate) value_two: u64,
}

/// Why a condition cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConditionFault {
    UnknownOperator,
    NoSuchArgument,
}

impl Condition {
    pub(crate) fn parse(wire: &LinuxSeccompArg) -> Result<Self, ConditionFault> {
        let operator = OPERATORS.iter().find(|(name, _)| *name == wire.op).ok_or(ConditionFault::UnknownOperator)?.1;
        let index = u8::try_from(wire.index).ok().filter(|index| *index < 6).ok_or(ConditionFault::NoSuchArgument)?;
        // Only MASKED_EQ has a second value; elsewhere it says nothing and must not make equal rules differ.
        let value_two = if operator == Operator::MaskedEqual { wire.value_two.unwrap_or(0) } else { 0 };
        Ok(Self { index, operator, value: wire.value, value_two })
    }

    /// The same test on the low half of the argument: what is left of it where the ABI has 32-bit arguments.
    pub(crate) fn narrowed(self) -> Self {
        const LOW: u64 = 0xffff_ffff;
        Self { value: self.value & LOW, value_two: self.value_two & LOW, ..self }
    }
}
