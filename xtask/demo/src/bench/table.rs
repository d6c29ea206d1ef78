//! The table: what was measured, what it may be at most, and an honest word about each row.

/// One measured row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What came out for the extension that does nothing, or nothing where that has no meaning.
    pub floor: Option<f64>,
    /// What came out for ours.
    pub ours: f64,
    /// What it may be at most.
    pub limit: Limit,
    /// The unit of all three.
    pub unit: &'static str,
    /// What else is to be said, such as the spread.
    pub note: String,
}

/// What a number may be at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A number.
    AtMost(f64),
    /// That many times what the floor had in the same run.
    TimesFloor(f64),
    /// Nothing is promised.
    None,
}

impl Row {
    /// Whether the promise holds, nothing when none was made.
    pub fn holds(&self) -> Option<bool> {
        match self.limit {
            Limit::AtMost(most) => Some(self.ours <= most),
            Limit::TimesFloor(times) => Some(self.ours <= times * self.floor?),
            Limit::None => None,
        }
    }
}

/// The middle of some measurements; with an even number, the lower of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

/// The largest of some measurements.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::max)
}

/// A Markdown table, then a line that counts what was missed.
pub fn draw(rows: &[Row]) -> String {
    let number = |value: f64, unit: &str| match value {
        value if value.is_nan() => "not measured".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0} {unit}"),
        value => format!("{value:.2} {unit}"),
    };
    let mut text = String::from("| what | floor | measured | at most | |\n|---|---|---|---|---|\n");
    for row in rows {
        let most = match row.limit {
            Limit::AtMost(most) => number(most, row.unit),
            Limit::TimesFloor(times) => format!("{times} × floor"),
            Limit::None => "–".into(),
        };
        let verdict = match row.holds() {
            Some(true) => "holds",
            Some(false) => "**missed**",
            None => "",
        };
        let floor = row
            .floor
            .map_or("–".into(), |value| number(value, row.unit));
        let last = [verdict, row.note.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>();
        text.push_str(&format!(
            "| {} | {floor} | {} | {most} | {} |\n",
            row.what,
            number(row.ours, row.unit),
            last.join("; ")
        ));
    }
    let missed = rows.iter().filter(|row| row.holds() == Some(false)).count();
    text.push_str(&match missed {
        0 => "\nEvery number holds.\n".to_owned(),
        missed => format!("\n{missed} of {} numbers are missed.\n", rows.len()),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, floor: Option<f64>, limit: Limit) -> Row {
        Row {
            what: "x".into(),
            floor,
            ours,
            limit,
            unit: "ms",
            note: String::new(),
        }
    }

    #[test]
    fn a_promise_holds_at_its_limit_and_not_past_it() {
        assert_eq!(row(2.0, None, Limit::AtMost(2.0)).holds(), Some(true));
        assert_eq!(row(2.01, None, Limit::AtMost(2.0)).holds(), Some(false));
        assert_eq!(
            row(2.0, Some(2.0), Limit::TimesFloor(1.0)).holds(),
            Some(true)
        );
        assert_eq!(row(2.0, None, Limit::TimesFloor(1.0)).holds(), None);
        assert_eq!(row(f64::NAN, None, Limit::AtMost(2.0)).holds(), Some(false));
    }

    #[test]
    fn middles_are_middles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        assert!(median(&[]).is_nan());
        assert_eq!(largest(&[1.0, 5.0, 2.0]), 5.0);
    }

    #[test]
    fn a_missed_number_is_said() {
        let drawn = draw(&[
            row(3.0, Some(1.0), Limit::AtMost(2.0)),
            row(1.0, None, Limit::None),
        ]);
        assert!(
            drawn.contains("| x | 1.00 ms | 3.00 ms | 2.00 ms | **missed** |"),
            "{drawn}"
        );
        assert!(drawn.ends_with("1 of 2 numbers are missed.\n"), "{drawn}");
    }
}
