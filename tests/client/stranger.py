"""A client from nothing but ``docs/protocol.md``: steered by lines of JSON, see the head of ``tests/kit/drivers.py``."""

import errno
import json
import queue
import socket
import sys
import threading
import time

import msgpack

OUTPUT = threading.Lock()
COMMANDS = queue.Queue()
ASKED = {}


def say(message):
    with OUTPUT:
        print(json.dumps(message), flush=True)


class Line:
    """One connection: what was asked on it, by msgid, and the streams among that, by call_id."""

    def __init__(self, path):
        self.socket = connect(path)
        self.lock = threading.Lock()
        self.asked = {}
        self.streams = {}
        self.usable = True
        self.send([0, 0, "hello", [{"client": "stranger", "errors": "map"}]])
        threading.Thread(target=self.listen, daemon=True).start()

    def send(self, message):
        with self.lock:
            self.socket.sendall(msgpack.packb(message))

    def listen(self):
        unpacker = msgpack.Unpacker(max_buffer_size=64 << 20)
        try:
            while data := self.socket.recv(65536):
                unpacker.feed(data)
                for message in unpacker:
                    self.take(message)
        except OSError:
            pass
        self.usable = False
        for number, seen in self.asked.values():
            code = "incomplete_stream" if seen else "connection_lost"
            say({"id": number, "error": {"code": code, "message": "the connection ended"}})

    def take(self, message):
        if message[0] == 0:
            self.send([1, message[1], [0, "unknown_method: none here"], None])
        elif message[0] == 2 and message[1] == "going_away":
            self.usable = False
        elif message[0] == 2 and message[1] == "delta":
            delta = message[2][0]
            asked = self.asked.get(self.streams.get(delta["call_id"]))
            if asked:
                asked[1] += 1
                if delta.get("text"):
                    say({"id": asked[0], "piece": delta["text"]})
        elif message[0] == 1 and message[1] in self.asked:
            number, seen = self.asked.pop(message[1])
            _, _, error, result = message
            if error is not None and as_map(error)["code"] == "going_away":
                self.usable = False
                COMMANDS.put(ASKED[number])  # it was not begun; the successor will take it
                return
            if error is not None:
                say({"id": number, "error": as_map(error)})
                return
            if message[1] in self.streams.values() and not seen and result["text"]:
                say({"id": number, "piece": result["text"]})
            say({"id": number, "result": result})


def connect(path):
    give_up_at = time.monotonic() + 20  # a busy machine takes its time to start a daemon
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return connection
        except OSError as error:
            connection.close()
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)


def as_map(error):
    if isinstance(error, dict):
        return error
    code, _, message = error[1].partition(": ")
    return {"code": code, "message": message, "retryable": False}


def main():
    line, lines = None, {}
    while True:
        command = COMMANDS.get()
        if command is None:
            return
        number = command["id"]
        if command["do"] == "cancel":
            lines[number].send([2, "cancel", [{"msgid": number}]])
            continue
        ASKED[number] = command
        arguments = command["arguments"]
        if arguments.get("stream"):
            arguments["call_id"] = f"stream {number}"
        while True:
            try:
                if line is None or not line.usable:
                    line = Line(sys.argv[1])
                lines[number] = line
                line.asked[number] = [number, 0]
                if arguments.get("stream"):
                    line.streams[arguments["call_id"]] = number
                line.send([0, number, command["method"], [arguments]])
                break
            except BrokenPipeError:  # it never left in full
                line.asked.pop(number, None)
                line.usable = False
            except OSError as error:
                say({"id": number, "error": {"code": "unreachable", "message": str(error)}})
                break


def read():
    for text in sys.stdin:
        COMMANDS.put(json.loads(text))
    COMMANDS.put(None)


threading.Thread(target=read, daemon=True).start()
main()
