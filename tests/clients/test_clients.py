"""Drives the Flight SQL clients that analysts have against a running federation.

Run as `python test_clients.py DIR` where DIR is the folder of a running sandbox; the tables are those of
`main.rs` beside the Rust test that starts it.
"""

import datetime
import decimal
import json
import pathlib
import struct
import sys
import threading
import time
import unittest

import adbc_driver_flightsql.dbapi as dbapi
import adbc_driver_manager
import grpc
import pandas
import polars
import pyarrow
import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions
from flight_sql import command, field, fields, statement

DIR = pathlib.Path(sys.argv.pop(1))
CONNECT = json.loads((DIR / ".veilgate" / "connect.json").read_text())
CA = pathlib.Path(CONNECT["ca"]).read_text()

JOINED = """SELECT p.ward, COUNT(*) AS people, SUM(i.income) AS income, MAX(p.born) AS born
FROM alpha.people p JOIN beta.incomes i ON p.id = i.id GROUP BY p.ward ORDER BY p.ward"""
SLOW = """SELECT r.id, r.v FROM alpha.rows r LEFT JOIN beta.incomes i ON r.id = i.id
ORDER BY i.income DESC NULLS LAST, r.v, r.id LIMIT 3"""
SECRET = "SELECT p.secret FROM alpha.people p JOIN beta.incomes i ON p.id = i.id"
ROWS = 1_000_000


def connect(**more):
    options = {
        "username": CONNECT["username"],
        "password": CONNECT["password"],
        DatabaseOptions.TLS_ROOT_CERTS.value: CA,
        **more,
    }
    return dbapi.connect(CONNECT["uri"], db_kwargs=options, autocommit=True)


def running():
    """The number of a query that has come to joint execution."""
    with connect() as watching, watching.cursor() as cursor:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            cursor.execute("SELECT query_id FROM veilgate.queries WHERE state = 'running: joint'")
            found = cursor.fetchall()
            if found:
                return found[0][0]
            time.sleep(0.02)
    raise AssertionError("no query runs")


def ledger_says(department, query, kind, within=20.0):
    """Whether a leaf of this kind and run is in a department's ledger before so many seconds are over."""
    entries = DIR / ".veilgate" / department / "state" / "ledger" / "tile" / "entries"
    deadline = time.monotonic() + within
    while True:
        for tile in entries.rglob("*"):
            if not tile.is_file():
                continue
            for leaf in tile.read_bytes().split(b"{")[1:]:
                if query.encode() in leaf and f'"kind":"{kind}"'.encode() in leaf:
                    return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


class Adbc(unittest.TestCase):
    def setUp(self):
        self.connection = connect()
        self.cursor = self.connection.cursor()

    def tearDown(self):
        self.cursor.close()
        self.connection.close()

    def rows(self, sql, parameters=None):
        self.cursor.execute(sql, parameters)
        return self.cursor.fetchall()

    def test_what_there_is(self):
        info = self.connection.adbc_get_info()
        self.assertEqual(info["vendor_name"], "Veilgate")
        self.assertEqual(self.connection.adbc_get_table_types(), ["TABLE", "VIEW"])
        found = self.connection.adbc_get_objects(depth="columns").read_all().to_pylist()
        self.assertEqual([catalog["catalog_name"] for catalog in found], ["federation"])
        schemas = {
            schema["db_schema_name"]: {table["table_name"] for table in schema["db_schema_tables"]}
            for schema in found[0]["catalog_db_schemas"]
        }
        self.assertEqual(schemas["alpha"], {"people", "rows"})
        self.assertEqual(schemas["veilgate"], {"audit", "catalog", "notices", "queries", "sessions"})
        schema = self.connection.adbc_get_table_schema("people", db_schema_filter="alpha")
        self.assertEqual(schema.field("born").type, pyarrow.date32())

    def test_wildcards_and_quotes_in_filters(self):
        for pattern in ["%", "a_pha", "al'pha", 'al"pha', "a%;--", "\\", ""]:
            objects = self.connection.adbc_get_objects(depth="db_schemas", db_schema_filter=pattern)
            names = [
                schema["db_schema_name"]
                for catalog in objects.read_all().to_pylist()
                for schema in catalog["catalog_db_schemas"] or []
            ]
            self.assertTrue(set(names) <= {"alpha", "beta", "veilgate"}, pattern)

    def test_a_joint_query(self):
        self.cursor.execute(JOINED)
        table = self.cursor.fetch_arrow_table()
        self.assertEqual(
            [str(field.type) for field in table.schema],
            ["string", "int64", "decimal128(22, 2)", "date32[day]"],
        )
        # 90 people in three wards; person n was born on day n of 2000 and earns n + 0.5.
        due = [
            {
                "ward": ward,
                "people": 30,
                "income": sum(decimal.Decimal(f"{n}.50") for n in range(at, 90, 3)),
                "born": datetime.date(2000, 1, 1) + datetime.timedelta(days=87 + at),
            }
            for at, ward in enumerate(["east", "north", "west"])
        ]
        self.assertEqual(table.to_pylist(), due)

    def test_notices(self):
        self.cursor.execute(JOINED)
        query = self.cursor.fetch_arrow_table().schema.metadata[b"veilgate.query_id"].decode()
        told = self.rows("SELECT kind, notice FROM veilgate.notices WHERE query_id = ?", (query,))
        kinds = {kind for kind, _ in told}
        self.assertTrue({"source", "rule", "ledger", "traffic", "time"} <= kinds, kinds)
        sources = [notice for kind, notice in told if kind == "source"]
        self.assertEqual([source.split(";")[0] for source in sources], ["alpha: people", "beta: incomes"])
        state = "SELECT state, rows, departments FROM veilgate.queries WHERE query_id = $1"
        self.assertEqual(self.rows(state, (query,)), [("fetched", 3, "alpha, beta, bureau")])
        leaves = "SELECT kind FROM veilgate.audit WHERE run = $1 ORDER BY leaf"
        self.assertEqual(
            [kind for (kind,) in self.rows(leaves, (query,))],
            ["admission", "consent", "start", "release"],
        )

    def test_explain_returns_rows(self):
        entries = self.rows(f"EXPLAIN {JOINED}")
        sections = {entry[0] for entry in entries}
        self.assertTrue({"party", "leaves", "rule", "fragment", "operator", "release"} <= sections)

    def test_parameters(self):
        sql = "SELECT COUNT(*) AS n FROM alpha.people p JOIN beta.incomes i ON p.id = i.id WHERE {}"
        for condition, value, due in [
            ("i.income > ?", 49, 41),
            ("i.income > $1", decimal.Decimal("49.5"), 40),
            ("i.income > ?", 49.5, 40),
            ("p.ward = ?", "east", 30),
            ("p.ward = ?", "' OR ''='", 0),
            ("p.born >= ?", datetime.date(2000, 3, 1), 30),
            ("i.income > ?", None, 0),
        ]:
            self.assertEqual(self.rows(sql.format(condition), (value,)), [(due,)], (condition, value))
        for value in [("x",), (1, 2)]:
            with self.assertRaises(adbc_driver_manager.ProgrammingError) as refused:
                self.rows(sql.format("i.income > ?"), value)
            self.assertIn("parameter", str(refused.exception))

    def test_refusals_come_when_a_statement_is_prepared(self):
        with self.assertRaises(adbc_driver_manager.ProgrammingError) as refused:
            self.cursor.adbc_prepare(SECRET)
        text = str(refused.exception)
        self.assertIn("alpha.people.secret", text)
        self.assertIn("allowed instead", text)
        self.assertIn("[policy-denied]", text)
        self.assertEqual(refused.exception.status_code, adbc_driver_manager.AdbcStatusCode.UNAUTHORIZED)
        details = dict(refused.exception.details)
        self.assertIn(b"google.rpc.ErrorInfo", details[b"grpc-status-details-bin"])
        for sql, text in [
            ("SELEC 1", "line 1, column 1"),
            ("SELECT COUNT(*) AS n FROM alpha.peopl", "alpha.people"),
            ("SELECT 1; SELECT 2", "one SELECT at a time"),
            ("DROP TABLE alpha.people", "changes nothing"),
            ("INSERT INTO alpha.people VALUES (1)", "changes nothing"),
            ("SELECT q.state FROM veilgate.queries q, alpha.people p", "together"),
        ]:
            with self.assertRaises(adbc_driver_manager.ProgrammingError) as refused:
                self.cursor.adbc_prepare(sql)
            self.assertIn(text, str(refused.exception))

    def test_purpose_and_case(self):
        self.rows("SET purpose = 'a study of wards'")
        self.rows("SET case = '2026-17'")
        self.assertEqual(self.rows("SHOW purpose"), [("purpose", "a study of wards")])
        self.cursor.execute(JOINED)
        query = self.cursor.fetch_arrow_table().schema.metadata[b"veilgate.query_id"].decode()
        said = "SELECT purpose, case_number FROM veilgate.queries WHERE query_id = $1"
        self.assertEqual(self.rows(said, (query,)), [("a study of wards", "2026-17")])
        for department in ["alpha", "beta", "bureau"]:
            entries = DIR / ".veilgate" / department / "state" / "ledger" / "tile" / "entries"
            text = b"".join(path.read_bytes() for path in entries.rglob("*") if path.is_file())
            self.assertIn(b'"purpose":"a study of wards"', text)
            self.assertNotIn(b"2026-17", text)
        with connect() as other, other.cursor() as cursor:
            cursor.execute("SHOW purpose")
            self.assertEqual(cursor.fetchall(), [("purpose", "")])

    def test_a_rule_that_asks_for_purpose_and_case(self):
        sql = "SELECT p.street FROM alpha.people p WHERE p.id = 7"
        for said in ["RESET purpose", "SET purpose = 'inquiries'", "SET purpose = 'census'"]:
            self.rows(said)
            with self.assertRaises(adbc_driver_manager.ProgrammingError) as refused:
                self.cursor.adbc_prepare(sql)
            text = str(refused.exception)
            self.assertIn("[policy-denied]", text)
            self.assertIn("a case number", text)
            self.assertEqual("`inquiry` or `census`" in text, "'census'" not in said, text)
        self.rows("SET case = '2026-18'")
        self.assertEqual(self.rows(sql), [("street7",)])

    def test_purpose_as_a_header(self):
        header = "adbc.flight.sql.rpc.call_header.x-veilgate-purpose"
        with connect(**{header: "said in a header"}) as other, other.cursor() as cursor:
            cursor.execute("SHOW purpose")
            self.assertEqual(cursor.fetchall(), [("purpose", "said in a header")])

    def test_a_query_that_is_cancelled_ends_everywhere(self):
        failed = []

        def run():
            try:
                self.cursor.execute(SLOW)
                self.cursor.fetchall()
            except Exception as error:  # Whatever the driver makes of it.
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        query = running()
        self.cursor.adbc_cancel()
        thread.join(60)
        self.assertTrue(failed)
        for department in ["alpha", "beta", "bureau"]:
            self.assertTrue(ledger_says(department, query, "failure"), department)

    def test_a_query_executed_as_partitions(self):
        self.cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        partitions = []
        while found := self.cursor.adbc_execute_partitions(SLOW)[0]:
            partitions += found
        self.assertEqual(len(partitions), 1)
        self.cursor.adbc_read_partition(partitions[0])
        self.assertEqual(self.cursor.fetchall(), [(89, 89), (88, 88), (87, 87)])

    def test_pandas_and_polars(self):
        with connect() as connection:
            frame = pandas.read_sql("SELECT kind FROM veilgate.notices", connection)
            self.assertEqual(list(frame.columns), ["kind"])
            frame = polars.read_database(JOINED, connection)
            self.assertEqual(frame["people"].to_list(), [30, 30, 30])

    def test_a_large_result(self):
        self.cursor.execute("SELECT r.id, r.v FROM alpha.rows r")
        frame = self.cursor.fetch_df()
        self.assertEqual(len(frame), ROWS)
        self.assertEqual(int(frame["id"].sum()), ROWS * (ROWS - 1) // 2)
        self.assertEqual(int(frame["v"].sum()), sum(n % 1000 for n in range(ROWS)))


class Flight(unittest.TestCase):
    """pyarrow.flight, with commands of Flight SQL made by hand."""

    def setUp(self):
        self.client = flight.connect(CONNECT["uri"], tls_root_certs=CA)
        token = self.client.authenticate_basic_token(CONNECT["username"], CONNECT["password"])
        self.options = flight.FlightCallOptions(headers=[token])

    def info(self, sql, options=None):
        descriptor = flight.FlightDescriptor.for_command(statement(sql))
        return self.client.get_flight_info(descriptor, options or self.options)

    def test_the_schema_advertised_is_the_schema_delivered(self):
        for sql in [JOINED, "SELECT 1 AS one", "SELECT * FROM veilgate.queries", f"EXPLAIN {JOINED}"]:
            info = self.info(sql)
            reader = self.client.do_get(info.endpoints[0].ticket, self.options)
            self.assertEqual(info.schema.remove_metadata(), reader.schema.remove_metadata())
            reader.read_all().validate(full=True)

    def test_notices_come_with_the_rows(self):
        info = self.info(JOINED)
        reader = self.client.do_get(info.endpoints[0].ticket, self.options)
        told = json.loads(reader.schema.metadata[b"veilgate.told"])
        first = reader.read_chunk()
        self.assertEqual(json.loads(first.app_metadata.to_pybytes()), told)
        self.assertIn("rule", {notice["kind"] for notice in told["notices"]})

    def test_tickets_serve_once_and_their_own_analyst_alone(self):
        info = self.info("SELECT 1 AS one")
        ticket = info.endpoints[0].ticket
        self.client.do_get(ticket, self.options).read_all()
        with self.assertRaisesRegex(pyarrow.ArrowInvalid, "fetched already"):
            self.client.do_get(ticket, self.options).read_all()
        with self.assertRaisesRegex(pyarrow.ArrowInvalid, "no such query"):
            self.client.do_get(ticket_of(b"\x01" * 32), self.options).read_all()
        for garbage in [b"", b"\xff" * 50, statement("SELECT 1"), ticket_of(b"\x01").ticket]:
            with self.assertRaises((pyarrow.ArrowInvalid, flight.FlightError)):
                self.client.do_get(flight.Ticket(garbage), self.options).read_all()

    def test_nobody_asks_without_a_name(self):
        wrong = [b"Basic eDp5", b"Bearer x", b"Bearer veilgate_s_" + b"A" * 43, b"", b"\xff".hex().encode()]
        for value in [None, *wrong]:
            headers = [] if value is None else [(b"authorization", value)]
            with self.assertRaises(flight.FlightUnauthenticatedError):
                self.info("SELECT 1", flight.FlightCallOptions(headers=headers))
        started = time.monotonic()
        with self.assertRaises(flight.FlightUnauthenticatedError):
            self.client.authenticate_basic_token(CONNECT["username"], "not the password")
        self.assertGreater(time.monotonic() - started, 0.4)

    def test_garbage_is_refused_by_name(self):
        for command in [b"", b"\xff" * 100, statement("SELECT 1")[:-4], b"\x0a\x03abc"]:
            with self.assertRaises((pyarrow.ArrowInvalid, flight.FlightError)):
                self.client.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
        for action in ["CancelFlightInfo", "SetSessionOptions", "CreatePreparedStatement", "nothing"]:
            with self.assertRaises((pyarrow.ArrowInvalid, flight.FlightError, NotImplementedError)):
                list(self.client.do_action((action, b"\xff\xfe garbage"), self.options))
        for sql in ["'" + "a" * (10 << 20) + "'", "1" + " + 1" * 100_000, "(" * 5_000, "1" + "+1" * 900]:
            try:
                self.info(f"SELECT {sql}")
            except (pyarrow.ArrowException, flight.FlightError):
                pass
        # Whatever it was, the gateway goes on.
        self.info("SELECT 1")

    def test_cancel_and_close(self):
        info = self.info(SLOW)
        query = json.loads(info.app_metadata)["query_id"]
        self.assertEqual(running(), query)
        self.client.cancel_flight_info(flight.CancelFlightInfoRequest(info), options=self.options) if hasattr(
            flight, "CancelFlightInfoRequest"
        ) else list(self.client.do_action(("CancelFlightInfo", field(1, info.serialize())), self.options))
        for department in ["alpha", "beta", "bureau"]:
            self.assertTrue(ledger_says(department, query, "failure"), department)
        closed = list(self.client.do_action(("CloseSession", b""), self.options))
        self.assertEqual(closed[0].body.to_pybytes(), b"\x08\x01")
        with self.assertRaises(flight.FlightUnauthenticatedError):
            self.info("SELECT 1")

    def test_polling_tells_phase_and_progress(self):
        header = self.client.authenticate_basic_token(CONNECT["username"], CONNECT["password"])
        target = CONNECT["uri"].removeprefix("grpc+tls://")
        credentials = grpc.ssl_channel_credentials(CA.encode())
        phases, shares = [], []
        with grpc.secure_channel(target, credentials) as channel:
            poll = channel.unary_unary("/arrow.flight.protocol.FlightService/PollFlightInfo")
            # FlightDescriptor: type 2 (CMD), cmd.
            descriptor = b"\x08\x02" + field(2, statement(SLOW))
            while descriptor is not None:
                answer = fields(poll(descriptor, metadata=[(k.decode(), v.decode()) for k, v in [header]]))
                info = flight.FlightInfo.deserialize(answer[1])
                shares.append(struct.unpack("<d", answer[3])[0])
                descriptor = answer.get(2)
                if descriptor is not None:
                    phases.append(json.loads(info.app_metadata)["phase"])
            # An answer is kept as long as the connection that asked for it.
            ticket = field(1, info.endpoints[0].ticket.ticket)
            get = channel.unary_stream("/arrow.flight.protocol.FlightService/DoGet")
            messages = list(get(ticket, metadata=[(k.decode(), v.decode()) for k, v in [header]]))
            self.assertEqual(json.loads(fields(messages[1])[3])["query_id"], json.loads(fields(messages[0])[3])["query_id"])
        self.assertIn("joint", phases)
        self.assertGreater(len(phases), 3)
        self.assertTrue(all(0 <= share <= 1 for share in shares), shares)

    def test_a_client_that_goes_away_ends_its_query(self):
        info = self.info(SLOW)
        query = json.loads(info.app_metadata)["query_id"]
        self.assertEqual(running(), query)
        self.client.close()
        for department in ["alpha", "beta", "bureau"]:
            self.assertTrue(ledger_says(department, query, "failure"), department)


def ticket_of(handle):
    """A ticket for the query of this number."""
    return flight.Ticket(command("TicketStatementQuery", field(1, handle)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
