//! What scanners write: the JSON of Trivy (`Results[].Vulnerabilities[]`) and of Grype (`matches[]`).

use freehold_model::Severity;
use serde::Deserialize;

/// What a report says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// How many flaws it names.
    pub(super) known: usize,
    /// Those that are bad enough, the worst first, a line each.
    pub(super) flaws: Vec<String>,
}

/// A report that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine_host) enum ReportError {
    #[error("it is not JSON")]
    Json(#[from] serde_json::Error),
    #[error("it has neither `Results` (Trivy) nor `matches` (Grype)")]
    Unknown,
    #[error("`{0}` is no severity")]
    Severity(String),
}

#[derive(Deserialize)]
struct Report {
    #[serde(rename = "Results")]
    results: Option<Vec<Target>>,
    #[serde(rename = "SchemaVersion")]
    schema: Option<u32>,
    matches: Option<Vec<Match>>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default, rename = "Vulnerabilities")]
    vulnerabilities: Option<Vec<Vulnerability>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Vulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default)]
    pkg_name: String,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    severity: String,
}

#[derive(Deserialize)]
struct Match {
    vulnerability: Rated,
    #[serde(default)]
    artifact: Artifact,
}

#[derive(Deserialize)]
struct Rated {
    id: String,
    #[serde(default)]
    severity: String,
}

#[derive(Default, Deserialize)]
struct Artifact {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

impl Findings {
    pub(super) fn read(text: &str, least: &str) -> Result<Self, ReportError> {
        let least = Severity::from_name(least).ok_or_else(|| ReportError::Severity(least.to_owned()))?;
        let report: Report = serde_json::from_str(text.trim())?;
        let all: Vec<(String, String)> = match (report.results, report.matches) {
            (Some(results), _) => results
                .into_iter()
                .flat_map(|result| result.vulnerabilities.unwrap_or_default())
                .map(|flaw| {
                    (flaw.severity, format!("{} in {} {}", flaw.id, flaw.pkg_name, flaw.installed_version))
                })
                .collect(),
            (None, Some(matches)) => matches
                .into_iter()
                .map(|found| {
                    let Artifact { name, version } = found.artifact;
                    (found.vulnerability.severity, format!("{} in {name} {version}", found.vulnerability.id))
                })
                .collect(),
            // Trivy leaves the list out where it found nothing.
            (None, None) if report.schema.is_some() => Vec::new(),
            (None, None) => return Err(ReportError::Unknown),
        };
        let known = all.len();
        let mut flaws = Vec::new();
        for (severity, text) in all {
            // A severity that nobody knows could be the worst of all.
            let rated =
                if severity.is_empty() { Some(Severity::Negligible) } else { Severity::from_name(&severity) };
            let rated = rated.ok_or(ReportError::Severity(severity))?;
            if rated >= least {
                flaws.push((rated, format!("{}: {}", rated.as_str(), text.trim())));
            }
        }
        flaws.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        Ok(Self { known, flaws: flaws.into_iter().map(|(_, text)| text).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIVY: &str = r#"{"SchemaVersion":2,"Results":[{"Target":"a"},{"Target":"b","Vulnerabilities":[
        {"VulnerabilityID":"CVE-1","PkgName":"zlib","InstalledVersion":"1.2","Severity":"HIGH"},
        {"VulnerabilityID":"CVE-2","PkgName":"bash","InstalledVersion":"5","Severity":"CRITICAL"},
        {"VulnerabilityID":"CVE-3","Severity":"UNKNOWN"}]}]}"#;
    const GRYPE: &str = r#"{"matches":[{"vulnerability":{"id":"CVE-1","severity":"Medium"},
        "artifact":{"name":"zlib","version":"1.2"}}]}"#;

    #[test]
    fn reports_of_both_scanners_are_read() {
        let found = Findings::read(TRIVY, "high").unwrap();
        assert_eq!(found.known, 3);
        assert_eq!(found.flaws, ["critical: CVE-2 in bash 5", "high: CVE-1 in zlib 1.2"]);
        assert_eq!(Findings::read(GRYPE, "high").unwrap().flaws, [""; 0]);
        assert_eq!(Findings::read(GRYPE, "medium").unwrap().flaws, ["medium: CVE-1 in zlib 1.2"]);
        assert_eq!(Findings::read(r#"{"SchemaVersion":2}"#, "low").unwrap().known, 0);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(matches!(Findings::read("all fine", "high"), Err(ReportError::Json(_))));
        assert!(matches!(Findings::read("{}", "high"), Err(ReportError::Unknown)));
        let strange = GRYPE.replace("Medium", "Dreadful");
        assert!(matches!(Findings::read(&strange, "high"), Err(ReportError::Severity(_))));
    }
}
