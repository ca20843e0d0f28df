"""Datagrams, as they are told on standard input or as they come.

quic.py sink ADDRESS        prints the client's port and each datagram that comes to port 443, in hex
quic.py client ADDRESS      sends to port 443, from one port, what the lines say: `HEX`, or `SIZE HEX` for the kernel
                            to cut it into datagrams of that size; answers each line with `sent` or an error
"""

import socket
import sys

SOL_UDP, UDP_SEGMENT = 17, 103

what, address = sys.argv[1], sys.argv[2]
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
if what == "sink":
    s.bind((address, 443))
    print("listening", flush=True)
    while True:
        data, peer = s.recvfrom(65536)
        print(peer[1], data.hex(), flush=True)
s.connect((address, 443))
print("port", s.getsockname()[1], flush=True)
for line in sys.stdin:
    *size, data = line.split()
    s.setsockopt(SOL_UDP, UDP_SEGMENT, int(size[0]) if size else 0)
    try:
        s.send(bytes.fromhex(data))
        print("sent", flush=True)
    except OSError as error:
        print(error, flush=True)
