"""Messages of Flight SQL by hand, for clients that have none: what protobuf's wire format needs of it, and no more."""


def field(number, payload):
    """A length-delimited field of a protobuf message."""
    length, encoded = len(payload), bytes([number << 3 | 2])
    while length > 127:
        encoded += bytes([length & 127 | 128])
        length >>= 7
    return encoded + bytes([length]) + payload


def fields(message):
    """The last value of each field of a protobuf message: bytes of those that have a length or are doubles."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            found[key >> 3] = number()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or number()
        found[key >> 3] = message[at : at + size]
        at += size
    return found


def command(name, body=b""):
    """A command of Flight SQL in its `Any`."""
    return field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + field(2, body)


def statement(sql):
    """`CommandStatementQuery`."""
    return command("CommandStatementQuery", field(1, sql.encode()))
