# Connections to PostgreSQL, each with a backend: the first in an open transaction, to which each line is a query.
import socket
import struct
import sys


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.send(b'', struct.pack('!i', 3 << 16) + b'user\0me\0database\0postgres\0\0')

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack('!i', len(body) + 4) + body)
        while self.message() != b'Z':  # ReadyForQuery
            pass

    def message(self):
        kind, size = struct.unpack('!ci', self.exactly(5))
        body = self.exactly(size - 4)
        if kind == b'E':
            raise SystemExit(repr(body))
        return kind

    def exactly(self, size):
        data = b''
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise SystemExit('the server closed the connection')
            data += part
        return data

    def query(self, text):
        self.send(b'Q', text.encode() + b'\0')


path, count = sys.argv[1], int(sys.argv[2])
connections = [Connection(path) for _ in range(count)]
for connection in connections:
    connection.query('select 1')
connections[0].query('create table written(n int)')
connections[0].query('begin')
for line in sys.stdin:
    connections[0].query(line)
    print('ok', flush=True)
