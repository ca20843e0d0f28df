#!/usr/bin/env python3
"""Traffic from inside one network namespace, driven over stdin and stdout.

One process stands in each namespace of a test world. A request is one line of
JSON, {"id": n, "op": name, ...}; the answer is one line, {"id": n, ...} with
"result": "ok" or the name of what went wrong. Requests run side by side, each
in a thread, so that a test may hold connections open while it makes others.
"""
import errno
import itertools
import json
import os
import select
import socket
import struct
import sys
import threading
import time

SCTP = 132
out_lock = threading.Lock()
handles = {}
handles_lock = threading.Lock()


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def keep(thing):
    with handles_lock:
        number = len(handles) + 1
        handles[number] = thing
    return number


def failure(error):
    """Names an OSError the way tests compare it."""
    if isinstance(error, (socket.timeout, TimeoutError)):
        return {"result": "timeout"}
    names = {
        errno.ECONNREFUSED: "refused",
        errno.ECONNRESET: "reset",
        errno.EPIPE: "reset",
        errno.EHOSTUNREACH: "unreachable",
        errno.ENETUNREACH: "unreachable",
        errno.EACCES: "prohibited",
    }
    return {"result": names.get(error.errno, errno.errorcode.get(error.errno, str(error)))}


def inet_checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# --- servers: each answers "<name> <peer address> <peer port> <what was said>"


class Listener:
    def __init__(self, sock):
        self.sock = sock
        self.count = 0
        # How to speak to each peer that has spoken, by its address.
        self.peers = {}

    def close(self):
        self.sock.close()


def answer(name, peer, data):
    text = peer[0][7:] if peer[0].startswith("::ffff:") else peer[0]
    return ("%s %s %d " % (name, text, peer[1])).encode() + data


def serve_tcp(listener, name):
    def talk(conn, peer):
        with conn:
            listener.peers[peer[:2]] = conn.sendall
            try:
                while data := conn.recv(65536):
                    listener.count += 1
                    conn.sendall(answer(name, peer, data))
            except OSError:
                pass  # the client went away, or was cut off: it is the client that reports
            listener.peers.pop(peer[:2], None)

    while True:
        try:
            conn, peer = listener.sock.accept()
        except OSError:
            return
        threading.Thread(target=talk, args=(conn, peer), daemon=True).start()


def serve_udp(listener, name):
    while True:
        try:
            data, peer = listener.sock.recvfrom(65536)
            listener.count += 1
            listener.peers[peer[:2]] = lambda text, to=peer: listener.sock.sendto(text, to)
            listener.sock.sendto(answer(name, peer, data), peer)
        except OSError:
            if listener.sock.fileno() < 0:
                return


def sctp_packet(sport, dport, tag, chunk):
    head = struct.pack("!HHII", sport, dport, tag, 0)
    return head[:8] + struct.pack("<I", crc32c(head + chunk)) + chunk


def sctp_init(kind):
    return struct.pack("!BBHIIHHI", kind, 0, 20, 7, 65536, 1, 1, 1)


def serve_sctp(listener, addr, port):
    """Answers INIT with INIT ACK. By hand: not every kernel has SCTP, and the filter does not care."""
    while True:
        try:
            data, peer = listener.sock.recvfrom(65536)
        except OSError:
            return
        if family(addr) == socket.AF_INET:
            data = data[(data[0] & 15) * 4:]
        sport, dport = struct.unpack("!HH", data[:4])
        if dport == port and data[12] == 1:
            listener.count += 1
            tag = struct.unpack("!I", data[16:20])[0]
            listener.sock.sendto(sctp_packet(port, sport, tag, sctp_init(2)), (peer[0], 0))


def op_listen(addr, port, proto="tcp", name=""):
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_RAW}[proto]
    sock = socket.socket(family(addr), kind, SCTP if proto == "sctp" else 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((addr, 0 if proto == "sctp" else port))
    listener = Listener(sock)
    if proto == "tcp":
        sock.listen(1024)
    target, args = {
        "tcp": (serve_tcp, (listener, name)),
        "udp": (serve_udp, (listener, name)),
        "sctp": (serve_sctp, (listener, addr, port)),
    }[proto]
    threading.Thread(target=target, args=args, daemon=True).start()
    return {"handle": keep(listener)}


def op_count(handle):
    return {"count": handles[handle].count}


def op_push(handle, port, data):
    """Speaks, unasked, to the peer that has spoken from this port."""
    for peer, send in list(handles[handle].peers.items()):
        if peer[1] == port:
            send(data.encode())
            return {}
    return {"result": "nobody"}


# --- clients


def connect(dst, port, proto, timeout, sport=0):
    sock = socket.socket(family(dst), socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM)
    sock.settimeout(timeout)
    if sport:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", sport))
    try:
        sock.connect((dst, port))
    except OSError:
        sock.close()
        raise
    return sock


def say(sock, data, timeout):
    sock.settimeout(timeout)
    sock.sendall(data.encode())
    reply = sock.recv(65536)
    if not reply:
        raise ConnectionResetError(errno.ECONNRESET, "closed")
    name, peer, port, text = reply.decode().split(" ", 3)
    return {"server": name, "seen": peer, "seenPort": int(port), "text": text}


def op_request(dst, port, proto="tcp", timeout=5.0, data="hello", sport=0):
    """Connects, says one thing, hears the answer, closes."""
    if proto == "sctp":
        return op_sctp(dst, port, timeout, sport or 40000)
    if proto == "icmp":
        return op_ping(dst, timeout)
    with connect(dst, port, proto, timeout, sport) as sock:
        return say(sock, data, timeout)


def op_fetch(name, port, timeout=5.0, data="hello", every=False):
    """Looks a name up, connects at once, says one thing, hears the answer. `every`: to each of its addresses."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return {"result": "gaierror", "code": error.errno, "text": str(error)}
    addresses = [info[4][0] for info in found]
    reply = {}
    for address in addresses if every else addresses[:1]:
        reply["address"] = address
        try:
            with connect(address, port, "tcp", timeout) as sock:
                reply.update(say(sock, data, timeout))
        except OSError as error:
            return {"addresses": addresses, **reply, **failure(error)}
    return {"addresses": addresses, **reply}


def op_open(dst, port, proto="tcp", timeout=5.0, sport=0):
    sock = connect(dst, port, proto, timeout, sport)
    return {"handle": keep(sock), "port": sock.getsockname()[1]}


def op_say(handle, data="hello", timeout=5.0):
    return say(handles[handle], data, timeout)


def op_hear(handle, timeout=5.0):
    """What the other end says unasked."""
    handles[handle].settimeout(timeout)
    data = handles[handle].recv(65536)
    return {"text": data.decode()} if data else {"result": "reset"}


def op_close(handle, reset=False):
    thing = handles[handle]
    if reset:
        thing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    thing.close()
    return {}


def op_sctp(dst, port, timeout, sport):
    with socket.socket(family(dst), socket.SOCK_RAW, SCTP) as sock:
        sock.connect((dst, 0))
        sock.send(sctp_packet(sport, port, 0, sctp_init(1)))
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
            data = sock.recv(65536)
            if family(dst) == socket.AF_INET:
                data = data[(data[0] & 15) * 4:]
            if struct.unpack("!HH", data[:4]) == (port, sport) and data[12] == 2:
                return {}
    return {"result": "timeout"}


# Echoes of threads side by side: threads' own numbers are alike in their low bits.
idents = itertools.count(os.getpid() % 0x8000)


def op_ping(dst, timeout=5.0, size=16, ident=0, seq=1):
    """ICMP echo by raw socket; also reports the ICMP error that comes back instead."""
    six = family(dst) == socket.AF_INET6
    ident = ident or next(idents)
    request, reply = (128, 129) if six else (8, 0)
    packet = struct.pack("!BBHHH", request, 0, 0, ident, seq) + bytes(size)
    if not six:
        packet = packet[:2] + struct.pack("!H", inet_checksum(packet)) + packet[4:]
    with socket.socket(family(dst), socket.SOCK_RAW, 58 if six else 1) as sock:
        sock.sendto(packet, (dst, 0))
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
            data, peer = sock.recvfrom(65536)
            data = data if six else data[(data[0] & 15) * 4:]
            if data[0] == reply and struct.unpack("!H", data[4:6])[0] == ident:
                return {"bytes": len(data)}
            if data[0] == (1 if six else 3) and struct.pack("!HH", ident, seq) in data[8:]:
                return {"result": "prohibited", "type": data[0], "code": data[1]}
    return {"result": "timeout"}


# --- packets by hand


def op_frames(frames, device="eth0"):
    """Sends whole link-layer frames (hex), past the namespace's own stack."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        for frame in frames:
            sock.send(bytes.fromhex(frame))
    return {}


class Sniffer:
    """Frames that arrive at (or leave) a device, link-layer header included."""

    def __init__(self, device):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind((device, 3))
        self.frames = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                data, meta = self.sock.recvfrom(65536)
            except OSError:
                return
            self.frames.append(("out " if meta[2] == 4 else "in ") + data.hex())

    def close(self):
        self.sock.close()


def op_sniff(device="eth0"):
    return {"handle": keep(Sniffer(device))}


def op_sniffed(handle):
    return {"frames": list(handles[handle].frames)}


# --- traffic that goes on by itself


class Load:
    """Requests one after the other until stopped; what they came to, by result."""

    def __init__(self, pause, request):
        self.results = {}
        self.slowest = 0.0
        self.running = True
        self.thread = threading.Thread(target=self.run, args=(pause, request), daemon=True)
        self.thread.start()

    def run(self, pause, request):
        while self.running:
            began = time.monotonic()
            try:
                result = request().get("result", "ok")
            except OSError as error:
                result = failure(error)["result"]
            self.results[result] = self.results.get(result, 0) + 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(pause)

    def close(self):
        self.running = False
        self.thread.join(10)


def op_load(pause=0.005, **request):
    return {"handle": keep(Load(pause, lambda: op_request(**request)))}


def op_chat(on, pause=0.05, timeout=1.0):
    """The same on one connection that is open."""
    return {"handle": keep(Load(pause, lambda: say(handles[on], "hello", timeout)))}


def op_results(handle):
    """By result; and how long the slowest took, in seconds."""
    return {"results": dict(handles[handle].results), "slowest": handles[handle].slowest}


def handle_line(line):
    request = json.loads(line)
    number, name = request.pop("id"), request.pop("op")
    reply = {"id": number, "result": "ok"}
    try:
        reply.update(globals()["op_" + name](**request))
    except OSError as error:
        reply.update(failure(error))
    except Exception as error:  # a mistake in the test: shown there, with its text
        reply.update({"result": "broken", "error": "%s: %s" % (type(error).__name__, error)})
    with out_lock:
        print(json.dumps(reply), flush=True)


for request_line in sys.stdin:
    threading.Thread(target=handle_line, args=(request_line,), daemon=True).start()
