use std::num::NonZeroU32;

use freehold_model::{Boot, BootLimit, RoleOrder};

use crate::field::Field;
use crate::report::Report;
use crate::yaml::{ScalarKind, Value};

/// Reads `boot`.
pub(super) fn read(field: Option<Field<'_>>, report: &mut Report) -> Boot {
    let section = field.and_then(|field| field.section("boot", report));
    let Some(section) = section else { return Boot::default() };
    Boot {
        limit: section.get("limit").and_then(|field| limit(&field, report)),
        wait: section.get("wait").and_then(|field| field.seconds(0, report)).unwrap_or_default(),
        order: match section.get("parallel_roles").and_then(|field| field.boolean(report)) {
            Some(true) => RoleOrder::Parallel,
            _ => RoleOrder::OneByOne,
        },
    }
}

fn limit(field: &Field<'_>, report: &mut Report) -> Option<BootLimit> {
    let is_text =
        matches!(&field.node.value, Value::Scalar(scalar) if matches!(scalar.kind, ScalarKind::Text(_)));
    if field.is_list() || field.is_map() {
        field.wrong_type("an integer or a string", report);
        return None;
    }
    if !is_text {
        let hosts = field.integer(1..=u64::from(u32::MAX), report)?;
        return u32::try_from(hosts).ok().and_then(NonZeroU32::new).map(BootLimit::Hosts);
    }
    let text = field.text(report)?;
    let share = text.strip_suffix('%').and_then(|share| share.trim().parse::<u8>().ok());
    let share = share.filter(|share| (1..=100).contains(share));
    if share.is_none() {
        let finding = field.mistake(format!("`{text}` is neither a number of hosts nor a share of them"));
        report.mistake(finding.help("write `2`, or `\"25%\"` from 1 to 100"));
    }
    share.map(BootLimit::Percent)
}
