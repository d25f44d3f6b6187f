//! Whether what the configuration wants of hooks is what they do.

use inference_hooks::FieldType;
use policies::chains::find_loop;

use super::rules::{Alert, Rule};

/// What does not go together.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RuleError {
    #[error(
        "the hook {hook} makes no picture that could take the place of an original: leave originals_share out"
    )]
    NoPicture { hook: String },
    #[error(
        "the gate {hook} asks for {field:?}, which is no field of its hook that is true or false; there is {known}"
    )]
    NoFlag { hook: String, field: String, known: String },
    #[error(
        "alert_if {condition:?} asks for {field:?}, which is no field of the hook {hook}; there is {known}"
    )]
    NoField { hook: String, condition: String, field: String, known: String },
    #[error(
        "the gates {first} and {second} both have `route_if` for the same share, and neither could wait for the other: let one of them \
         route, and the other say `hold_if` or `drop_if`"
    )]
    TwoRoutes { first: String, second: String },
    #[error(
        "the hooks {hooks} could look at each other's results, or at files that they send to each other's shares, for ever: let them have \
         the same results_folder, or give one a `match` that leaves out what the others write or send"
    )]
    Loop { hooks: String },
}

impl Rule {
    /// Whether its hook says what its gate and its alerts ask for.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), RuleError> {
        let hook = || self.hook.name().to_owned();
        let fields = &self.hook.output().fields;
        let names = |of: &dyn Fn(FieldType) -> bool| {
            let names = fields.iter().filter(|(_, kind)| of(*kind)).map(|(name, _)| name.as_str());
            names.collect::<Vec<_>>()
        };
        let listed = |names: &[&str]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        if let Some(gate) = &self.gate {
            if gate.originals.is_some() && self.hook.output().image.is_none() {
                return Err(RuleError::NoPicture { hook: hook() });
            }
            let known = names(&|kind| kind == FieldType::Bool);
            let mut asked =
                gate.rule.hold_if.iter().chain(&gate.rule.drop_if).chain(&gate.rule.route_if);
            if let Some(field) = asked.find(|field| !known.contains(&field.as_str())) {
                let (field, known) = (field.clone(), listed(&known));
                return Err(RuleError::NoFlag { hook: hook(), field, known });
            }
        }
        let known = names(&|_| true);
        for Alert { condition, search } in &self.alerts {
            if let Some(field) = search.fields().find(|field| !known.contains(field)) {
                let (condition, field) = (condition.clone(), field.to_owned());
                return Err(RuleError::NoField {
                    hook: hook(),
                    condition,
                    field,
                    known: listed(&known),
                });
            }
        }
        Ok(())
    }
}

/// A gate that routes looks at what all other gates of a share have let pass: there can be one.
///
/// # Errors
/// Names two.
pub fn refuse_two_routes(rules: &[Rule]) -> Result<(), RuleError> {
    let routing: Vec<_> = rules.iter().filter(|rule| rule.routes()).collect();
    for (at, first) in routing.iter().enumerate() {
        let meets = |other: &&&Rule| other.shares.iter().any(|share| first.shares.contains(share));
        if let Some(second) = routing[at + 1..].iter().find(meets) {
            let [first, second] = [first, second].map(|rule| rule.hook.name().to_owned());
            return Err(RuleError::TwoRoutes { first, second });
        }
    }
    Ok(())
}

/// What one hook writes may be an arrival for another, but not for ever.
///
/// # Errors
/// Names those that would not end.
pub fn refuse_loops(rules: &[Rule]) -> Result<(), RuleError> {
    let links: Vec<_> = rules.iter().map(Rule::link).collect();
    let Some(numbers) = find_loop(&links) else { return Ok(()) };
    let names: Vec<_> = numbers.iter().map(|number| rules[*number].hook.name()).collect();
    Err(RuleError::Loop { hooks: names.join(" → ") })
}
