# One connection that stays open; each line is one request.
import http.client
import sys

connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
for line in sys.stdin:
    connection.request('GET', '/')
    print(connection.getresponse().read().decode(), flush=True)
