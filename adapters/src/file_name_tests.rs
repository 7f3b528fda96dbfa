//! Names: what a template makes, and that no value leads out of the folder.

use std::path::{Component, Path};

use pillarbox_runtime::adapter::ErrorClass;
use pillarbox_store::HeaderValue;
use proptest::prelude::*;

use crate::file_name::{Template, escape};
use crate::parcel::sample::{ID, KEY, Sample};
use crate::template::key_hash;

fn render(template: &str, sample: &Sample) -> String {
    Template::parse(template).unwrap().render(&sample.parcel()).unwrap()
}

/// Whether the name is that of a file in the folder that is joined with it, and not a hidden one.
fn stays(name: &str) -> bool {
    let components: Vec<_> =
        Path::new("/out").join(name).components().skip(2).map(|c| c.as_os_str().to_owned()).collect();
    let normal = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    normal
        && components == [name]
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\0'])
}

#[test]
fn macros_give_what_does_not_change_between_attempts() {
    let sample = Sample::new("")
        .header("Kind", "in/voice")
        .header("n", 5)
        .header("raw", HeaderValue::Bytes(vec![0, 255]));
    assert_eq!(render("{message_id}.msg", &sample), format!("{ID}.msg"));
    assert_eq!(render("{port}-{delivery_id}", &sample), "orders-7");
    assert_eq!(render("{time}_{date}", &sample), "20260102T030405.678901Z_20260102");
    assert_eq!(render("{header:KIND}-{header:n}-{header:raw}", &sample), "in%2Fvoice-5-00ff");
    assert_eq!(render("{{{key}}}", &sample), format!("{{{}}}", key_hash(KEY)));
    let again = sample.clone().attempt(9);
    let all = "{message_id}{delivery_id}{port}{time}{date}{key}{header:kind}";
    assert_eq!(render(all, &sample), render(all, &again));
}

#[test]
fn a_missing_header_is_named() {
    let error = Template::parse("{header:order}").unwrap().render(&Sample::new("").parcel()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Permanent);
    assert!(error.to_string().contains("no header \"order\""), "{error}");
}

#[test]
fn names_that_would_be_special_are_not_made() {
    let named = |value: &str| Sample::new("").header("h", value);
    assert_eq!(render("{header:h}", &named(".")), "%2E");
    assert_eq!(render("{header:h}", &named("..")), "%2E.");
    assert_eq!(render("{header:h}.txt", &named("")), "%2Etxt");
    assert_eq!(render("{header:h}", &named("../../etc/passwd")), "%2E.%2F..%2Fetc%2Fpasswd");
    let error = Template::parse("{header:h}").unwrap().render(&named("").parcel()).unwrap_err();
    assert!(error.to_string().contains("name is empty"), "{error}");
}

#[test]
fn long_names_are_cut_and_stay_different() {
    let named = |end: &str| Sample::new("").header("h", format!("{}{end}", "x".repeat(400)));
    let (a, b) = (render("{header:h}.json", &named("a")), render("{header:h}.json", &named("b")));
    assert_eq!((a.len(), b.len()), (255, 255));
    assert!(a != b && a.ends_with(".json") && b.ends_with(".json"));
    assert_eq!(render("ü{header:h}", &named("a")).len(), 255);
}

#[test]
fn templates_are_checked() {
    for (template, part) in [
        ("", "empty"),
        ("a/{key}", "'/'"),
        ("{key", "not closed"),
        ("{key{", "not closed"),
        ("key}", "closes nothing"),
        ("{}", "no macro {}"),
        ("{Key}", "no macro {Key}"),
        ("{header:}", "no possible header"),
        ("{header:a b}", "no possible header"),
        ("{attempt}", "changes with every attempt"),
        (".{key}", "begin with a dot"),
        ("{key}\n", "control"),
        (&"x".repeat(200), "at most 127 bytes"),
    ] {
        let problems = Template::parse(template).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{template}: {problems:?}");
    }
    assert!(Template::parse("{key}").unwrap().is_unique());
    assert!(Template::parse("a{message_id}").unwrap().is_unique());
    assert!(!Template::parse("{{key}}{header:message_id}").unwrap().is_unique());
}

fn text() -> impl Strategy<Value = String> {
    let special =
        proptest::sample::select(vec![".", "..", "/", "%", "%2E", "%2F", "\\", "~", " ", "ü", "\t", "a"]);
    prop_oneof![
        proptest::collection::vec(special, 0..8).prop_map(|parts| parts.concat()),
        "[^\\p{C}]{0,300}",
        "[ -~]{0,40}",
    ]
}

proptest! {
    #[test]
    fn no_value_leads_out_of_the_folder(a in text(), b in text(), template in "[a-z{}.:_/-]{0,40}") {
        let sample = Sample::new("").header("a", a.as_str()).header("b", b.as_str()).key(&b);
        for template in ["{header:a}", "{header:a}{header:b}", "{header:a}.{header:b}.msg", "x-{header:b}", &template] {
            if let Ok(template) = Template::parse(template)
                && let Ok(name) = template.render(&sample.parcel())
            {
                prop_assert!(stays(&name), "{name:?}");
            }
        }
    }

    #[test]
    fn different_values_make_different_names(a in text(), b in text()) {
        prop_assert_eq!(escape(&a) == escape(&b), a == b);
        if !a.is_empty() && !b.is_empty() {
            let name = |value: &str| render("{header:h}", &Sample::new("").header("h", value));
            prop_assert_eq!(name(&a) == name(&b), a == b);
        }
    }

    #[test]
    fn templates_never_panic(template in "\\PC{0,60}") {
        let _either = Template::parse(&template);
    }
}
