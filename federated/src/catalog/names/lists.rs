//! The words that names of columns and tables are looked through for, between spaces.

use super::Subject;

/// Words for people, and the like, which a word such as `id` or `no` follows.
pub(super) const SUBJECTS: [(Subject, &str); 6] = [
    (
        Subject::Person,
        "person patient citizen resident taxpayer insured identity passport national individual \
         beneficiary applicant borrower student pupil voter passenger donor pensioner inhabitant \
         security ssn pid",
    ),
    (
        Subject::Customer,
        "customer cust client user uid member subscriber guest buyer payer owner driver debtor \
         tenant subject participant respondent cardholder policyholder holder",
    ),
    (
        Subject::Staff,
        "employee emp staff worker personnel teacher doctor physician nurse",
    ),
    (Subject::Household, "household hh family"),
    (Subject::Account, "account acct card iban msisdn"),
    (
        Subject::Firm,
        "company firm org organization organisation enterprise business corporation corp employer \
         supplier vendor merchant tax vat ein lei",
    ),
];
/// Those that are identifiers by themselves.
pub(super) const WHOLE: &str = "ssn pid uid ein lei iban msisdn passport";
/// Those that can be the whole name of a column of identifiers.
pub(super) const ALONE: &str = "person patient citizen resident taxpayer insured student pupil customer cust client user \
    employee household company firm enterprise";
/// Those before which only `id`, `no` and `number` say an identifier: `tax_code` is none.
pub(super) const NARROW: &str = "tax vat account acct national security";
/// Words for identifiers.
pub(super) const ID_WORDS: &str =
    "id ids no nr num number code key ref identifier uuid guid token pseudonym pk fk";
/// Ends of a word that is glued to one of the words known: `patientid`, `cardno`.
pub(super) const GLUED: &str = "number code num key id no";
/// Words for what happens: its number identifies a row, and nobody.
pub(super) const EVENTS: &str = "visit order transaction trans txn tx record rec row line event log invoice bill receipt \
    ticket claim case admission encounter stay episode trip seq sequence index idx serial \
    entry booking payment shipment session message post request loan contract application file \
    batch test sample purchase";
/// Words for what code lists are of: places, kinds, goods.
pub(super) const THINGS: &str = "product item sku goods article store shop district region country county city province \
    state zip zipcode postcode postal ward area zone street town village icd diagnosis drug \
    disease procedure category type kind status currency language \
    industry sector occupation department dept course codes lookup dict dim reference";
/// Words for what is measured or counted.
pub(super) const MEASURES: &str = "amount amt cost price income salary wage pay score age count cnt quantity qty total sum \
    balance fee rate ratio percent pct weight height length width depth duration minutes \
    seconds hours days weeks months years year month day week hour size volume value revenue \
    profit tax points rank rating temp temperature lat lon latitude longitude distance area \
    avg mean min max std stock";

/// Chinese words, of which one stands anywhere in the name of a column of identifiers.
pub(super) const HAN_WHOLE: [(Subject, &str); 6] = [
    (
        Subject::Person,
        "身份证号 证件号 公民身份号 病人号 病历号 病案号 学号 学籍号 社保号 社会保障号 医保号 医保卡号 参保号 护照号",
    ),
    (Subject::Customer, "会员号 客户号 用户号"),
    (Subject::Staff, "工号"),
    (Subject::Household, "户号 户口号"),
    (Subject::Account, "卡号 账号 帐号"),
    (
        Subject::Firm,
        "统一社会信用代码 信用代码 纳税人识别号 税号 组织机构代码 注册号",
    ),
];
/// Chinese words for people and firms, at the end of a name or before a word for an identifier.
pub(super) const HAN_SUBJECTS: [(Subject, &str); 6] = [
    (
        Subject::Person,
        "身份证 患者 病人 学生 居民 公民 纳税人 参保人 个人 人员 申请人 受益人",
    ),
    (Subject::Customer, "客户 用户 会员"),
    (Subject::Staff, "员工 职工 雇员"),
    (Subject::Household, "家庭 户主"),
    (Subject::Account, "账户 帐户"),
    (Subject::Firm, "企业 公司 单位 法人 商户"),
];
pub(super) const HAN_ID_WORDS: &str =
    "编号 编码 号码 号 id 代码 标识 标识号 证号 身份证 唯一标识 识别号";
pub(super) const HAN_EVENTS: &str = "流水 订单 就诊 序号 单号 交易 发票 住院 门诊 记录";
pub(super) const HAN_THINGS: &str =
    "地区 街道 省 市 区划 县 病种 科室 行业 类别 类型 字典 代码表 产品 商品";
pub(super) const HAN_MEASURES: &str = "金额 数量 年龄 收入 价格 费用 分数 得分 总额 余额 次数 人数 年份 工资 单价 合计 成绩 身高 体重 天数 年度";
