#!/usr/bin/env python3
"""What a pod can do before it is attached, so that its own connections look as if others had opened them.

Driven like probe.py: a line of words over stdin, a line over stdout when it is done. `stage.py ADDRESS4 ADDRESS6 GATEWAY-MAC`.
"""
import fcntl
import socket
import struct
import sys
import threading
import time

TCP_REPAIR, TCP_REPAIR_WINDOW = 19, 29
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
own4, own6, gateway = sys.argv[1:4]
kept = {}


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def own(addr):
    return own6 if ":" in addr else own4


def make(kind, addr, port):
    s = socket.socket(family(addr), kind)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    s.bind((addr, port))
    return s


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(src, dst, sport, dport, seq, ack, flags, ttl, payload=b""):
    """One TCP segment in its frame, from whichever address, past this namespace's own stack."""
    tcp = struct.pack("!HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, 5 << 4, flags, 64000, 0, 0) + payload
    if family(src) == socket.AF_INET:
        a, b = socket.inet_aton(src), socket.inet_aton(dst)
        sum_ = checksum(a + b + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 7, 0, ttl, 6, 0, a, b)
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        ethertype = 0x0800
    else:
        a, b = (socket.inet_pton(socket.AF_INET6, x) for x in (src, dst))
        sum_ = checksum(a + b + struct.pack("!II", len(tcp), 6) + tcp)
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, ttl) + a + b
        ethertype = 0x86DD
    tcp = tcp[:16] + struct.pack("!H", sum_) + tcp[18:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("eth0", 0))
        mac = fcntl.ioctl(s, 0x8927, struct.pack("256s", b"eth0"))[18:24]
        s.send(bytes.fromhex(gateway.replace(":", "")) + mac + struct.pack("!H", ethertype) + ip + tcp)


class Wire:
    """The numbers that a connection has reached, as its segments show them."""

    def __init__(self, dst, dport, sport):
        self.next = self.peer = None
        self.want = (dst, dport, sport)
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind(("eth0", 3))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        dst, dport, sport = self.want
        raw = socket.inet_pton(family(dst), dst)
        while True:
            data, meta = self.sock.recvfrom(65536)
            v4 = data[12:14] == b"\x08\0"
            if meta[2] != 4 or len(raw) != (4 if v4 else 16):
                continue
            at = 14 + ((data[14] & 15) * 4 if v4 else 40)
            end = 14 + struct.unpack("!H", data[16:18])[0] if v4 else 54 + struct.unpack("!H", data[18:20])[0]
            if (data[30:34] if v4 else data[38:54]) != raw or struct.unpack("!HH", data[at:at + 4]) != (sport, dport):
                continue
            seq, ack = struct.unpack("!II", data[at + 4:at + 12])
            flags, length = data[at + 13], end - at - (data[at + 12] >> 4) * 4
            if flags & RST:
                continue
            self.next, self.peer = seq + length + bool(flags & SYN), ack


def do_udp(name, dst, dport, sport):
    """One socket that waits for anybody, and one connected to the peer, from the same port."""
    waiting = make(socket.SOCK_DGRAM, own(dst), int(sport))
    connected = make(socket.SOCK_DGRAM, own(dst), int(sport))
    connected.connect((dst, int(dport)))
    kept[name] = connected
    kept[name + "-waiting"] = (waiting, (dst, int(dport)))


def do_talk(name, dst, dport, sport, text):
    """Datagrams all the time: whenever the attachment comes, an answer is on its way."""
    s = make(socket.SOCK_DGRAM, own(dst), int(sport))
    kept[name] = s
    state = kept[name + "-talk"] = {"text": text}

    def run():
        while True:
            try:
                s.sendto(state["text"].encode(), (dst, int(dport)))
            except OSError:
                pass  # what an ICMP error says of the last one
            time.sleep(0.001)

    threading.Thread(target=run, daemon=True).start()


def do_talkof(name, text):
    kept[name + "-talk"]["text"] = text


def do_dial(name, dst, dport, sport):
    """A connection to the peer from a port where a listener waits."""
    listener = make(socket.SOCK_STREAM, own(dst), int(sport))
    listener.listen(8)
    kept[name + "-wire"] = Wire(dst, int(dport), int(sport))
    c = make(socket.SOCK_STREAM, own(dst), int(sport))
    c.settimeout(5)
    c.connect((dst, int(dport)))
    c.sendall(b"hello")
    c.recv(100)
    kept[name], kept[name + "-listener"] = c, listener
    kept[name + "-at"] = (dst, int(dport), int(sport))


def do_reset(name):
    """A RST that only the node's connection tracking sees: it dies at the first hop."""
    time.sleep(0.1)
    dst, dport, sport = kept[name + "-at"]
    wire = kept[name + "-wire"]
    segment(own(dst), dst, sport, dport, wire.next, wire.peer, RST | ACK, 1)


def do_flip(name):
    """The connection once more, begun by the peer as far as the node can tell. The peer hears nothing of it."""
    dst, dport, sport = kept[name + "-at"]
    wire = kept[name + "-wire"]
    mine, theirs = wire.next, wire.peer
    segment(dst, own(dst), dport, sport, theirs - 1, 0, SYN, 2)
    time.sleep(0.05)
    segment(own(dst), dst, sport, dport, mine - 1, theirs, SYN | ACK, 1)
    time.sleep(0.05)
    segment(dst, own(dst), dport, sport, theirs, mine, ACK, 2)


def do_repair(name, local, sport, dst, dport):
    """A socket in the midst of a connection that another pod has."""
    s = socket.socket(family(local), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    s.bind((local, int(sport)))
    s.connect((dst, int(dport)))
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_WINDOW, struct.pack("5I", 0, 60000, 60000, 60000, 0))
    s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
    kept[name] = s


def do_say(name, text):
    """Sends; whether anything hears it is for the receiver to say."""
    for key in (name, name + "-waiting"):
        thing = kept.get(key)
        try:
            if isinstance(thing, tuple):
                thing[0].sendto(text.encode(), thing[1])
            elif thing:
                thing.send(text.encode())
        except OSError:
            pass


for line in sys.stdin:
    word, *args = line.split()
    try:
        globals()["do_" + word](*args)
        print("ok", flush=True)
    except Exception as error:
        print("broken %s: %s" % (type(error).__name__, error), flush=True)
