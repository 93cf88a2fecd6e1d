//! Who lives in the generated world: residents in households of sixteen invented districts, and
//! people who live elsewhere but work or draw a pension here.
//!
//! Identity numbers have 18 characters and a valid check digit (GB 11643-1999: ISO 7064 MOD 11-2),
//! under region codes 990101 to 990116, which are assigned to nobody: no generated number can be a
//! real person's.

use super::chance::Chance;
use std::collections::HashMap;

/// A district: its name, its share of the households in 1/100,000, the share of low-income
/// households in 1/1000, and its incomes in 1/1000 of the average.
pub(super) struct District {
    pub(super) name: &'static str,
    share: u64,
    low_income: u64,
    pub(super) income: i64,
}

const fn district(name: &'static str, share: u64, low_income: u64, income: i64) -> District {
    District {
        name,
        share,
        low_income,
        income,
    }
}

/// The districts, in ascending order of name. Yunling is a handful of mountain villages: small
/// enough that a policy's threshold withholds some of its results.
pub(super) const DISTRICTS: [District; 16] = [
    district("Anhe", 9_400, 130, 1_040),
    district("Beihu", 11_800, 110, 1_210),
    district("Chengdong", 12_600, 120, 1_120),
    district("Dongshan", 5_200, 190, 820),
    district("Fenglin", 3_900, 210, 760),
    district("Gulou", 8_700, 90, 1_480),
    district("Hexi", 9_900, 140, 1_000),
    district("Jinsha", 4_600, 200, 790),
    district("Lanting", 3_100, 220, 720),
    district("Mingde", 6_800, 160, 930),
    district("Nanmen", 7_300, 170, 890),
    district("Qingyuan", 5_600, 180, 860),
    district("Shuangta", 4_100, 190, 800),
    district("Tianqiao", 4_350, 100, 1_390),
    district("Xihe", 2_600, 240, 680),
    district("Yunling", 50, 90, 610),
];

/// One person.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) id: [u8; 18],
    /// Days since 1970-01-01.
    pub(super) birth: i32,
    /// Position in [`DISTRICTS`].
    pub(super) district: u8,
    pub(super) household: i64,
    pub(super) low_income: bool,
}

/// Everybody: `residents` first, then `others`, who have no row in civil affairs.
pub(super) struct World {
    pub(super) residents: Vec<Person>,
    pub(super) others: Vec<Person>,
}

/// 2025-12-31: ages are counted to this day.
pub(super) const TODAY: i32 = 20_453;

/// Ages in days: registered residents from 18 years on.
const AGES: [(i64, i64); 8] = [
    (0, 6_580),
    (100, 8_900),
    (250, 12_100),
    (500, 16_900),
    (750, 21_800),
    (900, 26_300),
    (970, 30_000),
    (1000, 35_200),
];

/// Of 1000 households, those with 1, 2, 3, 4 and 5 registered adults.
const HOUSEHOLD_SIZES: [u64; 5] = [300, 340, 210, 110, 40];

/// Makes the world of `people` residents, and 6 % more who live elsewhere.
pub(super) fn world(people: u64, seed: u64) -> World {
    let mut ids = Ids::default();
    let mut residents = Vec::with_capacity(people as usize);
    let mut household = 0_u64;
    while (residents.len() as u64) < people {
        household += 1;
        let mut chance = Chance::new(seed, 1, household);
        let district = chance.weighted(DISTRICTS.iter().map(|district| district.share));
        let low_income = chance.permille(DISTRICTS[district].low_income);
        let size = 1 + chance.weighted(HOUSEHOLD_SIZES.iter().copied()) as u64;
        for _ in 0..size.min(people - residents.len() as u64) {
            residents.push(person(
                &mut chance,
                &mut ids,
                district,
                household,
                low_income,
            ));
        }
    }
    let others = (0..people * 6 / 100)
        .map(|index| {
            let mut chance = Chance::new(seed, 2, index);
            let district = chance.below(DISTRICTS.len() as u64) as usize;
            person(&mut chance, &mut ids, district, 0, false)
        })
        .collect();
    World { residents, others }
}

fn person(
    chance: &mut Chance,
    ids: &mut Ids,
    district: usize,
    household: u64,
    low_income: bool,
) -> Person {
    let birth = TODAY - chance.quantile(&AGES) as i32;
    // Three in ten were born in another district than they live in.
    let born_in = if chance.permille(300) {
        chance.below(DISTRICTS.len() as u64) as usize
    } else {
        district
    };
    Person {
        id: ids.next(born_in as u8, birth),
        birth,
        district: district as u8,
        household: 10_000_000 + household as i64,
        low_income,
    }
}

/// Hands out identity numbers, each once.
#[derive(Default)]
struct Ids {
    used: HashMap<(u8, i32), u16>,
}

impl Ids {
    fn next(&mut self, region: u8, birth: i32) -> [u8; 18] {
        let mut region = region;
        // With millions of people a region's numbers of one day can run out; take the next region.
        let sequence = loop {
            let used = self.used.entry((region, birth)).or_insert(0);
            if *used < 999 {
                *used += 1;
                break *used;
            }
            region = (region + 1) % DISTRICTS.len() as u8;
        };
        let (year, month, day) = crate::cli::output::civil_from_days(birth);
        let mut number = 990_101 + u64::from(region);
        number = number * 10_000 + year as u64;
        number = number * 10_000 + (month * 100 + day) as u64;
        number = number * 1_000 + u64::from(sequence);
        let mut id = [0; 18];
        for place in (0..17).rev() {
            id[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        id[17] = check_character(&id[..17]);
        id
    }
}

/// The check character over 17 digits: ISO 7064 MOD 11-2.
///
/// The sum of digit times 2^(position from the right, the check digit being 0), plus the check
/// digit, is 1 modulo 11; 10 is written X.
pub(super) fn check_character(digits: &[u8]) -> u8 {
    let remainder = digits
        .iter()
        .fold(0_u32, |sum, digit| (sum + u32::from(digit - b'0')) * 2 % 11);
    match (12 - remainder) % 11 {
        10 => b'X',
        digit => b'0' + digit as u8,
    }
}

const SURNAMES: [&str; 32] = [
    "王", "李", "张", "刘", "陈", "杨", "黄", "赵", "吴", "周", "徐", "孙", "马", "朱", "胡", "郭",
    "何", "高", "林", "罗", "郑", "梁", "谢", "宋", "唐", "许", "韩", "冯", "邓", "曹", "彭",
    "欧阳",
];
const GIVEN: [&str; 48] = [
    "伟", "芳", "娜", "敏", "静", "丽", "强", "磊", "军", "洋", "勇", "艳", "杰", "娟", "涛", "明",
    "超", "霞", "平", "刚", "桂", "文", "辉", "玲", "华", "建", "国", "红", "春", "海", "宁", "晨",
    "雨", "晓", "思", "佳", "子", "涵", "欣", "怡", "俊", "浩", "天", "宇", "雪", "梅", "兰", "竹",
];

/// The name of resident `index`.
pub(super) fn name(seed: u64, index: u64) -> String {
    let mut chance = Chance::new(seed, 3, index);
    let mut name = String::with_capacity(12);
    name.push_str(chance.pick::<&str>(&SURNAMES));
    name.push_str(chance.pick::<&str>(&GIVEN));
    if chance.permille(620) {
        name.push_str(chance.pick::<&str>(&GIVEN));
    }
    name
}
