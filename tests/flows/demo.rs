//! The demo: what README's first command shows.

use pillarbox_tests::bodies::body;

use crate::{BASE, place};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_loses_nothing_and_says_so() {
    let place = place(BASE);
    std::fs::create_dir(place.path("letters")).expect("a folder of our own");
    for number in 0..20 {
        place.write(&format!("letters/{number}"), body(number, 100 * number as usize + 1));
    }
    let told = place.run(&["demo", "letters", "--seed", "7", "--json"]).await.json();
    assert_eq!((&told["lost"], &told["twice_without_same_key"]), (&0.into(), &0.into()), "{told}");
    assert_eq!((&told["still_suspended"], &told["kills"]), (&0.into(), &3.into()), "{told}");
    for happens in ["retried", "backup", "suspended", "twice"] {
        assert!(told[happens].as_u64().is_some_and(|count| count > 0), "{happens}: {told}");
    }
    let arrived = ["delivered", "backup"].map(|way| told[way].as_u64().expect("a number"));
    assert_eq!(Some(arrived.iter().sum()), told["submitted"].as_u64(), "{told}");
}
