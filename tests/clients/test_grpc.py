"""Drives the native service, from code made of its proto, against a running federation.

Run as `python test_grpc.py DIR` with the generated code on the path, where DIR is the folder of a running
sandbox; the tables are those of `main.rs` beside the Rust test that starts it.
"""

import json
import pathlib
import sys
import time
import unittest

import grpc
import pyarrow
from veilgate.analyst.v1 import analyst_pb2 as messages
from veilgate.analyst.v1 import analyst_pb2_grpc

DIR = pathlib.Path(sys.argv.pop(1))
CONNECT = json.loads((DIR / ".veilgate" / "connect.json").read_text())
TARGET = CONNECT["uri"].removeprefix("grpc+tls://")
STATE = DIR / ".veilgate" / "alpha" / "state"

JOINED = """SELECT p.ward, COUNT(*) AS people FROM alpha.people p JOIN beta.incomes i ON p.id = i.id
GROUP BY p.ward ORDER BY p.ward"""
SLOW = """SELECT r.id, r.v FROM alpha.rows r LEFT JOIN beta.incomes i ON r.id = i.id
ORDER BY i.income DESC NULLS LAST, r.v, r.id LIMIT 3"""
ROWS = 1_000_000


class Client:
    """One connection."""

    def __init__(self, password=CONNECT["password"]):
        credentials = grpc.ssl_channel_credentials(pathlib.Path(CONNECT["ca"]).read_bytes())
        self.channel = grpc.secure_channel(TARGET, credentials)
        self.stub = analyst_pb2_grpc.AnalystStub(self.channel)
        login = self.stub.Login(messages.LoginRequest(user=CONNECT["username"], password=password))
        self.token = [("authorization", f"Bearer {login.token}")]

    def submit(self, sql, **more):
        return self.stub.Submit(messages.SubmitRequest(sql=sql, **more), metadata=self.token).query_id

    def watch(self, query):
        return self.stub.Watch(messages.WatchRequest(query_id=query), metadata=self.token)

    def fetch(self, query):
        head, pieces = None, []
        for reply in self.stub.Fetch(messages.FetchRequest(query_id=query), metadata=self.token):
            if reply.HasField("head"):
                head = reply.head
            else:
                assert len(reply.arrow_ipc) <= 1 << 20
                pieces.append(reply.arrow_ipc)
        return head, pyarrow.ipc.open_stream(b"".join(pieces)).read_all()

    def cancel(self, query):
        self.stub.Cancel(messages.CancelRequest(query_id=query), metadata=self.token)

    def rows(self, sql):
        return self.fetch(self.submit(sql))[1].to_pylist()


class Grpc(unittest.TestCase):
    fetched = []

    def setUp(self):
        self.client = Client()

    def tearDown(self):
        self.client.channel.close()

    def refused(self, code, call, *arguments, **more):
        with self.assertRaises(grpc.RpcError) as refused:
            answer = call(*arguments, **more)
            list(answer) if hasattr(answer, "__next__") else answer
        self.assertEqual(refused.exception.code(), code, refused.exception)
        return refused.exception.details()

    def test_a_query_survives_its_client(self):
        leaving = Client()
        query = leaving.submit(SLOW)
        next(leaving.watch(query))
        leaving.channel.close()
        events = list(self.client.watch(query))
        self.assertIn("joint", {event.progress.phase for event in events[:-1]})
        self.assertEqual(events[-1].ended.rows, 3)
        self.assertGreater(events[-1].ended.expires, time.time() + 23 * 3600)
        kept = STATE / "results" / query
        self.assertEqual(kept.stat().st_mode & 0o777, 0o600)
        self.assertNotIn(b"analyst", kept.read_bytes())
        state = f"SELECT state, rows FROM veilgate.queries WHERE query_id = '{query}'"
        self.assertEqual(self.client.rows(state), [{"state": "kept", "rows": 3}])
        head, table = self.client.fetch(query)
        self.assertEqual(table.to_pylist(), [{"id": n, "v": n} for n in (89, 88, 87)])
        self.assertEqual((head.query_id, head.rows, len(head.plan_digest)), (query, 3, 32))
        self.assertIn("ledger", {notice.kind for notice in head.notices})
        # For whoever lost it on the way; not for long.
        self.assertEqual(self.client.fetch(query)[1], table)
        self.assertLess(list(self.client.watch(query))[-1].ended.expires, time.time() + 31)
        Grpc.fetched.append(query)

    @classmethod
    def tearDownClass(cls):
        """What was fetched half a minute ago is gone."""
        client = Client()
        for query in cls.fetched:
            deadline = time.monotonic() + 60
            while list((STATE / "results").glob(f"{query}*")):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            try:
                client.fetch(query)
            except grpc.RpcError as refused:
                assert "fetched already" in refused.details(), refused
            else:
                raise AssertionError("a result that is gone")
        client.channel.close()

    def test_a_fetch_that_breaks_off_can_be_repeated(self):
        query = self.client.submit("SELECT r.id, r.v FROM alpha.rows r")
        parts = self.client.stub.Fetch(messages.FetchRequest(query_id=query), metadata=self.client.token)
        for _ in range(3):
            next(parts)
        parts.cancel()
        _, table = self.client.fetch(query)
        self.assertEqual(table.num_rows, ROWS)
        self.assertEqual(sum(table["id"].to_pylist()), ROWS * (ROWS - 1) // 2)

    def test_an_attached_query_ends_with_its_client(self):
        for leave in [lambda client, watching: client.channel.close(), lambda client, watching: watching.cancel()]:
            client = Client()
            query = client.submit(SLOW, attached=True)
            watching = client.watch(query)
            next(event for event in watching if event.progress.phase == "joint")
            leave(client, watching)
            self.failed(query)
            client.channel.close()

    def failed(self, query):
        sql = f"SELECT state FROM veilgate.queries WHERE query_id = '{query}'"
        deadline = time.monotonic() + 20
        while (state := self.client.rows(sql)[0]["state"]) != "failed: cancelled":
            self.assertLess(time.monotonic(), deadline, state)
            time.sleep(0.05)

    def test_cancel(self):
        query = self.client.submit(SLOW)
        watching = self.client.watch(query)
        next(event for event in watching if event.progress.phase == "joint")
        self.client.cancel(query)
        self.refused(grpc.StatusCode.UNAVAILABLE, lambda: watching)
        self.failed(query)
        # A result that waits is thrown away.
        query = self.client.submit("SELECT 1 AS one")
        list(self.client.watch(query))
        self.client.cancel(query)
        self.assertEqual(list((STATE / "results").glob(f"{query}*")), [])
        lost = messages.FetchRequest(query_id=query)
        code = grpc.StatusCode.INVALID_ARGUMENT
        self.assertIn("fetched already", self.refused(code, self.client.stub.Fetch, lost, metadata=self.client.token))

    def test_as_many_as_one_may_have_and_no_more(self):
        """Whoever has too many can still look for them."""
        ward = "SELECT p.ward FROM alpha.people p WHERE p.id = 1"
        many = [self.client.submit(ward) for _ in range(64)]
        self.assertIn("64", self.refused(grpc.StatusCode.RESOURCE_EXHAUSTED, self.client.submit, ward))
        states = self.client.rows("SELECT query_id, state FROM veilgate.queries WHERE departments <> ''")
        self.assertTrue(set(many) <= {row["query_id"] for row in states})
        for query in many:
            list(self.client.watch(query))
            self.client.cancel(query)
        self.assertEqual(self.client.rows(ward), [{"ward": "north"}])

    def test_explain_and_catalog(self):
        asked = messages.ExplainRequest(sql=JOINED)
        told = self.client.stub.Explain(asked, metadata=self.client.token)
        self.assertIn("JOINT PLAN", told.text)
        self.assertIn("leaves", {entry.section for entry in told.entries})
        catalogs = self.client.stub.Catalog(messages.CatalogRequest(), metadata=self.client.token).catalogs
        self.assertEqual([of.department for of in catalogs], ["alpha", "beta", "bureau"])
        self.assertEqual(json.loads(catalogs[1].json)["tables"][0]["name"], "incomes")

    def test_purpose_and_case(self):
        sql = "SELECT p.street FROM alpha.people p WHERE p.id = 7"
        denied = grpc.StatusCode.PERMISSION_DENIED
        for reason in [None, messages.Reason(purpose="census"), messages.Reason(case_number="1")]:
            text = self.refused(denied, self.client.submit, sql, reason=reason)
            self.assertIn("alpha.people.street/output", text)
        reason = messages.Reason(purpose="census", case_number="2026-19")
        _, table = self.client.fetch(self.client.submit(sql, reason=reason))
        self.assertEqual(table.to_pylist(), [{"street": "street7"}])

    def test_refusals_come_at_once(self):
        for sql, code, text in [
            ("SELECT p.secret FROM alpha.people p", grpc.StatusCode.PERMISSION_DENIED, "allowed instead"),
            ("SELEC 1", grpc.StatusCode.INVALID_ARGUMENT, "line 1, column 1"),
            ("SELECT COUNT(*) FROM alpha.people WHERE id = ?", grpc.StatusCode.INVALID_ARGUMENT, "parameters"),
            ("DELETE FROM alpha.people", grpc.StatusCode.INVALID_ARGUMENT, "changes nothing"),
            ("", grpc.StatusCode.INVALID_ARGUMENT, ""),
        ]:
            self.assertIn(text, self.refused(code, self.client.submit, sql))

    def test_nobody_without_a_name(self):
        unknown = grpc.StatusCode.UNAUTHENTICATED
        started = time.monotonic()
        self.refused(unknown, lambda: Client("not the password"))
        self.assertGreater(time.monotonic() - started, 0.4)
        stub = self.client.stub
        for metadata in [[], [("authorization", "Bearer x")], [("authorization", "Bearer veilgate_s_" + "A" * 43)]]:
            for call, request in [
                (stub.Submit, messages.SubmitRequest(sql="SELECT 1")),
                (stub.Explain, messages.ExplainRequest(sql="SELECT 1")),
                (stub.Watch, messages.WatchRequest()),
                (stub.Fetch, messages.FetchRequest()),
                (stub.Cancel, messages.CancelRequest()),
                (stub.Catalog, messages.CatalogRequest()),
            ]:
                self.refused(unknown, call, request, metadata=metadata)

    def test_numbers_of_no_query(self):
        for number in ["", "x", "ab" * 31, "ab" * 32, "AB" * 33, "é" * 32, "../../results.key"]:
            for call, request in [
                (self.client.stub.Watch, messages.WatchRequest(query_id=number)),
                (self.client.stub.Fetch, messages.FetchRequest(query_id=number)),
                (self.client.stub.Cancel, messages.CancelRequest(query_id=number)),
            ]:
                self.refused(grpc.StatusCode.INVALID_ARGUMENT, call, request, metadata=self.client.token)

    def test_garbage_on_every_call(self):
        service = messages.DESCRIPTOR.services_by_name["Analyst"]
        self.assertEqual(len(service.methods), 7)
        for method in service.methods:
            call = self.client.channel.unary_stream(f"/veilgate.analyst.v1.Analyst/{method.name}")
            for body in [b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xc3\x28", b"\x08" * 9, bytes(5 << 20)]:
                if method.name == "Catalog" and body.startswith(b"\x0a\x02"):
                    # A field that it does not have: well-formed.
                    continue
                with self.assertRaises(grpc.RpcError) as refused:
                    list(call(body, metadata=self.client.token))
                self.assertNotIn(
                    refused.exception.code(), [grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE], method.name
                )
        self.assertEqual(self.client.rows("SELECT 1 AS one"), [{"one": 1}])

    def test_garbage_on_every_call_of_flight(self):
        methods = "Handshake ListFlights GetFlightInfo PollFlightInfo GetSchema DoGet DoPut DoExchange DoAction ListActions"
        for method in methods.split():
            call = self.client.channel.stream_stream(f"/arrow.flight.protocol.FlightService/{method}")
            for body in [b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xc3\x28", b"\x08" * 9, bytes(5 << 20)]:
                for metadata in [self.client.token, []]:
                    code = None
                    try:
                        list(call(iter([body]), metadata=metadata, timeout=20))
                    except grpc.RpcError as refused:
                        code = refused.code()
                    bad = [grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
                    self.assertNotIn(code, bad, (method, body[:9]))
                    # Those are empty messages with a field that they do not have.
                    well_formed = method in ["ListFlights", "ListActions"]
                    self.assertTrue(code or (well_formed and metadata), (method, body[:9]))
        self.assertEqual(self.client.rows("SELECT 1 AS one"), [{"one": 1}])

    def test_the_service_of_gateways_is_for_gateways(self):
        for method in "Hello Catalog Propose Consent Start Commit Abort".split():
            call = self.client.channel.unary_stream(f"/veilgate.peer.v1.Peer/{method}")
            text = self.refused(grpc.StatusCode.ABORTED, call, b"", metadata=self.client.token)
            self.assertIn("wrong-identity", text)

    def test_reflection(self):
        reflect = self.client.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        # ServerReflectionRequest: list_services.
        (answer,) = reflect(iter([b"\x3a\x01*"]))
        self.assertIn(b"veilgate.analyst.v1.Analyst", answer)
        self.assertNotIn(b"veilgate.peer", answer)


if __name__ == "__main__":
    unittest.main(verbosity=2)
