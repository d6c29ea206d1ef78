//! The table at the end: part, result, seconds, and what to know beside it.

use super::Outcome;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) seconds: f64,
}

/// Draws all rows, and a closing line that counts them.
pub(crate) fn draw(rows: &[Row]) -> String {
    let mut text = String::from("\npart        result   seconds\n");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for row in rows {
        let (result, note) = match &row.outcome {
            Outcome::Passed(note) => {
                passed += 1;
                ("passed", note.as_str())
            }
            Outcome::Failed(_) => {
                failed += 1;
                ("FAILED", "")
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                ("skipped", reason.as_str())
            }
        };
        let line = format!("{:<11} {result:<8} {:>7.1}  {note}", row.name, row.seconds);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&format!(
        "\n{passed} passed, {failed} failed, {skipped} skipped\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_counted_once() {
        let row = |name, outcome| Row {
            name,
            outcome,
            seconds: 1.25,
        };
        let drawn = draw(&[
            row("fmt", Outcome::Passed(String::new())),
            row("tests", Outcome::Passed("412 tests".into())),
            row("docs", Outcome::Failed("a page of errors".into())),
            row("cdk", Outcome::Skipped("no node".into())),
        ]);
        assert_eq!(
            drawn,
            "\npart        result   seconds\n\
             fmt         passed       1.2\n\
             tests       passed       1.2  412 tests\n\
             docs        FAILED       1.2\n\
             cdk         skipped      1.2  no node\n\
             \n2 passed, 1 failed, 1 skipped\n"
        );
    }
}
