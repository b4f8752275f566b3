"""What unix_load.c does, for machines without a compiler: the same arguments, checks and output, at a third of the rate."""

import json
import selectors
import socket
import struct
import sys
import time

import msgpack


def main() -> None:
    path, questions_path, connections, depth, warm_s, seconds, pid, cache = sys.argv[1:]
    questions = _read(questions_path)
    depth, server = int(depth), (~int(pid) << 3) | 2
    selector = selectors.DefaultSelector()
    ids: set[str] = set()
    latencies: list[float] = []
    turn = in_flight = 0

    def put(slots: dict, slot: int) -> bytes:
        nonlocal turn, in_flight
        request, at, text = questions[turn % len(questions)]
        msgid = 0x01000000 + ((turn & 0xFFFFF) << 8) + slot
        turn += 1
        in_flight += 1
        slots[msgid] = (slot, text, time.perf_counter())
        return b"%b%b%b" % (request[:at], struct.pack(">I", msgid), request[at + 4 :])

    for _ in range(int(connections)):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        slots: dict = {}
        selector.register(connection, selectors.EVENT_READ, (slots, msgpack.Unpacker()))
        connection.sendall(b"".join(put(slots, slot) for slot in range(depth)))
    start = time.perf_counter() + float(warm_s)
    stop = start + float(seconds)
    marks: list[tuple[float, float, float]] = []
    while in_flight:
        ready = selector.select(5)
        assert ready, "no answer for five seconds"
        for key, _ in ready:
            slots, unpacker = key.data
            data = key.fileobj.recv(1 << 20)
            assert data, "the daemon closed the connection"
            now = time.perf_counter()
            unpacker.feed(data)
            out = []
            for kind, msgid, error, result in unpacker:
                slot, text, sent_at = slots.pop(msgid)
                in_flight -= 1
                assert (kind, error) == (1, None), error
                assert result["text"] == text, "a wrong answer"
                assert result["cache"] == cache, "not answered from where it should"
                ids.add(result["id"])
                if len(marks) == 1:
                    latencies.append(now - sent_at)
                if now < stop:
                    out.append(put(slots, slot))
            if out:
                key.fileobj.sendall(b"".join(out))
            if now >= (start, stop, float("inf"))[len(marks)]:
                marks.append((now, time.clock_gettime(server), time.process_time()))
    assert len(ids) == turn, "two answers have the same id"
    latencies.sort()
    count = len(latencies)
    elapsed, daemon, own = (after - before for before, after in zip(*marks, strict=True))
    print(
        json.dumps(
            {
                "count": count,
                "per_s": count / elapsed,
                "p50_us": latencies[count // 2] * 1e6,
                "p99_us": latencies[count * 99 // 100] * 1e6,
                "daemon_cpu_us": daemon / count * 1e6,
                "load_cpu_us": own / count * 1e6,
                "load_busy": own / elapsed,
                "daemon_busy": daemon / elapsed,
                "checked": len(ids),
            }
        )
    )


def _read(path: str) -> list[tuple[bytes, int, str]]:
    questions = []
    with open(path, "rb") as file:
        while head := file.read(12):
            size, at, text_size = struct.unpack("=III", head)
            questions.append((file.read(size), at, file.read(text_size).decode()))
    return questions


if __name__ == "__main__":
    main()
