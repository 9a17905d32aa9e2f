//! How long a file may be: a file that needs a table of contents is two files.

use crate::Finding;
use crate::source::File;

/// Lines of the longest file.
const LIMIT: usize = 600;

/// Files that are one table, where splitting would only hide the order.
const TABLES: [(&str, &str); 1] = [(
    "crates/qvd-db/src/schema/0001_relations.sql",
    "the relations of 4.3.0, in the order of their references",
)];

/// Files that are too long.
pub fn findings(files: &[File]) -> Vec<Finding> {
    files
        .iter()
        .filter(|file| file.lines > LIMIT && !TABLES.iter().any(|(path, _)| *path == file.path))
        .map(|file| format!("{} has {} lines; split it (limit {LIMIT})", file.path, file.lines))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found_and_tables_are_not() {
        let file = |path: &str, lines| File { path: path.to_owned(), lines };
        let found = findings(&[file("a.rs", 600), file("b.rs", 601), file(TABLES[0].0, 2000)]);
        assert_eq!(found, ["b.rs has 601 lines; split it (limit 600)"]);
    }
}
