//! The macro behind every closed list of words.

/// A word that is not in the closed list it should come from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {kind}; expected one of {expected}")]
pub struct UnknownWord {
    /// What the word should have been, e.g. `VM state`.
    pub kind: &'static str,
    /// The word that was found.
    pub found: String,
    /// The accepted words, comma-separated.
    pub expected: String,
}

/// The name that somebody probably meant by an unknown one: at most two edits away, and not half another word.
pub fn nearest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = unknown.chars().count().div_ceil(2).min(2);
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let wanted = letters(unknown);
    // Of names that are as near, the one with the same letters is meant: two of them were typed the other way round.
    let near = names.into_iter().map(|name| (distance(name, unknown), letters(name) != wanted, name));
    near.filter(|(d, ..)| *d <= most).min().map(|(.., name)| name)
}

/// Edit distance, counted up to 3.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return 3;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (cb, above) in b.iter().zip(row.iter().skip(1)) {
            let cost = if ca == *cb { diagonal } else { 1 + diagonal.min(left).min(*above) };
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0).min(3)
}

/// Declares an enum whose variants are written as fixed words in tables, on wires and on screens.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident: $kind:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that stands for this member in tables, on wires and on screens.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|m| m.as_str() == word).ok_or_else(|| $crate::words::UnknownWord {
                    kind: $kind,
                    found: word.to_owned(),
                    expected: Self::ALL.iter().map(|m| m.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_name_that_was_meant() {
        let names = ["mac", "name", "state", "step"];
        for (typed, meant) in [
            ("nmae", Some("name")),
            ("stat", Some("state")),
            ("stp", Some("step")),
            ("color", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }
}
