# ssl_connect.py URL COUNT: the job of tests/bench/tls.lua with Python's socket and ssl, and one context.
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

url, count = urlsplit(sys.argv[1]), int(sys.argv[2])
context = ssl.create_default_context()
head = (f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\nContent-Length: 2\r\n"
        "Content-Type: application/json\r\n\r\n{}").encode()


def ask():
    with socket.create_connection((url.hostname, url.port)) as plain:
        with context.wrap_socket(plain, server_hostname=url.hostname) as secure:
            secure.sendall(head)
            answer = b""
            while piece := secure.recv(16384):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 200")


ask()
cpu = time.process_time()
for _ in range(count):
    ask()
print(f"connections={count} cpu_us_per_request={(time.process_time() - cpu) / count * 1e6:.0f}")
