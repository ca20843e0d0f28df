"""What attacks do inside a network namespace, and what stands in others and sees what arrives. One JSON request a line
on stdin, one reply a line on stdout, side by side, as probe.py has it.
"""
import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
import threading
import time
import traceback

SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_QDISC_BYPASS = 20
SO_RCVBUFFORCE = 33
OUTGOING = 4
out_lock = threading.Lock()


# --- what arrives


class Watch:
    """Every frame that comes in at a device."""

    def __init__(self, device):
        self.device = device
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.sock.bind((device, 3))
        self.frames = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            data, meta = self.sock.recvfrom(70000)
            if meta[2] != OUTGOING:
                self.frames.append(data)


class Taken(Watch):
    """What the namespace's own stack takes for itself, of an IP protocol, past its filters and hooks."""

    def __init__(self, family, protocol):
        self.device = "own stack"
        self.sock = socket.socket(family, socket.SOCK_RAW, protocol)
        self.frames = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            self.frames.append(self.sock.recv(70000))


class Heard(Watch):
    """What the namespace's own stack hands to a UDP port."""

    def __init__(self, port):
        self.device = "port %d" % port
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.sock.bind(("::", port))
        self.frames = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            self.frames.append(self.sock.recv(70000))


watches = []


def op_watch(devices=(), protocols=(), ports=()):
    watches.extend(Watch(device) for device in devices)
    for family in (socket.AF_INET, socket.AF_INET6):
        watches.extend(Taken(family, protocol) for protocol in protocols)
    watches.extend(Heard(port) for port in ports)
    return {}


def op_find(markers, examples=20):
    """What carries one of the markers: for each how many bytes, and a few of the frames."""
    found = []
    wanted = [(m, bytes.fromhex(m)) for m in markers]
    for watch in watches:
        # Joined, so that a marker that is nowhere costs one search.
        frames = list(watch.frames)
        whole = b"".join(frames)
        for text, marker in wanted:
            if marker not in whole:
                continue
            hits = [frame for frame in frames if marker in frame]
            shown = [frame[:512].hex() for frame in hits[:examples]]
            total = sum(len(frame) for frame in hits)
            found.append({"marker": text, "device": watch.device, "bytes": total, "frames": shown})
    return {"found": found}


def op_forget():
    for watch in watches:
        watch.frames = []
    return {}


# --- what is sent


def packet_socket(device, bypass=False, vnet=False):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    if bypass:
        sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    if vnet:
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.bind((device, 0))
    return sock


def op_send(frames, device="eth0", bypass=False, vnet=False, pause=0, rounds=1):
    """Whole frames, past the namespace's own stack; with `vnet` each begins with a struct virtio_net_hdr."""
    refused = 0
    with packet_socket(device, bypass, vnet) as sock:
        data = [bytes.fromhex(frame) for frame in frames]
        for _ in range(rounds):
            for frame in data:
                try:
                    sock.send(frame)
                except OSError:
                    refused += 1
                if pause:
                    time.sleep(pause)
    return {"refused": refused}


class Stream:
    """The same frames again and again until stopped."""

    def __init__(self, frames, device, pause):
        self.data = [bytes.fromhex(frame) for frame in frames]
        self.running = True
        self.sent = 0
        self.sock = packet_socket(device)
        self.pause = pause
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.running:
            for frame in self.data:
                try:
                    self.sock.send(frame)
                    self.sent += 1
                except OSError:
                    pass
            if self.pause:
                time.sleep(self.pause)


streams = {}


def op_stream(name, frames, device="eth0", pause=0.001):
    streams[name] = Stream(frames, device, pause)
    return {}


def op_stop(name):
    stream = streams.pop(name, None)
    if not stream:
        return {"sent": 0}
    stream.running = False
    stream.thread.join(5)
    stream.sock.close()
    return {"sent": stream.sent}


# Sockets and whatever else outlives one program of an attack, by name.
kept = {}


def op_program(code, **values):
    """The attacker's own program; what it leaves in `result` is the answer."""
    scope = {"kept": kept, "result": None, "packet_socket": packet_socket, **values}
    for module in (ctypes, errno, os, select, socket, struct, threading, time):
        scope[module.__name__] = module
    exec(compile(code, "program", "exec"), scope)
    return {"value": scope["result"]}


def handle_line(line):
    request = json.loads(line)
    number, name = request.pop("id"), request.pop("op")
    reply = {"id": number, "result": "ok"}
    try:
        reply.update(globals()["op_" + name](**request))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1].lineno
        reply.update({"result": "broken", "error": "%s: %s (line %s)" % (type(error).__name__, error, where)})
    with out_lock:
        print(json.dumps(reply), flush=True)


for request_line in sys.stdin:
    threading.Thread(target=handle_line, args=(request_line,), daemon=True).start()
