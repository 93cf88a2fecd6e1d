"""Every client through the same: connect, list tables, EXPLAIN, a query, one with a parameter, one that is refused,
one that is cancelled, a result of 1,000,000 rows, and a query of a minute with its progress.

Run as `python test_matrix.py DIR` with the generated gRPC code on the path, where DIR is the folder of a running
sandbox; the tables are those of `main.rs` beside the Rust test that starts it.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import unittest

import adbc_driver_flightsql.dbapi as dbapi
import grpc
import pandas
import polars
import pyarrow
import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions
from flight_sql import command, field, fields, statement
from veilgate.analyst.v1 import analyst_pb2 as messages
from veilgate.analyst.v1 import analyst_pb2_grpc

DIR = pathlib.Path(sys.argv.pop(1))
CONNECT = json.loads((DIR / ".veilgate" / "connect.json").read_text())
CA = pathlib.Path(CONNECT["ca"]).read_text()
TARGET = CONNECT["uri"].removeprefix("grpc+tls://")

TABLES = ["alpha.people", "alpha.rows", "beta.incomes"]
JOINED = """SELECT p.ward, COUNT(*) AS people FROM alpha.people p JOIN beta.incomes i ON p.id = i.id
GROUP BY p.ward ORDER BY p.ward"""
WARDS = [("east", 30), ("north", 30), ("west", 30)]
COUNT = "SELECT COUNT(*) AS n FROM alpha.people p JOIN beta.incomes i ON p.id = i.id WHERE i.income > ?"
SECRET = "SELECT p.secret FROM alpha.people p JOIN beta.incomes i ON p.id = i.id"
ALL = "SELECT r.id, r.v FROM alpha.rows r"
SLOW = """SELECT r.id, r.v FROM alpha.rows r LEFT JOIN beta.incomes i ON r.id = i.id
ORDER BY i.income DESC NULLS LAST, r.v, r.id LIMIT 3"""
# A minute, about, on two cores without optimisation.
MINUTE = " UNION ALL ".join(f"({SLOW.replace('LIMIT 3', f'LIMIT {n}')})" for n in range(1, 21))
ROWS = 1_000_000


def connect():
    options = {
        "username": CONNECT["username"],
        "password": CONNECT["password"],
        DatabaseOptions.TLS_ROOT_CERTS.value: CA,
    }
    return dbapi.connect(CONNECT["uri"], db_kwargs=options, autocommit=True)


def ask(sql):
    """What another connection is told."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def running(phase="running: joint"):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if found := ask(f"SELECT query_id FROM veilgate.queries WHERE state = '{phase}'"):
            return found[0][0]
        time.sleep(0.05)
    raise AssertionError("no query runs")


class Everything:
    """What each client is put through; a class beside says how it does it."""

    def test_list_tables(self):
        self.assertEqual(sorted(self.tables()), TABLES)

    def test_explain(self):
        self.assertIn("leaves", self.explain(JOINED))

    def test_query(self):
        self.assertEqual(self.query(JOINED), WARDS)

    def test_parameter(self):
        self.assertEqual(self.query_with(COUNT, 49), [(41,)])
        self.assertEqual(self.query_with(COUNT, 89), [(1,)])

    def test_refused(self):
        with self.assertRaises(Exception) as refused:
            self.query(SECRET)
        text = str(refused.exception)
        self.assertIn("alpha.people.secret", text)
        self.assertIn("policy-denied", text)

    def test_cancelled(self):
        failed = []

        def run():
            try:
                self.query(SLOW)
            except Exception as error:  # Whatever the client makes of it.
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        query = running()
        self.cancel(query)
        thread.join(60)
        self.assertTrue(failed)
        self.failed(query)

    def failed(self, query):
        deadline = time.monotonic() + 20
        while (state := ask(f"SELECT state FROM veilgate.queries WHERE query_id = '{query}'")) != [("failed: cancelled",)]:
            self.assertLess(time.monotonic(), deadline, state)
            time.sleep(0.05)

    def test_large(self):
        self.assertEqual(self.large(), (ROWS, ROWS * (ROWS - 1) // 2))


class Adbc(Everything, unittest.TestCase):
    """The raw cursor."""

    def setUp(self):
        self.connection = connect()
        self.addCleanup(self.connection.close)
        self.cursor = self.connection.cursor()
        self.addCleanup(self.cursor.close)

    def tables(self):
        catalogs = self.connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        for schema in catalogs[0]["catalog_db_schemas"]:
            if schema["db_schema_name"] != "veilgate":
                for table in schema["db_schema_tables"]:
                    yield f"{schema['db_schema_name']}.{table['table_name']}"

    def explain(self, sql):
        return {row[0] for row in self.query(f"EXPLAIN {sql}")}

    def query(self, sql, values=None):
        self.cursor.execute(sql, values)
        return self.cursor.fetchall()

    def query_with(self, sql, value):
        return self.query(sql, (value,))

    def cancel(self, _):
        self.cursor.adbc_cancel()

    def large(self):
        self.cursor.execute(ALL)
        table = self.cursor.fetch_arrow_table()
        return table.num_rows, pyarrow.compute.sum(table["id"]).as_py()


class Pandas(Adbc):
    """`pandas.read_sql` over ADBC, and the cursor's data frames where that has no parameters."""

    def frame(self, sql):
        return pandas.read_sql(sql, self.connection)

    def tables(self):
        frame = self.frame("SELECT DISTINCT department, table_name FROM veilgate.catalog")
        return [f"{row.department}.{row.table_name}" for row in frame.itertuples()]

    def explain(self, sql):
        return set(self.frame(f"EXPLAIN {sql}")["section"])

    def query(self, sql):
        return [tuple(row) for row in self.frame(sql).itertuples(index=False)]

    def query_with(self, sql, value):
        self.cursor.execute(sql, (value,))
        return [tuple(row) for row in self.cursor.fetch_df().itertuples(index=False)]

    def test_cancelled(self):
        """As a notebook does it: the process is interrupted."""
        found = []

        def interrupt():
            found.append(running())
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(BaseException) as cancelled:
            self.query(SLOW)
        self.assertNotIsInstance(cancelled.exception, AssertionError)
        thread.join(60)
        self.failed(found[0])

    def large(self):
        frame = self.frame(ALL)
        return len(frame), int(frame["id"].sum())


class Polars(Pandas):
    """`polars.read_database` over ADBC; an interrupt does not reach it, its cursor cancels."""

    test_cancelled = Everything.test_cancelled

    def read(self, sql, **options):
        return polars.read_database(sql, self.cursor, execute_options=options or None)

    def tables(self):
        frame = self.read("SELECT DISTINCT department || '.' || table_name AS name FROM veilgate.catalog")
        return frame["name"].to_list()

    def explain(self, sql):
        return set(self.read(f"EXPLAIN {sql}")["section"])

    def query(self, sql):
        return self.read(sql).rows()

    def query_with(self, sql, value):
        return self.read(sql, parameters=(value,)).rows()

    def large(self):
        frame = self.read(ALL)
        return len(frame), frame["id"].sum()


class PyarrowFlight(Everything, unittest.TestCase):
    """`pyarrow.flight`, with the commands of Flight SQL made by hand."""

    def setUp(self):
        self.client = flight.connect(CONNECT["uri"], tls_root_certs=CA)
        self.addCleanup(self.client.close)
        token = self.client.authenticate_basic_token(CONNECT["username"], CONNECT["password"])
        self.options = flight.FlightCallOptions(headers=[token])
        self.last = None

    def fetch(self, what):
        self.last = self.client.get_flight_info(flight.FlightDescriptor.for_command(what), self.options)
        table = self.client.do_get(self.last.endpoints[0].ticket, self.options).read_all()
        self.assertEqual(table.schema.remove_metadata(), self.last.schema.remove_metadata())
        return table

    def tables(self):
        for row in self.fetch(command("CommandGetTables")).to_pylist():
            if row["db_schema_name"] != "veilgate":
                yield f"{row['db_schema_name']}.{row['table_name']}"

    def explain(self, sql):
        return set(self.statement(f"EXPLAIN {sql}")["section"].to_pylist())

    def statement(self, sql):
        return self.fetch(statement(sql))

    def query(self, sql):
        return [tuple(row.values()) for row in self.statement(sql).to_pylist()]

    def query_with(self, sql, value):
        create = command("ActionCreatePreparedStatementRequest", field(1, sql.encode()))
        (made,) = self.client.do_action(("CreatePreparedStatement", create), self.options)
        handle = fields(fields(made.body.to_pybytes())[2])[1]
        prepared = command("CommandPreparedStatementQuery", field(1, handle))
        values = pyarrow.record_batch({"1": pyarrow.array([value], pyarrow.int64())})
        writer, reader = self.client.do_put(flight.FlightDescriptor.for_command(prepared), values.schema, self.options)
        with writer:
            writer.write_batch(values)
            writer.done_writing()
            reader.read()
        rows = [tuple(row.values()) for row in self.fetch(prepared).to_pylist()]
        close = command("ActionClosePreparedStatementRequest", field(1, handle))
        list(self.client.do_action(("ClosePreparedStatement", close), self.options))
        return rows

    def cancel(self, _):
        info = self.last
        list(self.client.do_action(("CancelFlightInfo", field(1, info.serialize())), self.options))

    def large(self):
        table = self.statement(ALL)
        return table.num_rows, pyarrow.compute.sum(table["id"]).as_py()


class Grpc(Everything, unittest.TestCase):
    """The native service."""

    def setUp(self):
        self.channel = grpc.secure_channel(TARGET, grpc.ssl_channel_credentials(CA.encode()))
        self.addCleanup(self.channel.close)
        self.stub = analyst_pb2_grpc.AnalystStub(self.channel)
        login = self.stub.Login(messages.LoginRequest(user=CONNECT["username"], password=CONNECT["password"]))
        self.token = [("authorization", f"Bearer {login.token}")]

    def tables(self):
        for published in self.stub.Catalog(messages.CatalogRequest(), metadata=self.token).catalogs:
            for table in json.loads(published.json or b"{}").get("tables", []):
                yield f"{published.department}.{table['name']}"

    def explain(self, sql):
        told = self.stub.Explain(messages.ExplainRequest(sql=sql), metadata=self.token)
        return {entry.section for entry in told.entries}

    def table(self, sql):
        asked = messages.SubmitRequest(sql=sql, attached=True)
        query = self.stub.Submit(asked, metadata=self.token).query_id
        replies = self.stub.Fetch(messages.FetchRequest(query_id=query), metadata=self.token)
        return pyarrow.ipc.open_stream(b"".join(reply.arrow_ipc for reply in replies)).read_all()

    def query(self, sql):
        return [tuple(row.values()) for row in self.table(sql).to_pylist()]

    def query_with(self, sql, value):
        return self.query(sql.replace("?", str(value)))

    def cancel(self, query):
        self.stub.Cancel(messages.CancelRequest(query_id=query), metadata=self.token)

    def large(self):
        table = self.table(ALL)
        return table.num_rows, pyarrow.compute.sum(table["id"]).as_py()


class AMinute(Grpc):
    """One query of a minute, and what every client is told meanwhile."""

    for name in list(vars(Everything)):
        if name.startswith("test_"):
            locals()[name] = None

    def test_progress(self):
        started = time.monotonic()
        query = self.stub.Submit(messages.SubmitRequest(sql=MINUTE), metadata=self.token).query_id
        watched, others = [], set()

        def others_see():
            with connect() as connection:
                sql = f"SELECT state FROM veilgate.queries WHERE query_id = '{query}'"
                while True:
                    state = pandas.read_sql(sql, connection)["state"][0]
                    others.add(state)
                    if not state.startswith("running"):
                        return
                    others.update(polars.read_database(sql, connection)["state"])
                    time.sleep(0.5)

        looking = threading.Thread(target=others_see)
        looking.start()
        for event in self.stub.Watch(messages.WatchRequest(query_id=query), metadata=self.token):
            if event.HasField("progress"):
                step = event.progress
                watched.append((step.phase, step.rows, step.bytes, step.rounds))
        looking.join(60)
        self.assertGreater(len(set(watched)), 20)
        self.assertIn("joint", {phase for phase, *_ in watched})
        self.assertTrue({"running: joint", "kept"} <= others, others)
        replies = self.stub.Fetch(messages.FetchRequest(query_id=query), metadata=self.token)
        table = pyarrow.ipc.open_stream(b"".join(reply.arrow_ipc for reply in replies)).read_all()
        self.assertEqual(table.num_rows, sum(range(1, 21)))
        print(f"\n{len(watched)} steps in {time.monotonic() - started:.0f} s", file=sys.stderr)

    def test_progress_of_adbc(self):
        with connect() as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
            shares, partitions = [], []
            while found := cursor.adbc_execute_partitions(SLOW)[0]:
                partitions += found
                with contextlib.suppress(Exception):
                    shares.append(cursor.adbc_statement.get_option_float("adbc.statement.exec.progress"))
            cursor.adbc_read_partition(partitions[0])
            self.assertEqual(len(cursor.fetchall()), 3)
            self.assertTrue(all(0 <= share <= 1 for share in shares), shares)


if __name__ == "__main__":
    unittest.main(verbosity=2)
