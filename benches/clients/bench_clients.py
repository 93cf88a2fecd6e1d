"""What clients of a gateway wait for, in JSON lines: one for each figure.

Run as `python bench_clients.py VEILGATE [--small] [NAME ...]` with the packages of `tests/clients/requirements.txt`, a
release build, and nothing else on the machine. It makes a federation of three gateways in a temporary folder. With
`--small` there are fewer clients and connections: a test runs it so, for the counts and not for the times. Names:

trivial   a joint query of one row a side, from `cursor.execute` to its rows, and where that time goes
rows      1,000,000 rows to pandas, against the same Arrow over a plain Flight server with TLS
many      50 clients at once, 1,000 queries: answers, sessions and notices of one's own, memory of the gateways
killed    200 connections cut at random moments: what is left of them on any gateway
long      a query of a minute, with what PollFlightInfo tells meanwhile
cancel    from a cancel to the end of the run in every ledger
"""

import collections
import concurrent.futures
import contextlib
import decimal
import functools
import json
import os
import pathlib
import random
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

import adbc_driver_flightsql.dbapi as dbapi
import grpc
import pyarrow
import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "clients"))
from flight_sql import field, fields, statement  # noqa: E402

ROWS = 1_000_000
TRIVIAL = "SELECT a.v, b.w FROM alpha.one a JOIN beta.one b ON a.id = b.id"
ALL = "SELECT r.id, r.v FROM alpha.rows r"
SLOW = "SELECT r.id, r.v FROM alpha.rows r LEFT JOIN beta.incomes i ON r.id = i.id ORDER BY i.income {}, r.v, r.id LIMIT 3"


def tell(name, **figures):
    print(json.dumps({"bench": f"clients-{name}", **figures}, sort_keys=True), flush=True)


def milliseconds(seconds):
    return round(seconds * 1e3, 2)


# The federation.


def columns(*each):
    text = ""
    for name, data_type, more in each:
        text += f'\n[[tables.columns]]\nname = "{name}"\ntype = "{data_type}"\nnullable = false\n{more}\n'
    return text


def table(name, rows, *each):
    return (
        f'\n[[tables]]\nname = "{name}"\nsource = "{name}.csv"\nunit = "id"\nkey = ["id"]\nmax_rows = {rows}\n'
        + columns(("id", "int64", f"max_distinct = {rows}\nmax_abs = {rows}"), *each)
    )


def policy(department, tables):
    text = f'version = 1\ndepartment = "{department}"\ncomputing = [["alpha", "beta", "bureau"]]\n'
    for name in tables:
        text += f'\n[tables.{name}]\nlevel = "L1"\nallow = [\n'
        for use in ["join_key", "filter", "group_key", "sort_key", "output"]:
            text += f'  {{ use = "{use}", k = 1, leakage = "none" }},\n'
        text += '  { use = "aggregate", functions = ["count", "sum", "min", "max", "avg"], k = 1, leakage = "none" },\n]\n'
    return text


def write_tables(folder):
    def write(path, text):
        path = folder / path
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    number = "max_distinct = 1000\nmax_abs = 1000"
    head = 'version = 1\ndepartment = "{}"\n'
    write(
        "alpha/catalog.toml",
        head.format("alpha")
        + table("one", 1, ("v", "int64", number))
        + table("people", 100, ("ward", "utf8", "max_bytes = 8\nmax_distinct = 4"))
        + table("rows", ROWS, ("v", "int64", number)),
    )
    income = "max_distinct = 100\nmax_abs = 100000"
    write(
        "beta/catalog.toml",
        head.format("beta")
        + table("one", 1, ("w", "int64", number))
        + table("incomes", 100, ("income", "decimal(12,2)", income)),
    )
    write("alpha/one.csv", "id,v\n1,2\n")
    write("beta/one.csv", "id,w\n1,3\n")
    write("alpha/people.csv", "id,ward\n" + "".join(f"{n},{'enw'[n % 3]}\n" for n in range(90)))
    write("beta/incomes.csv", "id,income\n" + "".join(f"{n},{n}.50\n" for n in range(90)))
    write("alpha/rows.csv", "id,v\n" + "".join(f"{n},{n % 1000}\n" for n in range(ROWS)))
    write("alpha/policy.toml", policy("alpha", ["one", "people", "rows"]))
    write("beta/policy.toml", policy("beta", ["one", "incomes"]))
    (folder / "bureau").mkdir()


class Federation:
    """Three gateways over these tables, until they are not needed."""

    def __init__(self, binary, folder):
        self.folder = folder
        write_tables(folder)
        self.process = subprocess.Popen(
            [binary, "sandbox", str(folder), "--serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if "connect.json" in line:
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.connect_by = json.loads((folder / ".veilgate" / "connect.json").read_text())
        self.ca = pathlib.Path(self.connect_by["ca"]).read_text()

    def connect(self, uri=None):
        options = {
            "username": self.connect_by["username"],
            "password": self.connect_by["password"],
            DatabaseOptions.TLS_ROOT_CERTS.value: self.ca,
        }
        return dbapi.connect(uri or self.connect_by["uri"], db_kwargs=options, autocommit=True)

    def gateways(self):
        """Department and process of each gateway."""
        found = {}
        for folder in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (folder / "cmdline").read_bytes().decode().split("\0")
                if int(folder.name) != self.process.pid and "gateway" in words and str(self.folder) in " ".join(words):
                    config = next(word for word in words if word.endswith("gateway.toml"))
                    found[pathlib.Path(config).parent.name] = int(folder.name)
        return found

    def counts(self):
        """Open files (sockets among them), threads and resident KiB of each gateway."""
        counts = {}
        for department, pid in sorted(self.gateways().items()):
            files = len(os.listdir(f"/proc/{pid}/fd"))
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            threads = int(status.split("Threads:")[1].split()[0])
            memory = int(status.split("VmRSS:")[1].split()[0])
            counts[department] = {"files": files, "threads": threads, "rss_kib": memory}
        return counts

    def ledger_has(self, department, query, kind):
        entries = self.folder / ".veilgate" / department / "state" / "ledger" / "tile" / "entries"
        # The newest tile is the last; one that grows is written anew under another name.
        for tile in sorted(entries.rglob("*"), reverse=True)[:4]:
            with contextlib.suppress(OSError):
                for leaf in tile.read_bytes().split(b"{")[1:]:
                    if query.encode() in leaf and f'"kind":"{kind}"'.encode() in leaf:
                        return True
        return False

    def running(self, cursor, phase="joint"):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            cursor.execute(f"SELECT query_id FROM veilgate.queries WHERE state = 'running: {phase}'")
            if found := cursor.fetchall():
                return found[0][0]
            time.sleep(0.02)
        raise AssertionError("no query runs")

    def end(self):
        self.process.terminate()
        self.process.wait(30)


# The benchmarks.


def trivial(federation):
    with federation.connect() as connection, connection.cursor() as cursor:
        times, queries = [], []
        for round_ in range(220):
            # Another text each time: the driver prepares the same one only once.
            sql = f"{TRIVIAL} WHERE a.v < {500 + round_}"
            started = time.perf_counter()
            cursor.execute(sql)
            table = cursor.fetch_arrow_table()
            took = time.perf_counter() - started
            assert table.to_pylist() == [{"v": 2, "w": 3}]
            if round_ >= 20:
                times.append(took)
                queries.append(table.schema.metadata[b"veilgate.query_id"].decode())
        cursor.execute("SELECT query_id, notice FROM veilgate.notices WHERE kind = 'time'")
        told = dict(cursor.fetchall())
    steps = collections.defaultdict(list)
    for query in queries:
        for step in told[query].split(", "):
            name, number, _ = step.split(" ")
            steps[name].append(float(number))
    split = {f"{name}_ms": round(statistics.median(each), 2) for name, each in steps.items()}
    total = statistics.median(times)
    rest = milliseconds(total) - sum(split.values())
    tell(
        "trivial",
        queries=len(times),
        median_ms=milliseconds(total),
        p95_ms=milliseconds(sorted(times)[len(times) * 95 // 100]),
        planning_and_client_ms=round(rest, 2),
        **split,
    )


def plain_server(folder, table):
    """A Flight server in a process of its own, with the certificate that the gateway has."""
    path = folder / "plain.arrow"
    with pyarrow.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    home = folder / ".veilgate" / "alpha"
    code = f"""
import pathlib, pyarrow, pyarrow.flight as flight
table = pyarrow.ipc.open_file({str(path)!r}).read_all()
home = pathlib.Path({str(home)!r})
class Server(flight.FlightServerBase):
    def do_get(self, context, ticket):
        return flight.RecordBatchStream(table)
server = Server("grpc+tls://127.0.0.1:0", tls_certificates=[((home / "clients.pem").read_text(), (home / "clients.key").read_text())])
print(server.port, flush=True)
server.serve()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def rows(federation):
    client = flight.connect(federation.connect_by["uri"], tls_root_certs=federation.ca)
    token = client.authenticate_basic_token(federation.connect_by["username"], federation.connect_by["password"])
    options = flight.FlightCallOptions(headers=[token])
    whole, fetched, plain = [], [], []
    with federation.connect() as watching, watching.cursor() as cursor:
        for _ in range(5):
            started = time.perf_counter()
            cursor.execute(ALL)
            frame = cursor.fetch_df()
            whole.append(time.perf_counter() - started)
            assert len(frame) == ROWS and int(frame["id"].sum()) == ROWS * (ROWS - 1) // 2
        process = None
        for round_ in range(12):
            info = client.get_flight_info(flight.FlightDescriptor.for_command(statement(ALL)), options)
            query = json.loads(info.app_metadata)["query_id"]
            while True:
                cursor.execute(f"SELECT state FROM veilgate.queries WHERE query_id = '{query}'")
                if cursor.fetchall() == [("done",)]:
                    break
                time.sleep(0.02)
            started = time.perf_counter()
            table = client.do_get(info.endpoints[0].ticket, options).read_all()
            frame = table.to_pandas()
            fetched.append(time.perf_counter() - started)
            assert len(frame) == ROWS
            if process is None:
                process, port = plain_server(federation.folder, table)
                other = flight.connect(f"grpc+tls://127.0.0.1:{port}", tls_root_certs=federation.ca)
            started = time.perf_counter()
            table = other.do_get(flight.Ticket(b"all")).read_all()
            frame = table.to_pandas()
            plain.append(time.perf_counter() - started)
            assert len(frame) == ROWS
    process.kill()
    # The first of each are those of a cold client.
    fetched, plain = fetched[2:], plain[2:]
    median = statistics.median
    tell(
        "rows",
        rows=ROWS,
        query_to_pandas_ms=milliseconds(median(whole)),
        fetch_to_pandas_ms=milliseconds(median(fetched)),
        plain_flight_to_pandas_ms=milliseconds(median(plain)),
        ratio=round(median(fetched) / median(plain), 2),
    )


def many(federation, clients=50, each=20):
    wrong, seen, lock = [], set(), threading.Lock()
    memory = [federation.counts()]
    done = 0

    def one(number):
        nonlocal done
        dice = random.Random(number)
        with federation.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SET purpose = 'client {number}'")
            cursor.fetchall()
            mine = []
            for _ in range(each):
                least = dice.randrange(90)
                cursor.execute(
                    "SELECT COUNT(*) AS n, SUM(i.income) AS s FROM alpha.people p JOIN beta.incomes i ON p.id = i.id "
                    f"WHERE i.income > {least}"
                )
                table = cursor.fetch_arrow_table()
                due = {"n": 90 - least, "s": sum(decimal.Decimal(f"{n}.50") for n in range(least, 90))}
                query = table.schema.metadata[b"veilgate.query_id"].decode()
                mine.append(query)
                with lock:
                    if table.to_pylist() != [due] or query in seen:
                        wrong.append((number, least, table.to_pylist()))
                    seen.add(query)
                    done += 1
                    if done % 250 == 0:
                        memory.append(federation.counts())
            cursor.execute("SELECT query_id, purpose FROM veilgate.queries")
            purposes = dict(cursor.fetchall())
            for query in mine:
                # The oldest are forgotten.
                if purposes.get(query, f"client {number}") != f"client {number}":
                    wrong.append((number, query))
            cursor.execute("SELECT DISTINCT query_id FROM veilgate.notices")
            told = {query for (query,) in cursor.fetchall()}
            if mine[-1] not in told:
                wrong.append((number, "no notices"))

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for result in [pool.submit(one, number) for number in range(clients)]:
            result.result()
    took = time.perf_counter() - started
    time.sleep(1)
    memory.append(federation.counts())
    kib = {name: [each[name]["rss_kib"] for each in memory] for name in memory[0]}
    tell("many", clients=clients, queries=len(seen), wrong=len(wrong), wall_s=round(took, 2), rss_kib=kib)


class Cutter:
    """Passes TCP on to a gateway, and cuts connections without a word."""

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.pairs = []
        self.over = False
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def uri(self):
        return f"grpc+tls://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self):
        with contextlib.suppress(OSError):
            while not self.over:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.port))
                with self.lock:
                    self.pairs.append((near, far))
                    if self.over:
                        self.close()
                        return
                for one, other in [(near, far), (far, near)]:
                    threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    @staticmethod
    def copy(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)

    def cut(self):
        with self.lock:
            self.over = True
            # Whoever waits for one more connection is woken.
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            return self.close()

    def close(self):
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        return len(pairs)


def killed(federation, connections=200):
    port = int(federation.connect_by["uri"].rsplit(":", 1)[1])
    dice = random.Random(7)
    asked = [SLOW.format("DESC"), TRIVIAL, ALL, f"EXPLAIN {TRIVIAL}", "SELECT * FROM veilgate.queries"]
    with federation.connect() as connection, connection.cursor() as cursor:
        for sql in asked:
            cursor.execute(sql)
            cursor.fetchall()
    time.sleep(25)
    before = federation.counts()

    def one(number):
        cutter = Cutter(port)
        wait = random.Random(number).random() * 2

        def use():
            with contextlib.suppress(Exception):
                with federation.connect(cutter.uri()) as connection, connection.cursor() as cursor:
                    while True:
                        cursor.execute(dice.choice(asked))
                        cursor.fetchall()

        user = threading.Thread(target=use, daemon=True)
        user.start()
        time.sleep(wait)
        cut = cutter.cut()
        user.join(30)
        return cut

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        cut = sum(pool.map(one, range(connections)))
    with federation.connect() as connection, connection.cursor() as cursor:
        started = time.monotonic()
        while True:
            cursor.execute("SELECT COUNT(*) AS n FROM veilgate.queries WHERE state LIKE 'running%' OR state = 'done'")
            (left,) = cursor.fetchone()
            # The one that asks is running.
            # Logins end ten minutes after their last connection: they are counted by it.
            cursor.execute("SELECT COUNT(*) AS n FROM veilgate.sessions WHERE connections > 0")
            (sessions,) = cursor.fetchone()
            if left <= 1 and sessions <= 1 or time.monotonic() - started > 30:
                break
            time.sleep(0.1)
        ended = time.monotonic() - started
    # Idle threads of the pools end by themselves.
    time.sleep(25)
    after = federation.counts()
    tell(
        "killed",
        connections=cut,
        queries_left=left - 1,
        sessions_left=sessions - 1,
        ended_s=round(ended, 2),
        before=before,
        after=after,
    )


def long(federation, copies=24):
    one = (
        "(SELECT id, v FROM (SELECT r.id, r.v, i.income, ROW_NUMBER() OVER (PARTITION BY r.v ORDER BY i.income {}, r.id) "
        "AS n FROM alpha.rows r LEFT JOIN beta.incomes i ON r.id = i.id) WHERE n = 1 ORDER BY income {}, id LIMIT 3)"
    )
    sql = " UNION ALL ".join(one.format(*["DESC", "ASC"][n % 2 :], "DESC") for n in range(copies))
    client = flight.connect(federation.connect_by["uri"], tls_root_certs=federation.ca)
    header = client.authenticate_basic_token(federation.connect_by["username"], federation.connect_by["password"])
    metadata = [(header[0].decode(), header[1].decode())]
    target = federation.connect_by["uri"].removeprefix("grpc+tls://")
    told, silence = [], 0.0
    started = last = time.perf_counter()
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(federation.ca.encode())) as channel:
        poll = channel.unary_unary("/arrow.flight.protocol.FlightService/PollFlightInfo")
        descriptor = b"\x08\x02" + field(2, statement(sql))
        while descriptor is not None:
            answer = fields(poll(descriptor, metadata=metadata))
            now = time.perf_counter()
            silence, last = max(silence, now - last), now
            info = flight.FlightInfo.deserialize(answer[1])
            descriptor = answer.get(2)
            if descriptor is not None:
                step = json.loads(info.app_metadata)
                told.append((step["phase"], step["rows"], step["bytes"], step["rounds"]))
        took = time.perf_counter() - started
        get = channel.unary_stream("/arrow.flight.protocol.FlightService/DoGet")
        messages = list(get(field(1, info.endpoints[0].ticket.ticket), metadata=metadata))
    tell(
        "long",
        wall_s=round(took, 1),
        polls=len(told),
        different=len(set(told)),
        phases=list(dict.fromkeys(phase for phase, *_ in told)),
        longest_silence_s=round(silence, 2),
        messages=len(messages),
    )


def cancel(federation, times=10):
    took = []
    with federation.connect() as watching, watching.cursor() as look:
        for _ in range(times):
            with federation.connect() as connection, connection.cursor() as cursor:
                thread = threading.Thread(target=quietly, args=(cursor,))
                thread.start()
                query = federation.running(look)
                started = time.perf_counter()
                cursor.adbc_cancel()
                left = {"alpha", "beta", "bureau"}
                while left:
                    left = {of for of in left if not federation.ledger_has(of, query, "failure")}
                    assert time.perf_counter() - started < 60
                took.append(time.perf_counter() - started)
                thread.join(30)
    tell("cancel", times=times, median_ms=milliseconds(statistics.median(took)), longest_ms=milliseconds(max(took)))


def quietly(cursor):
    with contextlib.suppress(Exception):
        cursor.execute(SLOW.format("DESC"))
        cursor.fetchall()


BENCHMARKS = {each.__name__: each for each in [trivial, rows, many, cancel, killed, long]}

if __name__ == "__main__":
    # The driver complains of connections that were cut under it when its objects are collected.
    sys.unraisablehook = lambda _: None
    binary, *names = sys.argv[1:]
    if "--small" in names:
        names.remove("--small")
        BENCHMARKS["many"] = functools.partial(many, clients=12, each=4)
        BENCHMARKS["killed"] = functools.partial(killed, connections=24)
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(binary, pathlib.Path(folder))
        try:
            for name in names or BENCHMARKS:
                BENCHMARKS[name](federation)
        finally:
            federation.end()
