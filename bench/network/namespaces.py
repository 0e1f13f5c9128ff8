"""Network namespaces without a name, their addresses and TUN devices. Linux; by system calls, without iproute2.

A namespace lives while a descriptor of it is open or a process runs in it: when the process that made it ends, however
it ends, nothing is left.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SUBNET: Final = "10.83.0"
DEVICE: Final = "link0"
MTU: Final = 1500
QUEUE_PACKETS: Final = 10_000
"""Packets that a device holds for its link: more than TCP's windows allow, so that none is dropped."""

_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_IFREQ: Final = "16s24s"
_IFF_UP: Final = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_SIOCSIFMTU: Final = 0x8922
_RTM_SETLINK, _NLM_F_REQUEST, _NLM_F_ACK, _IFLA_TXQLEN = 19, 1, 4, 13
_TUNSETIFF, _TUNSETOFFLOAD = 0x4004_54CA, 0x4004_54D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02

_SETTINGS: Final = {
    "ipv6/conf/all/disable_ipv6": ("1",),  # no chatter of its own
    "ipv4/tcp_no_metrics_save": ("1",),  # a connection does not start with what an earlier one learnt
    "ipv4/tcp_congestion_control": ("cubic", "reno"),  # Linux's default; what every kernel allows in a namespace
}
"""Under /proc/sys/net, with the values to try in turn."""


def address_of(node: int) -> str:
    """The node's IPv4 address inside."""
    return f"{SUBNET}.{node + 1}"


def new_user_namespace() -> None:
    """Become administrator of a user namespace of our own, under the same user and group numbers. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER, "user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", name).write_text(text)


def new_namespace() -> int:
    """Move this process into a new network namespace, lo up, IPv4 only; return its descriptor. Raises OSError."""
    _unshare(_CLONE_NEWNET, "network namespace")
    for name, values in _SETTINGS.items():
        any(_set(name, value) for value in values)
    bring_up("lo")
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This process in another network namespace, and back."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(namespace)
        yield
    finally:
        _setns(before)
        os.close(before)


def open_tun() -> int:
    """A TUN device in this namespace; each read and write is a virtio header and an IP packet. Raises OSError.

    With the header TCP hands over up to 64 KB at once and leaves checksums out, though the MTU is Ethernet's: few
    system calls, and windows that grow as on a real network.
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = struct.pack("=H22x", _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack(_IFREQ, DEVICE.encode(), flags))
    fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return device


def configure(node: int) -> None:
    """Give this namespace's device its address, MTU and queue, and bring it up. Raises OSError."""
    for request, value in ((_SIOCSIFADDR, address_of(node)), (_SIOCSIFNETMASK, "255.255.255.0")):
        _ioctl(request, DEVICE, struct.pack("=HH4s16x", socket.AF_INET, 0, socket.inet_aton(value)))
    _ioctl(_SIOCSIFMTU, DEVICE, struct.pack("=i20x", MTU))
    _set_queue(DEVICE, QUEUE_PACKETS)
    bring_up(DEVICE)


def bring_up(device: str) -> None:
    """`ip link set DEVICE up`."""
    (flags,) = struct.unpack("=H22x", _ioctl(_SIOCGIFFLAGS, device, bytes(24))[16:])
    _ioctl(_SIOCSIFFLAGS, device, struct.pack("=H22x", flags | _IFF_UP))


def _set_queue(device: str, packets: int) -> None:
    # By netlink: the ioctl for it is refused in a user namespace.
    link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(device), 0, 0)
    body = link + struct.pack("=HHI", 8, _IFLA_TXQLEN, packets)
    head = struct.pack("=IHHII", 16 + len(body), _RTM_SETLINK, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as control:
        control.sendto(head + body, (0, 0))
        (status,) = struct.unpack_from("=i", control.recv(4096), 16)
    if status:
        raise OSError(-status, os.strerror(-status), f"queue of {device}")


def _set(name: str, value: str) -> bool:
    """False if this kernel does not have that setting or that value, or does not allow it here."""
    try:
        Path("/proc/sys/net", name).write_text(value)
    except OSError:
        return False
    return True


def _ioctl(request: int, device: str, value: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, struct.pack(_IFREQ, device.encode(), value))


def _unshare(flags: int, what: str) -> None:
    # From Python 3.12 on this is os.unshare.
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"new {what}")


def _setns(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "entering a network namespace")
