//! Tests of the choice of the language.

use super::*;

fn chosen(header: &str) -> Language {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_LANGUAGE, header.parse().unwrap());
    Language::of(&headers)
}

#[test]
fn the_language_with_the_highest_weight_is_chosen() {
    for japanese in [
        "ja",
        "ja-JP, en;q=0.9",
        "en;q=0.5, JA;q=0.6",
        "fr, ja;q=0.1",
    ] {
        assert_eq!(chosen(japanese), Language::Japanese, "{japanese}");
    }
    for english in [
        "en",
        "en-GB, ja;q=0.9",
        "fr",
        "*",
        "",
        "ja;q=0",
        "ja;q=x",
        "jam",
    ] {
        assert_eq!(chosen(english), Language::English, "{english}");
    }
    assert_eq!(Language::of(&HeaderMap::new()), Language::English);
}
