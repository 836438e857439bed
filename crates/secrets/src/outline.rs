use crate::dotenv;
use crate::substitute::{LineBreaks, Part, parts};

/// A name that a secrets file defines, as far as that is known without running anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlined {
    /// The name.
    pub name: String,
    /// The line of the name, from 1.
    pub line: usize,
    /// The names that the value refers to with `$`.
    pub variables: Vec<String>,
    /// How many commands the value needs.
    pub commands: usize,
}

/// Says what a secrets file defines, without running a command and without telling a value.
#[must_use]
pub fn outline(text: &str) -> Vec<Outlined> {
    let outlined = |definition: dotenv::Definition| {
        let parts = definition.value.map(|value| parts(&value, LineBreaks::Kept)).unwrap_or_default();
        let mut outlined =
            Outlined { name: definition.key, line: definition.line, variables: Vec::new(), commands: 0 };
        count(&parts, &mut outlined);
        outlined
    };
    dotenv::parse(text).definitions.into_iter().map(outlined).collect()
}

fn count(parts: &[Part], outlined: &mut Outlined) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Variable(name) => outlined.variables.push(name.clone()),
            Part::Command(parts) => {
                outlined.commands += 1;
                count(parts, outlined);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_and_values_are_not() {
        let outlined = outline("A=m4rk\n\nB=\"$A-$(cat $HOME/$(x))\"\nC='$A'\n");
        let shown: Vec<_> = outlined
            .iter()
            .map(|entry| (entry.name.as_str(), entry.line, entry.variables.join(","), entry.commands))
            .collect();
        assert_eq!(
            shown,
            [("A", 1, String::new(), 0), ("B", 3, "A,HOME".to_owned(), 1), ("C", 4, String::new(), 0)]
        );
        assert!(!format!("{outlined:?}").contains("m4rk"));
    }
}
