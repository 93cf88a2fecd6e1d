"""Who may do what: roles, tokens and certificates, with ADBC against a running federation.

Run as `python test_users.py DIR`, with the binary in `VEILGATE`, where DIR is the folder of a running sandbox
with the tables of `main.rs` beside the Rust test that starts it.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

import adbc_driver_flightsql.dbapi as dbapi
import adbc_driver_manager
from adbc_driver_flightsql import DatabaseOptions

DIR = pathlib.Path(sys.argv.pop(1))
CONNECT = json.loads((DIR / ".veilgate" / "connect.json").read_text())
HOME = DIR / ".veilgate" / "alpha"
USERS = HOME / "users.toml"
PASSWORD = "correct horse battery"
COUNT = "SELECT COUNT(*) AS n FROM alpha.people p JOIN beta.incomes i ON p.id = i.id"


def veilgate(*arguments, **more):
    command = [os.environ["VEILGATE"], *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def user(*arguments, **more):
    return veilgate("user", *arguments, "--config", str(HOME / "gateway.toml"), **more)


def connect(**options):
    options[DatabaseOptions.TLS_ROOT_CERTS.value] = pathlib.Path(CONNECT["ca"]).read_text()
    return dbapi.connect(CONNECT["uri"], db_kwargs=options, autocommit=True)


def with_token(token):
    return connect(**{DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"})


def rows(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


class Users(unittest.TestCase):
    def refused(self, open_it, sql="SELECT 1 AS one", status="UNAUTHENTICATED"):
        with self.assertRaises(adbc_driver_manager.Error) as refused, open_it() as connection:
            rows(connection, sql)
        code = getattr(adbc_driver_manager.AdbcStatusCode, status)
        self.assertEqual(refused.exception.status_code, code, refused.exception)
        return str(refused.exception)

    def test_a_token(self):
        user("add", "dashboard", "--role", "analyst", "--no-password")
        token = user("token", "dashboard", "--days", "1").strip()
        with with_token(token) as connection:
            self.assertEqual(rows(connection, COUNT), [(90,)])
        # No password was ever set.
        self.refused(lambda: connect(username="dashboard", password=""))
        # Somebody else's secret under this id, and an id that does not exist, look alike.
        one = self.refused(lambda: with_token(token[:-43] + "A" * 43))
        other = self.refused(lambda: with_token("veilgate_zzzz9999_" + "A" * 43))
        self.assertEqual(one.splitlines()[0], other.splitlines()[0])
        name = re.search(r"veilgate_([a-z0-9]+)_", token).group(1)
        user("revoke", "dashboard", "--token", name)
        self.refused(lambda: with_token(token))

    def test_a_token_that_has_expired(self):
        user("add", "monthly", "--role", "analyst", "--no-password")
        token = user("token", "monthly", "--days", "1").strip()
        text = USERS.read_text()
        digest = hashlib.sha256(token[-43:].encode()).hexdigest()
        self.assertIn(digest, text)
        at = text.index(digest)
        USERS.write_text(text[:at] + re.sub(r'expires = "[^"]*"', 'expires = "2020-01-01T00:00:00Z"', text[at:], count=1))
        self.assertIn("expired", self.refused(lambda: with_token(token)))

    def test_roles(self):
        user("add", "carla", "--role", "auditor", input=f"{PASSWORD}\n")
        with connect(username=CONNECT["username"], password=CONNECT["password"]) as connection:
            self.assertEqual(rows(connection, COUNT), [(90,)])
        with connect(username="carla", password=PASSWORD) as auditor:
            sessions = dict(rows(auditor, "SELECT analyst, connections FROM veilgate.sessions"))
            self.assertGreaterEqual(sessions["carla@alpha"], 1)
            self.assertIn(f"{CONNECT['username']}@alpha", sessions)
            others = rows(auditor, "SELECT DISTINCT analyst FROM veilgate.queries")
            self.assertIn((f"{CONNECT['username']}@alpha",), others)
            for sql in [COUNT, f"EXPLAIN {COUNT}"]:
                with self.assertRaises(adbc_driver_manager.Error) as refused:
                    rows(auditor, sql)
                self.assertIn("role `analyst`", str(refused.exception))
        user("add", "otto", "--role", "analyst", input=f"{PASSWORD}\n")
        with connect(username="otto", password=PASSWORD) as analyst:
            for view in ["queries", "sessions"]:
                sql = f"SELECT COUNT(*) AS n FROM veilgate.{view} WHERE analyst <> 'otto@alpha'"
                self.assertEqual(rows(analyst, sql), [(0,)])

    def test_what_is_anothers(self):
        user("add", "eve", "--role", "analyst", input=f"{PASSWORD}\n")
        with connect(username=CONNECT["username"], password=CONNECT["password"]) as own:
            with own.cursor() as cursor, connect(username="eve", password=PASSWORD) as eve:
                cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
                partitions = []
                while found := cursor.adbc_execute_partitions(COUNT)[0]:
                    partitions += found
                # The ticket of another's query, and then its own analyst's.
                with eve.cursor() as other:
                    with self.assertRaises(adbc_driver_manager.Error) as refused:
                        other.adbc_read_partition(partitions[0])
                        other.fetchall()
                    self.assertIn("no such query", str(refused.exception))
                cursor.adbc_read_partition(partitions[0])
                self.assertEqual(cursor.fetchall(), [(90,)])

    def test_nothing_that_is_typed_reaches_a_log(self):
        with connect(username=CONNECT["username"], password=CONNECT["password"]) as connection:
            for sql in [
                "SELECT 1 AS one -- secretword47",
                "SELECT 1 /* secretword47 */ AS one",
                f"{COUNT} WHERE p.ward <> 'secretword47'",
                "SELEC 'secretword47'",
                "SELECT secretword47 FROM alpha.people",
                "SELECT COUNT(*) FROM alpha.secretword47",
                "SET purpose = 'for all to know'; SELECT 'secretword47'",
            ]:
                try:
                    rows(connection, sql)
                except adbc_driver_manager.Error:
                    pass
        self.refused(lambda: connect(username="secretword47", password="secretword47"))
        seen = 0
        for path in HOME.parent.rglob("*"):
            if path.is_file() and not path.is_symlink():
                self.assertNotIn(b"secretword47", path.read_bytes(), path)
                seen += path.name == "gateway.log"
        self.assertEqual(seen, 3)

    def test_a_session_ends_with_its_user(self):
        user("add", "brief", "--role", "analyst", input=f"{PASSWORD}\n")
        with connect(username="brief", password=PASSWORD) as connection:
            self.assertEqual(rows(connection, "SELECT 1 AS one"), [(1,)])
            user("revoke", "brief")
            with self.assertRaises(adbc_driver_manager.Error):
                rows(connection, "SELECT 1 AS one")
        self.refused(lambda: connect(username="brief", password=PASSWORD))

    def test_a_wrong_password_is_slow(self):
        for name in [CONNECT["username"], "nobody"]:
            started = time.monotonic()
            self.refused(lambda: connect(username=name, password="not the password"))
            self.assertGreater(time.monotonic() - started, 0.4, name)

    def test_a_client_certificate(self):
        identity = HOME.parent / "analysts" / "analyst.pem"
        certificate = veilgate("certificate", str(identity))
        self.assertTrue(certificate.startswith("-----BEGIN CERTIFICATE-----"))

        def mutual(key):
            return connect(
                **{
                    DatabaseOptions.MTLS_CERT_CHAIN.value: certificate,
                    DatabaseOptions.MTLS_PRIVATE_KEY.value: key,
                }
            )

        with mutual(identity.read_text()) as connection:
            self.assertEqual(rows(connection, COUNT), [(90,)])
            seen = rows(connection, "SELECT DISTINCT analyst FROM veilgate.queries")
            self.assertEqual(len(seen), 1)
            self.assertTrue(seen[0][0].endswith("@alpha"))
        # A gateway's key is no analyst's, and a key that nobody pins is refused.
        gateway = HOME / "identity.pem"
        certificate = veilgate("certificate", str(gateway))
        said = self.refused(lambda: mutual(gateway.read_text()), status="UNKNOWN")
        self.assertIn("wrong-identity", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
