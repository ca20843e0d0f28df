#!/usr/bin/env python3
"""Makes the seeds of the packet fuzzer: real traffic between two network namespaces, as it leaves the first of them.

    python3 test/fuzz/capture.py > test/fuzz/captures.hex        (as root)

What the kernel's own stack sends, recorded by AF_PACKET: TCP, UDP, UDP-Lite, SCTP, ICMP, IGMP, MLD, neighbour discovery, GRE, IPIP,
ESP, fragments, IP options, extension headers, VLAN tags. One frame a line: `name hex`. What this kernel does not have is told on stderr
and left out.
"""
import ctypes
import os
import socket
import struct
import subprocess
import sys
import time

POD, PEER = "fuzz-pod", "fuzz-peer"
POD4, POD6 = "10.244.0.1", "fd00::1"
# Some of these are allowed by the policy that the fuzzer loads, some are not.
PEERS4 = ["10.1.2.3", "10.200.1.1", "172.16.5.5", "192.0.2.1"]
PEERS6 = ["2001:db8::5", "2001:db8:8000::5", "2001:db8:c000::5"]
ETH_P_ALL = 3
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_AUXDATA = 263, 8
UDPLITE = 136

libc = ctypes.CDLL("libc.so.6", use_errno=True)


def ip(args, check=True):
    done = subprocess.run(["ip"] + args.split(), stderr=subprocess.PIPE, text=True)
    if done.returncode and check:
        raise OSError("ip %s: %s" % (args, done.stderr.strip()))
    return done.returncode == 0


def enter(name):
    with open("/run/netns/" + name) as space:
        if libc.setns(space.fileno(), 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")


def make():
    clean()
    for name in (POD, PEER):
        ip("netns add " + name)
        ip("-n %s link set lo up" % name)
    ip("-n %s link add eth0 type veth peer name eth0 netns %s" % (POD, PEER))
    for name in (POD, PEER):
        # The frames as a wire would have them: cut, with their checksums and tags.
        subprocess.run(["nsenter", "--net=/run/netns/" + name, "ethtool", "-K", "eth0"]
                       + "tx off tso off gso off gro off".split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ip("-n %s link set eth0 address 02:00:00:00:00:0%d" % (name, 1 if name == POD else 2))
        ip("-n %s link set eth0 up" % name)
    ip("-n %s addr add %s/24 dev eth0" % (POD, POD4))
    ip("-n %s addr add %s/64 dev eth0 nodad" % (POD, POD6))
    ip("-n %s addr add 10.244.0.254/24 dev eth0" % PEER)
    ip("-n %s addr add fd00::fe/64 dev eth0 nodad" % PEER)
    for address in PEERS4:
        ip("-n %s addr add %s/32 dev lo" % (PEER, address))
    for address in PEERS6:
        ip("-n %s addr add %s/128 dev lo nodad" % (PEER, address))
    ip("-n %s route add default via 10.244.0.254" % POD)
    ip("-n %s -6 route add default via fd00::fe" % POD)


def clean():
    for name in (POD, PEER):
        ip("netns del " + name, check=False)


class Recorder:
    """What leaves the pod, one list until taken."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.bind(("eth0", ETH_P_ALL))
        self.sock.settimeout(0.15)

    def take(self):
        frames = []
        while True:
            try:
                data, extra, _, meta = self.sock.recvmsg(65536, 256)
            except TimeoutError:
                return frames
            if meta[2] != PACKET_OUTGOING:
                continue
            for level, kind, value in extra:
                if level == SOL_PACKET and kind == PACKET_AUXDATA:
                    status, tci, tpid = struct.unpack("=I12xHH", value[:20])
                    # A tag that the kernel keeps beside the frame goes where it stands on a wire.
                    if status & 0x10:
                        data = data[:12] + struct.pack("!HH", tpid if status & 0x40 else 0x8100, tci) + data[12:]
            frames.append(data)


def serve(sock):
    sock.listen(8)
    pid = os.fork()
    if pid == 0:
        while True:
            connection, _ = sock.accept()
            data = connection.recv(65536)
            if data:
                connection.sendall(data)
            connection.close()
    return pid


def stream(family, proto, to, port, size=64, options=()):
    with socket.socket(family, socket.SOCK_STREAM, proto) as sock:
        sock.settimeout(1)
        for option in options:
            sock.setsockopt(*option)
        sock.connect((to, port))
        sock.sendall(b"a" * size)
        sock.recv(65536)


def datagram(family, to, port, size, options=(), proto=0):
    with socket.socket(family, socket.SOCK_DGRAM, proto) as sock:
        for option in options:
            sock.setsockopt(*option)
        sock.sendto(b"u" * size, (to, port))


def echo(family, to, size):
    proto = 1 if family == socket.AF_INET else 58
    with socket.socket(family, socket.SOCK_DGRAM, proto) as sock:
        sock.sendto(struct.pack("!BBHHH", 8 if proto == 1 else 128, 0, 0, 7, 1) + b"e" * size, (to, 0))


def raw(family, proto, to, payload):
    with socket.socket(family, socket.SOCK_RAW, proto) as sock:
        sock.sendto(payload, (to, 0))


def main():
    v4, v6 = socket.AF_INET, socket.AF_INET6
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    servers = []
    make()
    try:
        enter(PEER)
        for family, proto in ((v4, 6), (v6, 6), (v4, 132), (v6, 132)):
            try:
                sock = socket.socket(family, socket.SOCK_STREAM, proto)
                if family == v6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("", 443))
                servers.append(serve(sock))
            except OSError as error:
                print("server of protocol %d: %s" % (proto, error), file=sys.stderr)
        enter(POD)
        with open("/proc/sys/net/ipv4/ping_group_range", "w") as groups:
            groups.write("0 2147483647")
        recorder = Recorder()
        time.sleep(0.2)

        def record(name, act):
            recorder.take()
            try:
                act()
            except OSError as error:
                print("%s: %s" % (name, error), file=sys.stderr)
            frames = recorder.take()
            if not frames:
                print("%s: nothing was sent" % name, file=sys.stderr)
            seen = set()
            for frame in frames:
                if frame[12:] not in seen:
                    print(name, frame.hex())
                seen.add(frame[12:])

        for to in PEERS4:
            record("tcp4", lambda: stream(v4, 6, to, 443))
            record("udp4", lambda: datagram(v4, to, 20000, 40))
            record("icmp4", lambda: echo(v4, to, 56))
        for to in PEERS6:
            record("tcp6", lambda: stream(v6, 6, to, 443))
            record("udp6", lambda: datagram(v6, to, 443, 40))
            record("icmp6", lambda: echo(v6, to, 56))
        record("tcp4-reset", lambda: stream(v4, 6, PEERS4[0], 9))
        for family, to in ((v4, PEERS4[0]), (v6, PEERS6[0])):
            six = "6" if family == v6 else "4"
            if len(servers) == 4:
                record("sctp" + six, lambda: stream(family, 132, to, 443))
            else:
                # A chunk INIT by hand, in the kernel's own IP packet.
                chunk = struct.pack("!HHII BBHIIHHI", 4000, 443, 0, 0, 1, 0, 20, 7, 65536, 1, 1, 7)
                record("sctp%s-raw" % six, lambda: raw(family, 132, to, chunk))
            record("udplite" + six, lambda: datagram(family, to, 443, 40, proto=UDPLITE))
            record("fragments" + six, lambda: datagram(family, to, 20000 if family == v4 else 443, 3000))
            record("icmp-fragments" + six, lambda: echo(family, to, 3000))
        option = lambda data: [(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes(data))]
        record("options-nop", lambda: datagram(v4, PEERS4[0], 20000, 40, option([1] * 40)))
        record("options-record-route", lambda: datagram(v4, PEERS4[0], 20000, 40, option([7, 39, 4] + [0] * 36 + [0])))
        record("options-timestamp", lambda: datagram(v4, PEERS4[0], 20000, 40, option([68, 36, 5, 0] + [0] * 32)))
        route = [137, 7, 4] + [int(n) for n in "10.244.0.254".split(".")] + [0]
        record("options-source-route", lambda: datagram(v4, PEERS4[0], 20000, 40, option(route)))
        record("options-alert", lambda: datagram(v4, PEERS4[0], 20000, 40, option([148, 4, 0, 0])))
        record("options-tcp", lambda: stream(v4, 6, PEERS4[0], 443, 64, option([1, 1, 1, 0])))
        pad = bytes([0, 0, 1, 4, 0, 0, 0, 0])
        longer = bytes([0, 2, 1, 20]) + bytes(20)
        six = socket.IPPROTO_IPV6
        hop, destination, routing = socket.IPV6_HOPOPTS, socket.IPV6_DSTOPTS, socket.IPV6_RTHDR
        record("hop-by-hop", lambda: datagram(v6, PEERS6[0], 443, 40, [(six, hop, pad)]))
        record("destination-options", lambda: datagram(v6, PEERS6[0], 443, 40, [(six, destination, longer)]))
        both = [(six, hop, longer), (six, destination, pad)]
        record("two-headers", lambda: datagram(v6, PEERS6[0], 443, 40, both))
        record("two-headers-tcp", lambda: stream(v6, 6, PEERS6[1], 443, 64, both))
        record("headers-fragments", lambda: datagram(v6, PEERS6[0], 443, 3000, both))
        segments = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + socket.inet_pton(v6, "fd00::fe")
        record("segment-routing", lambda: datagram(v6, PEERS6[0], 443, 40, [(six, routing, segments)]))
        record("gre4", lambda: raw(v4, 47, PEERS4[0], struct.pack("!HH", 0, 0x800) + b"g" * 40))
        record("esp4", lambda: raw(v4, 50, PEERS4[0], b"s" * 60))
        record("esp6", lambda: raw(v6, 50, PEERS6[0], b"s" * 60))
        record("ipip", lambda: raw(v4, 4, PEERS4[0], b"\x45" + b"i" * 60))
        record("unreachable4", lambda: raw(v4, 1, PEERS4[0], bytes([3, 3, 0, 0, 0, 0, 0, 0]) + b"\x45" + bytes(27)))
        record("igmp-mld", lambda: [
            datagram(v4, "224.0.0.9", 20000, 8, [(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.9") + bytes(4))]),
            datagram(v6, "ff02::99", 443, 8, [(six, socket.IPV6_JOIN_GROUP, socket.inet_pton(v6, "ff02::99") + struct.pack(
                "@I", socket.if_nametoindex("eth0"))), (six, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("eth0"))]),
        ])
        ip("-n %s neigh flush all" % POD)
        record("neighbours", lambda: [datagram(v4, PEERS4[0], 20000, 4), datagram(v6, PEERS6[0], 443, 4)])
        record("broadcast", lambda: datagram(v4, "255.255.255.255", 67, 30, [(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)]))
        if ip("link add link eth0 name eth0.7 type vlan id 7", check=False):
            ip("addr add 10.244.7.1/24 dev eth0.7")
            ip("link set eth0.7 up")
            ip("neigh add 10.244.7.2 lladdr 02:00:00:00:00:02 dev eth0.7")
            ip("-6 neigh add fd00:7::2 lladdr 02:00:00:00:00:02 dev eth0.7")
            for to in PEERS4[:2]:
                ip("route add %s/32 via 10.244.7.2 src %s" % (to, POD4))
            record("vlan-udp4", lambda: datagram(v4, PEERS4[0], 20000, 40))
            record("vlan-tcp4", lambda: [datagram(v4, PEERS4[1], 20000, 40)])
            ip("-6 route add %s/128 via fd00:7::2 dev eth0.7 src %s onlink" % (PEERS6[0], POD6), check=False)
            record("vlan-udp6", lambda: datagram(v6, PEERS6[0], 443, 40))
        else:
            print("vlan: this kernel has no such device", file=sys.stderr)
    finally:
        libc.setns(own, 0x40000000)
        for pid in servers:
            os.kill(pid, 9)
        clean()


main()
