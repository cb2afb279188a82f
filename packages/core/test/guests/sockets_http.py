"""An HTTP server and a client that keeps its connection, in two processes, with a connection of an event loop beside."""

import http.client
import http.server
import os
import selectors
import socket

from guest import expect, run

values = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = 0

    def do_GET(self):
        Handler.requests += 1
        body = f"{self.path} {Handler.requests}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def get(path):
    values["client"].request("GET", path)
    return values["client"].getresponse().read()


def prepare():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        address = server.server_address
        if os.fork() == 0:
            try:
                server.serve_forever()
            finally:
                os._exit(0)
    values["client"] = http.client.HTTPConnection(*address)
    expect(get("/first"), b"/first 1")
    values["selector"] = selectors.DefaultSelector()
    values["watched"] = socket.socketpair()
    values["selector"].register(values["watched"][0], selectors.EVENT_READ, "watched")


def change(count):
    get("/later")
    if count == 1:
        values["watched"][1].send(b"ready")
        values["client"].request("GET", "/unread")
        values["client"].sock.close()
        values["client"].close()
        values["watched"][0].close()
    else:
        values["client"].close()


def verify():
    expect(values["selector"].select(0), [])
    values["watched"][1].send(b"x")
    expect([key.data for key, _ in values["selector"].select(1)], ["watched"])
    expect(values["watched"][0].recv(10), b"x")
    answer = get("/verify")
    assert answer.startswith(b"/verify "), answer
    values["count"] = values.get("count", 1) + 1
    expect(answer, b"/verify %d" % values["count"])


run(prepare, change, verify)
