-- the tour's query
SELECT r.district, COUNT(*) AS people, SUM(i.taxable_income) AS income, AVG(i.taxable_income)
FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id
WHERE i.year = 2023
GROUP BY r.district ORDER BY r.district

-- the same without leakage
-- leakage none
SELECT r.district, COUNT(*) AS people, SUM(i.taxable_income) AS income, AVG(i.taxable_income)
FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id
WHERE i.year = 2023
GROUP BY r.district ORDER BY r.district

-- three departments on one key
SELECT r.district, p.status, COUNT(*), COUNT(p.monthly_pension), AVG(p.monthly_pension), SUM(i.taxable_income)
FROM civil.residents r, tax.income i, social.pension p
WHERE r.person_id = i.person_id AND p.person_id = i.person_id AND NOT r.low_income
GROUP BY r.district, p.status
HAVING COUNT(*) > 20 ORDER BY 3 DESC, 1, 2 LIMIT 5 OFFSET 1

-- one department alone
SELECT district, COUNT(*), COUNT(household_id) FROM civil.residents WHERE birth_date < DATE '1960-01-01' GROUP BY district

-- one department, several rows a person
SELECT year, SUM(taxable_income), COUNT(remark) FROM tax.income GROUP BY year ORDER BY year

-- global aggregate
SELECT COUNT(*), AVG(p.points), SUM(p.points) / COUNT(*) AS mean FROM civil.residents r JOIN social.pension p USING (person_id)

-- global count of one table
SELECT COUNT(*) FROM civil.residents

-- across sides
SELECT r.district, COUNT(*) FROM civil.residents r JOIN social.pension p ON r.person_id = p.person_id
WHERE p.monthly_pension * 12 < r.threshold AND (p.insured_since > r.birth_date OR r.low_income OR p.status = 'active')
GROUP BY r.district

-- NOT across sides
SELECT COUNT(*) FROM civil.residents r JOIN social.pension p ON r.person_id = p.person_id
WHERE NOT (p.insured_since BETWEEN r.birth_date AND DATE '2000-01-01' AND r.low_income)

-- three sides of a household
-- leakage none
SELECT r.district, COUNT(*), SUM(p.monthly_pension) FROM civil.residents r JOIN social.pension p ON r.household_id = p.household_id
GROUP BY r.district

-- composite key
SELECT COUNT(*), SUM(p.points) FROM civil.residents r JOIN social.pension p ON r.person_id = p.person_id AND r.household_id = p.household_id

-- text across sides
SELECT COUNT(*) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id WHERE r.name <> i.remark

-- many predicates on one side
SELECT r.district, COUNT(*) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id
WHERE (i.year IN (2021, 2022, 2023) OR i.employer_id IS NULL) AND i.taxable_income BETWEEN 0.50 AND 100000
AND i.remark NOT LIKE 'x''%' AND -i.taxable_income + 1 < 5 * (i.year - 2000) AND upper(i.remark) = 'A'
GROUP BY r.district

-- distinct groups
SELECT DISTINCT r.district FROM civil.residents r JOIN social.pension p ON r.person_id = p.person_id

-- group by date, nullable bool and integer
SELECT r.birth_date, r.low_income, r.household_id, COUNT(*) FROM civil.residents r GROUP BY r.birth_date, r.low_income, r.household_id

-- expressions over aggregates
SELECT r.district AS d, round(SUM(p.monthly_pension) / COUNT(*), 1) AS mean, CASE WHEN COUNT(*) > 100 THEN 'many' ELSE 'few' END AS size, 'x' AS mark
FROM civil.residents r JOIN social.pension p ON r.person_id = p.person_id GROUP BY d ORDER BY SUM(p.points) DESC NULLS LAST

-- a derived table
SELECT x.d, COUNT(*) FROM (SELECT district AS d, person_id AS pid FROM civil.residents WHERE low_income) x JOIN tax.income i ON x.pid = i.person_id GROUP BY x.d

-- public reference table
SELECT t.rate, COUNT(*) FROM tax.income i JOIN tax.rates t ON i.year = t.year GROUP BY t.rate

-- rows as units
SELECT e.kind, COUNT(*), COUNT(e.day) FROM civil.events e JOIN social.pension p ON e.person_id = p.person_id GROUP BY e.kind

-- raw rows
SELECT r.name, i.taxable_income FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id

-- raw rows of one table
SELECT taxable_income FROM tax.income LIMIT 3

-- star
SELECT * FROM tax.income

-- not unique
SELECT COUNT(*) FROM civil.events e JOIN tax.income i ON e.person_id = i.person_id WHERE e.day < DATE '2020-01-01' GROUP BY e.kind, i.year

-- unknown table
SELECT COUNT(*) FROM civil.resident

-- bare table
SELECT COUNT(*) FROM residents

-- unknown column
SELECT COUNT(*) FROM civil.residents r WHERE r.distrit = 'east'

-- ambiguous column
SELECT COUNT(*) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id WHERE person_id = 'x'

-- type mismatch
SELECT COUNT(*) FROM civil.residents WHERE low_income + 1 > 'abc'

-- key of two types
SELECT COUNT(*) FROM civil.residents r JOIN tax.income i ON r.household_id = i.taxable_income

-- outer join
SELECT COUNT(*) FROM civil.residents r LEFT JOIN tax.income i ON r.person_id = i.person_id

-- no key
SELECT COUNT(*) FROM civil.residents r, tax.income i WHERE r.birth_date < DATE '2000-01-01'

-- count distinct
SELECT COUNT(DISTINCT household_id) FROM civil.residents

-- minimum
SELECT MIN(taxable_income) FROM tax.income

-- window
SELECT year, SUM(taxable_income) OVER (PARTITION BY year) FROM tax.income

-- subquery
SELECT COUNT(*) FROM tax.income WHERE taxable_income > (SELECT 5)

-- union
SELECT COUNT(*) FROM tax.income UNION SELECT COUNT(*) FROM civil.residents

-- a table twice
SELECT COUNT(*) FROM tax.income a JOIN tax.income b ON a.person_id = b.person_id

-- syntax
SELECT COUNT(* FROM tax.income WHERE remark = 'secret'

-- several statements
SELECT COUNT(*) FROM tax.income; SELECT 1

-- another statement
DELETE FROM tax.income

-- mixed arithmetic
SELECT COUNT(*) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id WHERE r.threshold + i.taxable_income > 5

-- mixed aggregate
SELECT SUM(r.threshold + i.taxable_income) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id

-- volatile function
SELECT COUNT(*) FROM tax.income WHERE random() < 0.5

-- not grouped
SELECT district, COUNT(*) FROM civil.residents

-- group by an expression
SELECT year + 1, COUNT(*) FROM tax.income GROUP BY year + 1

-- a sum of what is never NULL
SELECT SUM(year) FROM tax.rates

-- count of public rows
SELECT COUNT(*) FROM tax.rates WHERE rate > 0.5

-- case, casts and a trailing semicolon
SELECT COUNT(*) FROM tax.income WHERE CASE WHEN year > 2000 THEN TRUE ELSE FALSE END AND CAST(year AS DECIMAL(22, 2)) > 5.25 AND taxable_income IS NOT NULL;

-- several keys of one table
-- leakage none
SELECT COUNT(*), SUM(i.taxable_income) FROM civil.residents r JOIN social.pension p ON r.household_id = p.points JOIN tax.income i ON i.person_id = p.person_id

-- aggregate of an expression with a function
SELECT SUM(abs(points)), AVG(points + 1) FROM social.pension

-- text group of an open domain
SELECT remark, COUNT(*) FROM tax.income GROUP BY remark ORDER BY 2 DESC, 1 LIMIT 3

-- having on an aggregate that is not shown
SELECT district FROM civil.residents GROUP BY district HAVING COUNT(name) > 100 OR MAX(household_id) > 3

-- having on another aggregate
SELECT district FROM civil.residents GROUP BY district HAVING COUNT(name) > 100 OR COUNT(*) > 3

-- home of another department
SELECT p.status, COUNT(*) FROM social.pension p WHERE p.insured_since > '2001-02-03' GROUP BY p.status
