//! What the name of a column or table says: a person or firm, a measure, an event, a thing of a list.
//!
//! Names are split into words, so that `PatientID`, `patient_id` and `patientid` are one and `paid`,
//! `grid`, `void` are none. It must not know of data or types; what it says is a hint and no proof.

mod lists;

use lists::{
    ALONE, EVENTS, GLUED, HAN_EVENTS, HAN_ID_WORDS, HAN_MEASURES, HAN_SUBJECTS, HAN_THINGS,
    HAN_WHOLE, ID_WORDS, MEASURES, NARROW, SUBJECTS, THINGS, WHOLE,
};

/// Whom a column names, the nearest to a person first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Person,
    Customer,
    Staff,
    Household,
    Account,
    Firm,
    /// A name of somebody, which several may have.
    Name,
}

/// A column that names people or firms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Naming {
    pub(crate) subject: Subject,
    /// Whether nothing in the name says that it is a number or code: `patient` alone.
    pub(crate) bare: bool,
    /// How many words the name has: `person_id` is nearer than `mother_person_id`.
    words: usize,
}

/// The words of a name in lower case: at signs and spaces, at digits, and where small letters meet
/// capitals or another script.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let letters: Vec<char> = name.chars().collect();
    for (at, c) in letters.iter().copied().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at)).copied();
        let after = letters.get(at + 1).copied();
        let starts = before.is_some_and(|before| {
            // `patientID`, and the last capital of `IDNumber`.
            (c.is_uppercase() && before.is_lowercase())
                || (c.is_uppercase()
                    && before.is_uppercase()
                    && after.is_some_and(char::is_lowercase))
                || c.is_ascii() != before.is_ascii()
                || c.is_ascii_digit() != before.is_ascii_digit()
        });
        if (starts || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words.iter().flat_map(|word| unglued(word)).collect()
}

/// `patientid` as `patient`, `id`; other words as they are.
fn unglued(word: &str) -> Vec<String> {
    if subject(word).is_some() || among(EVENTS, word) || among(THINGS, word) {
        return vec![word.to_owned()];
    }
    let known = |rest: &str| {
        !among(WHOLE, rest)
            && (subject(rest).is_some() || among(EVENTS, rest) || among(THINGS, rest))
    };
    for end in each(GLUED) {
        if let Some(rest) = word.strip_suffix(end).filter(|rest| known(rest)) {
            return vec![rest.to_owned(), end.to_owned()];
        }
    }
    match word.strip_prefix("id").filter(|rest| known(rest)) {
        Some(rest) => vec!["id".to_owned(), rest.to_owned()],
        None => vec![word.to_owned()],
    }
}

fn subject(word: &str) -> Option<Subject> {
    of(&SUBJECTS, |each| each == word)
}

fn of(lists: &'static [(Subject, &'static str)], fits: impl Fn(&str) -> bool) -> Option<Subject> {
    lists
        .iter()
        .find(|(_, words)| each(words).any(&fits))
        .map(|(subject, _)| *subject)
}

fn each(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.split_ascii_whitespace()
}

fn among(list: &'static str, word: &str) -> bool {
    each(list).any(|one| one == word)
}

/// A name without its signs and spaces, in lower case.
fn joined(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

fn has_any(name: &str, list: &'static str) -> bool {
    each(list).any(|word| name.contains(word))
}

/// Whom the values of a column of this name name, if anybody.
pub(crate) fn naming(name: &str) -> Option<Naming> {
    let words = words(name);
    let found = |subject: Subject, bare: bool| {
        let words = words.len();
        Some(Naming {
            subject,
            bare,
            words,
        })
    };
    if !name.is_ascii()
        && let Some((subject, bare)) = han_naming(&joined(name))
    {
        return found(subject, bare);
    }
    let mut nearest: Option<Subject> = None;
    for (at, word) in words.iter().enumerate() {
        let Some(of) = subject(word) else { continue };
        let next = words.get(at + 1).map(String::as_str);
        let before = at.checked_sub(1).map(|at| words[at].as_str());
        let followed = next.is_some_and(|next| {
            let narrow = among(NARROW, word);
            among(ID_WORDS, next) && (!narrow || ["id", "no", "number"].contains(&next))
        });
        // `id_card` is a person's, and no payment card.
        let id_card = word == "card" && before == Some("id");
        // `number_of_employees` counts, `id_customer` names.
        let named = followed || before == Some("id") || among(WHOLE, word);
        let of = if id_card { Subject::Person } else { of };
        if named && nearest.is_none_or(|nearest| of < nearest) {
            nearest = Some(of);
        }
    }
    if let Some(subject) = nearest.filter(|_| !is_count(&words)) {
        return found(subject, false);
    }
    match &words[..] {
        [one] if among(ALONE, one) => found(subject(one)?, true),
        [one] if one == "username" || one == "fullname" => found(Subject::Name, true),
        [first, second] if second == "name" && (first == "full" || subject(first).is_some()) => {
            found(Subject::Name, true)
        }
        _ => None,
    }
}

/// Whether a name says a count or share of what it names: `customer_id_count`.
fn is_count(words: &[String]) -> bool {
    words
        .last()
        .is_some_and(|last| among(MEASURES, last) && !among(WHOLE, last))
}

fn han_naming(name: &str) -> Option<(Subject, bool)> {
    if let Some(subject) = of(&HAN_WHOLE, |word| name.contains(word)) {
        return Some((subject, false));
    }
    for (subject, words) in &HAN_SUBJECTS {
        for word in each(words) {
            let Some((_, after)) = name.rsplit_once(word) else {
                continue;
            };
            if among(HAN_ID_WORDS, after) {
                return Some((*subject, false));
            }
            if after.is_empty() {
                return Some((*subject, word != "身份证"));
            }
            if after == "名称" || after == "姓名" || after == "名" {
                return Some((Subject::Name, true));
            }
        }
    }
    name.ends_with("姓名").then_some((Subject::Name, true))
}

/// Whom the rows of a table of this name are, if anybody: `customers`, `patients_2023`.
pub(crate) fn table_naming(name: &str) -> Option<Subject> {
    let words = words(name);
    if has_event(&words, &joined(name)) {
        return None;
    }
    let letters = |word: &&String| word.chars().all(char::is_alphabetic);
    let last = words.iter().rev().find(letters)?;
    if last == "people" || last == "persons" {
        return Some(Subject::Person);
    }
    if !last.is_ascii() {
        return of(&HAN_SUBJECTS, |word| {
            last.strip_suffix('表').unwrap_or(last) == word
        });
    }
    let one = singular(last);
    among(ALONE, &one).then(|| subject(&one)).flatten()
}

/// Whether a name has a word for people or firms, whatever it says of them.
pub(crate) fn mentions_subject(name: &str) -> bool {
    let joined = joined(name);
    let han = |word: &str| joined.contains(word);
    words(name).iter().any(|word| {
        word == "people" || subject(word).is_some() || subject(&singular(word)).is_some()
    }) || of(&HAN_SUBJECTS, han).is_some()
}

fn singular(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// Whether a name says an identifier, of whatever.
pub(crate) fn is_id(name: &str) -> bool {
    let words = words(name);
    let word = |word: &String| among(ID_WORDS, word) || among(WHOLE, word);
    let han = !name.is_ascii() && each(HAN_ID_WORDS).any(|end| joined(name).ends_with(end));
    // `number_of_visits` counts.
    (words.iter().any(word) && !words.iter().any(|word| word == "of") && !is_count(&words)) || han
}

/// Whether a name says only that it is an identifier: `id`, `no`, `row_id`.
pub(crate) fn is_bare_id(name: &str) -> bool {
    let words = words(name);
    let bare = |word: &String| among(ID_WORDS, word) || word.chars().all(|c| c.is_ascii_digit());
    (!words.is_empty() && words.iter().all(bare)) || among(HAN_ID_WORDS, &joined(name))
}

/// Whether a name says an event, so that its numbers identify rows: `visit_id`, `order_no`.
pub(crate) fn is_event(name: &str) -> bool {
    has_event(&words(name), &joined(name))
}

fn has_event(words: &[String], joined: &str) -> bool {
    let event = |word: &String| among(EVENTS, word) || among(EVENTS, &singular(word));
    words.iter().any(event) || has_any(joined, HAN_EVENTS)
}

/// Whether a name says a place, a kind or goods: what code lists are of.
pub(crate) fn is_thing(name: &str) -> bool {
    let thing = |word: &String| among(THINGS, word) || among(THINGS, &singular(word));
    words(name).iter().any(thing) || has_any(&joined(name), HAN_THINGS)
}

/// Whether a name says what is measured or counted, and no identifier.
pub(crate) fn is_measure(name: &str) -> bool {
    let words = words(name);
    let counts = words
        .first()
        .is_some_and(|word| ["n", "num", "number"].contains(&word.as_str()))
        && words.len() > 1;
    let measure = words.iter().any(|word| among(MEASURES, word));
    (counts || measure || has_any(&joined(name), HAN_MEASURES)) && !is_id(name)
        || (counts && words.iter().any(|word| word == "of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject_of(name: &str) -> Option<Subject> {
        naming(name).map(|naming| naming.subject)
    }

    #[test]
    fn people_and_firms_in_every_spelling() {
        for (subject, names) in [
            (
                Subject::Person,
                &[
                    "person_id",
                    "personid",
                    "PersonID",
                    "Person ID",
                    "PERSON_ID",
                    "pid",
                    "patient_id",
                    "PatientID",
                    "patientId",
                    "patient_no",
                    "patient",
                    "student_id",
                    "citizen_id",
                    "national_id",
                    "ssn",
                    "taxpayer_id",
                    "fk_person_id",
                    "src_patient_id_hash",
                    "id_card",
                    "idcard",
                    "id_card_no",
                    "IDCardNumber",
                    "social_security_number",
                    "passport_no",
                    "身份证号",
                    "身份证",
                    "身份证号码",
                    "证件号",
                    "证件号码",
                    "公民身份号码",
                    "患者",
                    "患者编号",
                    "患者ID",
                    "患者_id",
                    "病人号",
                    "学号",
                    "社保号",
                    "医保号",
                    "参保人身份证号",
                ][..],
            ),
            (
                Subject::Customer,
                &[
                    "customer_id",
                    "cust_id",
                    "custid",
                    "client_id",
                    "user_id",
                    "userId",
                    "uid",
                    "UID",
                    "member_id",
                    "客户编号",
                    "用户编号",
                    "客户号",
                    "t_customer_id_1",
                ],
            ),
            (
                Subject::Staff,
                &[
                    "employee_id",
                    "emp_no",
                    "EmpNo",
                    "empno",
                    "工号",
                    "员工编号",
                    "职工号",
                ],
            ),
            (Subject::Household, &["household_id", "hh_id", "户号"]),
            (
                Subject::Account,
                &["account_id", "card_no", "CardNo", "cardno", "银行卡号"],
            ),
            (
                Subject::Firm,
                &[
                    "company_id",
                    "firm_id",
                    "org_id",
                    "ein",
                    "tax_id",
                    "统一社会信用代码",
                    "纳税人识别号",
                    "企业代码",
                ],
            ),
            (
                Subject::Name,
                &["姓名", "患者姓名", "企业名称", "customer_name", "full_name"],
            ),
        ] {
            for name in names {
                assert_eq!(subject_of(name), Some(subject), "{name}");
            }
        }
    }

    #[test]
    fn words_are_matched_and_not_their_parts() {
        for name in [
            "paid",
            "grid",
            "void",
            "amount_paid",
            "valid",
            "liquid",
            "rapid",
            "humid",
            "userland",
            "number_of_employees",
            "num_customers",
            "employees",
            "card_type_code",
            "customer_type",
            "customer_count",
            "customer_id_count",
            "company_size",
            "tax",
            "tax_code",
            "age",
            "name",
            "id",
            "visit_id",
            "order_no",
            "id_number",
            "患者人数",
            "患者年龄",
            "客户数量",
            "身份证类型",
            "证件类型",
            "企业规模",
            "user_age",
            "national_code_type",
            "keynote",
            "nationality",
            "pidgin",
            "casino",
        ] {
            assert_eq!(naming(name), None, "{name}");
        }
    }

    #[test]
    fn the_nearest_to_a_person_comes_first() {
        let order = [
            "person_id",
            "mother_person_id",
            "patient",
            "customer_id",
            "account_id",
            "firm_id",
            "姓名",
        ];
        assert!(naming("person_id") < naming("mother_person_id"));
        let found: Vec<Naming> = order.iter().map(|name| naming(name).unwrap()).collect();
        assert!(found.is_sorted(), "{found:?}");
        // Of two subjects in one name, the person.
        assert_eq!(
            subject_of("account_id_of_customer_id"),
            Some(Subject::Customer)
        );
    }

    #[test]
    fn measures_events_things_and_ids() {
        for name in [
            "amount",
            "total_cost",
            "Score",
            "age",
            "n_visits",
            "number_of_rooms",
            "年龄",
            "总金额",
        ] {
            assert!(is_measure(name) && naming(name).is_none(), "{name}");
        }
        for name in ["id", "score_id", "visit_no", "code", "x0", "ward"] {
            assert!(!is_measure(name), "{name}");
        }
        for name in [
            "visit_id",
            "VisitNo",
            "orderid",
            "transaction_number",
            "row_id",
            "流水号",
            "就诊编号",
        ] {
            assert!(is_event(name) && is_id(name), "{name}");
        }
        for name in [
            "district",
            "icd_codes",
            "categories",
            "product_id",
            "科室代码",
        ] {
            assert!(is_thing(name), "{name}");
        }
        for name in ["id", "ID", "no", "编号", "id2"] {
            assert!(is_bare_id(name), "{name}");
        }
        assert!(
            !is_bare_id("visit_id") && !is_bare_id("x") && !is_id("paid") && !is_id("number_of_x")
        );
    }

    #[test]
    fn tables_of_people() {
        for (name, subject) in [
            ("customers", Some(Subject::Customer)),
            ("patients_2023", Some(Subject::Person)),
            ("companies", Some(Subject::Firm)),
            ("people", Some(Subject::Person)),
            ("居民表", Some(Subject::Person)),
            ("customer_orders", None),
            ("orders", None),
            ("accounts_payable", None),
            ("t", None),
        ] {
            assert_eq!(table_naming(name), subject, "{name}");
        }
    }
}
