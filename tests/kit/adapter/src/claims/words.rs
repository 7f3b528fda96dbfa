//! What is claimed in words: settings, secrets, and how doubles are avoided.

use pillarbox_runtime::adapter::{DoubleSafety, Settings};

use super::ensure;
use crate::bench::{Bench, Fail, Outcome};

/// A key that no adapter has.
const UNKNOWN: &str = "no_such_setting_of_the_kit";

/// Settings are taken as they are documented, and an unknown key is refused by its name.
pub(super) async fn settings(bench: &mut Bench<'_>) -> Outcome {
    let kind = bench.subject.kind();
    let good = bench.destination.settings(bench.destination.port().unwrap_or(0));
    let checked = kind.check(&good)?;
    bench.said.note(format!("{checked:?} {good:?} {kind:?}"));
    let Err(refused) = kind.check(&good.with(UNKNOWN, 1)) else {
        return Err(Fail::Broken("an unknown setting is taken".to_owned()));
    };
    bench.said.note(refused.to_string());
    ensure(refused.0.iter().any(|problem| problem.key == UNKNOWN), || {
        format!("an unknown setting is refused without its name: {refused}")
    })?;
    if let Err(empty) = kind.check(&Settings::default()) {
        ensure(!empty.0.is_empty(), || "settings are refused without a reason".to_owned())?;
    }
    Ok(())
}

/// Whatever went wrong, the destination has no copy that the adapter's class excludes.
pub(super) async fn doubles(bench: &mut Bench<'_>) -> Outcome {
    if let Some(first) = bench.doubles.first() {
        return Err(Fail::Broken(format!("{} times, first: {first}", bench.doubles.len())));
    }
    let at_least_once = bench.record().double_safety == DoubleSafety::AtLeastOnce;
    if at_least_once && !bench.labels {
        return Err(Fail::NotChecked("at least once, and the destination keeps no number of the attempt"));
    }
    Ok(())
}

/// No secret is in anything that was said.
pub(super) async fn secrets(bench: &mut Bench<'_>) -> Outcome {
    let secrets = bench.destination.secrets();
    if secrets.is_empty() {
        return Err(Fail::NotChecked("the settings have no secret"));
    }
    let said = bench.said.all();
    for secret in &secrets {
        let shown = said.iter().find(|text| text.contains(secret.as_str()));
        if let Some(text) = shown {
            return Err(Fail::Broken(format!(
                "a secret is shown: {}",
                text.replace(secret.as_str(), "[it]")
            )));
        }
    }
    Ok(())
}
