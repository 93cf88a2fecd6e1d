//! Whose fault it is: the one error of a run that is reported, of all that its gateways tell.

use veilgate_federated::error::{Blame, Code, Error, Result};

/// All answers, or the one error to report.
pub(super) fn all<T>(answers: Vec<Result<T>>) -> Result<Vec<T>> {
    let mut good = Vec::with_capacity(answers.len());
    let mut errors = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => good.push(answer),
            Err(error) => errors.push(error),
        }
    }
    match cause(errors) {
        Some(error) => Err(error),
        None => Ok(good),
    }
}

/// Errors by who tells of them, without those of whoever missed somebody that tells of a fault itself: that one is
/// there, and ended its connections for its own reason.
pub(super) fn without_echoes(errors: Vec<(String, Error)>) -> Vec<Error> {
    let tells = |department: &str| errors.iter().any(|(from, _)| from == department);
    let echo = |from: &str, error: &Error| {
        let missed = error.department.as_deref().filter(|of| *of != from);
        error.blame() == Blame::Unavailable && missed.is_some_and(tells)
    };
    let causes: Vec<Error> = errors
        .iter()
        .filter(|(from, error)| !echo(from, error))
        .map(|(_, error)| error.clone())
        .collect();
    match causes.is_empty() {
        true => errors.into_iter().map(|(_, error)| error).collect(),
        false => causes,
    }
}

/// The one error to report: a refusal or a fault before the echoes that it causes elsewhere.
pub(super) fn cause(errors: Vec<Error>) -> Option<Error> {
    errors.into_iter().min_by_key(|error| match error.blame() {
        _ if error.code == Code::Cancelled => 6,
        Blame::PolicyDenied => 0,
        Blame::InvalidRequest | Blame::Unauthenticated => 1,
        Blame::ResourceExhausted => 2,
        Blame::PeerMisbehaved => 3,
        Blame::Unavailable => 4,
        Blame::Internal => 5,
    })
}

/// A plan that failed for want of a gateway that is down should say so.
pub(super) fn blame_missing(error: Error, sql: &str, missing: &[(String, bool, Error)]) -> Error {
    let lower = sql.to_lowercase();
    for (department, neutral, why) in missing {
        let named = lower.contains(&format!("{department}."))
            || lower.contains(&format!("\"{department}\"."))
            // A member of a federated table, which the text does not name.
            || error.message.contains(&format!(" {department}."));
        let wanted = matches!(error.code, Code::UnknownTable) && named;
        let needed = *neutral && matches!(error.code, Code::PolicyDenied | Code::Unsupported);
        if wanted || needed {
            return why.clone();
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_silent_is_blamed_and_not_who_tells_of_it() {
        let missed = |department: &str| {
            Error::new(Code::PeerUnavailable, format!("{department} is gone")).at(department)
        };
        let told = |errors: &[(&str, Error)]| {
            let errors = errors
                .iter()
                .map(|(from, error)| ((*from).to_owned(), error.clone()));
            cause(without_echoes(errors.collect()))
                .unwrap()
                .department
                .unwrap()
        };
        let silent = [("civil", missed("tax")), ("tax", missed("bureau"))];
        assert_eq!(told(&silent), "bureau");
        assert_eq!(told(&silent[..1]), "tax");
        // Between two that do not reach each other, the first counts.
        assert_eq!(
            told(&[("civil", missed("tax")), ("tax", missed("civil"))]),
            "tax"
        );
        assert_eq!(
            told(&[("tax", missed("tax")), ("civil", missed("tax"))]),
            "tax"
        );
    }
}
