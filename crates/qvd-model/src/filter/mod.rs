//! Selections of rows: one tree, written as JSON by programs and as text by people.
//!
//! The API reads and writes the JSON form (`spec/api.md` 3.4, module [`json`]); `qa4` reads the text form
//! (`spec/cli.md` 1.6, module [`text`]). Names are not interpreted here: which of them exist, and what type
//! their values have, is the business of the action registry.

pub mod json;
pub mod lexer;
pub mod text;

/// Which rows are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of these hold; every row if there are none.
    And(Vec<Filter>),
    /// At least one of these holds; no row if there are none.
    Or(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
    /// One field is compared.
    Test(Test),
}

/// A comparison of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The field as it was written; aliases are resolved by [`Filter::rename`].
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub operand: Operand,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Equal to the value, or to one of the values.
    Equal,
    /// Different from the value, or from all of the values.
    Different,
    /// Smaller.
    Less,
    /// Smaller or equal.
    AtMost,
    /// Greater.
    Greater,
    /// Greater or equal.
    AtLeast,
    /// SQL `LIKE`: `%` stands for any text, `_` for one character, a backslash takes their meaning away.
    Like,
}

/// What a field is compared with. Values are kept as text; the type of the field decides how they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// One value.
    One(Scalar),
    /// Any of these (for [`Operator::Different`]: none of them).
    Many(Vec<Scalar>),
    /// From the first to the second, both included; only with [`Operator::Equal`].
    Range(String, String),
}

/// One value; `None` is the absence of one, SQL's NULL.
pub type Scalar = Option<String>;

impl Operator {
    /// How it is written, in both forms.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Different => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Like => "~",
        }
    }

    /// Reads either spelling of an operator.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "!=" | "<>" => Self::Different,
            "<" => Self::Less,
            "<=" => Self::AtMost,
            ">" => Self::Greater,
            ">=" => Self::AtLeast,
            "~" | "LIKE" => Self::Like,
            _ => return None,
        })
    }
}

impl Filter {
    /// The selection of every row.
    pub const fn all() -> Self {
        Self::And(Vec::new())
    }

    /// `field operator value`.
    pub fn test(field: impl Into<String>, operator: Operator, value: impl Into<String>) -> Self {
        Self::Test(Test { field: field.into(), operator, operand: Operand::One(Some(value.into())) })
    }

    /// `field` is one of `values`.
    pub fn any_of<T: ToString>(field: impl Into<String>, values: impl IntoIterator<Item = T>) -> Self {
        let values = values.into_iter().map(|v| Some(v.to_string())).collect();
        Self::Test(Test { field: field.into(), operator: Operator::Equal, operand: Operand::Many(values) })
    }

    /// Both; nested conjunctions become one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(joined(self, other, |f| match f {
            Self::And(members) => Ok(members),
            other => Err(other),
        }))
        .simplified()
    }

    /// Either; nested alternatives become one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(joined(self, other, |f| match f {
            Self::Or(members) => Ok(members),
            other => Err(other),
        }))
        .simplified()
    }

    /// The opposite.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    fn simplified(self) -> Self {
        match self {
            Self::And(mut members) | Self::Or(mut members) if members.len() == 1 => {
                members.pop().unwrap_or(Self::all())
            }
            other => other,
        }
    }

    /// Whether every row is selected because nothing is asked.
    pub fn is_unrestricted(&self) -> bool {
        matches!(self, Self::And(members) if members.iter().all(Self::is_unrestricted))
    }

    /// The comparisons, left to right.
    pub fn tests(&self) -> Vec<&Test> {
        match self {
            Self::Test(test) => vec![test],
            Self::Not(inner) => inner.tests(),
            Self::And(members) | Self::Or(members) => members.iter().flat_map(Self::tests).collect(),
        }
    }

    /// Whether a field is compared anywhere in the tree.
    pub fn mentions(&self, field: &str) -> bool {
        self.tests().iter().any(|t| t.field == field)
    }

    /// Replaces the name of each field.
    #[must_use]
    pub fn rename(self, name: &impl Fn(&str) -> Option<String>) -> Self {
        match self {
            Self::Test(mut test) => {
                if let Some(new) = name(&test.field) {
                    test.field = new;
                }
                Self::Test(test)
            }
            Self::Not(inner) => Self::Not(Box::new(inner.rename(name))),
            Self::And(members) => Self::And(members.into_iter().map(|m| m.rename(name)).collect()),
            Self::Or(members) => Self::Or(members.into_iter().map(|m| m.rename(name)).collect()),
        }
    }
}

fn joined(a: Filter, b: Filter, members: impl Fn(Filter) -> Result<Vec<Filter>, Filter>) -> Vec<Filter> {
    let mut all = members(a).unwrap_or_else(|one| vec![one]);
    all.extend(members(b).unwrap_or_else(|one| vec![one]));
    all
}

/// Whether `text` fits an SQL `LIKE` pattern.
pub fn like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Greedy matching with one point to come back to: the latest `%`.
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('%') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some('_') if t < text.len() => Some(1),
            Some('\\') if pattern.get(p + 1).is_some_and(|c| text.get(t) == Some(c)) => Some(2),
            Some('\\') if p + 1 < pattern.len() => None,
            Some('_') => None,
            Some(c) => (text.get(t) == Some(c)).then_some(1),
        };
        match (step, retry) {
            (Some(consumed), _) => (p, t) = (p + consumed, t + 1),
            (None, Some((after, from))) if from < text.len() => {
                (p, t) = (after, from + 1);
                retry = Some((after, from + 1));
            }
            (None, _) => return false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_sql() {
        for (pattern, text, fits) in [
            ("te%", "test", true),
            ("te%", "at", false),
            ("%a_c%", "xxabcx", true),
            ("%ab", "aab", true),
            ("", "", true),
            ("%", "", true),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("_", "", false),
            ("%%x", "axx", true),
        ] {
            assert_eq!(like(pattern, text), fits, "{pattern} {text}");
        }
    }

    pub(crate) fn scalar() -> BoxedStrategy<Scalar> {
        prop_oneof![9 => any::<String>().prop_map(Some), 1 => Just(None)].boxed()
    }

    /// Trees in the shape that the constructors give: no nesting of equals, no lone members.
    pub(crate) fn tree(scalar: impl Strategy<Value = Scalar> + Clone + 'static) -> BoxedStrategy<Filter> {
        let word = prop_oneof!["[a-z][a-z0-9_.-]{0,8}", any::<String>()];
        let word = word.prop_filter("a logical sign", |w| !w.starts_with('-')).boxed();
        let one = (word.clone(), 0..7usize, scalar.clone()).prop_map(|(field, operator, value)| {
            let operators = ["=", "!=", "<", "<=", ">", ">=", "~"];
            let operator = Operator::parse(operators[operator]).unwrap();
            Filter::Test(Test { field, operator, operand: Operand::One(value) })
        });
        let many = (word.clone(), 0..3usize, prop::collection::vec(scalar, 1..4)).prop_map(
            |(field, operator, values)| {
                let operator = [Operator::Equal, Operator::Different, Operator::Like][operator];
                Filter::Test(Test { field, operator, operand: Operand::Many(values) })
            },
        );
        let range = (word, any::<String>(), any::<String>()).prop_map(|(field, from, to)| {
            Filter::Test(Test { field, operator: Operator::Equal, operand: Operand::Range(from, to) })
        });
        prop_oneof![4 => one, 1 => many, 1 => range]
            .prop_recursive(4, 24, 4, |inner| {
                prop_oneof![
                    (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
                    (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
                    inner.prop_map(Filter::negated),
                ]
            })
            .boxed()
    }
}
