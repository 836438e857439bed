use std::collections::BTreeMap;

use freehold_model::Logging;

use crate::field::Field;
use crate::report::Report;

/// Reads the root's `logging` and a role's over it. With neither driver nor options, logs are cut at 10 MB.
pub(super) fn read(root: Option<Field<'_>>, role: Option<Field<'_>>, report: &mut Report) -> Logging {
    let mut driver = None;
    let mut options = BTreeMap::new();
    for field in root.iter().chain(&role) {
        let Some(section) = field.section("logging", report) else { continue };
        if let Some(field) = section.get("driver") {
            driver = field.filled_text(report);
        }
        let pairs = section.get("options").map(|field| field.map(report)).unwrap_or_default();
        for (name, value) in pairs {
            options.extend(value.text(report).map(|text| (name.to_owned(), text)));
        }
    }
    if driver.is_none() && options.is_empty() { Logging::default() } else { Logging { driver, options } }
}
