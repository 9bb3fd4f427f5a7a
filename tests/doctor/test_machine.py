"""Space, clock and files, as the doctor sees them."""

import asyncio
import struct
from datetime import timedelta

import pytest

from doctor.doctor_kit import levels
from mailbase.doctor import machine

GB = 1 << 30


@pytest.mark.parametrize(("free", "level"), [(0.5, "wrong"), (1, "warning"), (4.9, "warning"), (5, "ok")])
def test_disk(tmp_path, free, level):
    """Less than five gigabytes are too few soon, less than one now."""
    assert machine.disk(tmp_path, lambda _: machine.Space(100 * GB, 0, int(free * GB))).level == level


def test_this_disk(tmp_path):
    """The real disk's free space is said in gigabytes."""
    assert "GB are free" in machine.disk(tmp_path).text


def test_files(tmp_path):
    """A folder that can be used and secrets nobody else can read are well."""
    (tmp_path / "outbox").mkdir()
    secret = tmp_path / "secret.key"
    secret.touch(mode=0o600)
    assert levels(machine.files(tmp_path)) == {"files": "ok"}
    secret.chmod(0o640)
    (found,) = machine.files(tmp_path)
    assert (found.level, found.advice) == ("wrong", f"chmod 600 {secret}")


def test_files_of_somebody_else(tmp_path):
    """Files this user may not use are named, with whom to give them to."""
    (tmp_path / "outbox").mkdir()
    (tmp_path / "secret.key").touch(mode=0o600)
    found = machine.files(tmp_path, may=lambda path, _: path == tmp_path)
    assert levels(found) == {"data_dir": "wrong", "secrets": "wrong"}
    assert all("chown" in one.advice for one in found)


def test_no_folder(tmp_path):
    """Where nothing has ever been started that is said, not raised."""
    assert levels(machine.files(tmp_path / "no")) == {"data_dir": "wrong"}


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, "ok"), (-5, "ok"), (5.1, "warning"), (-299, "warning"), (301, "wrong"), (-3600, "wrong")]
)
def test_clock(seconds, level):
    """A few seconds are nothing, minutes break signatures; either way round."""
    found = machine.clock("PostgreSQL's clock", timedelta(seconds=seconds))
    assert found.level == level
    assert level == "ok" or ("ahead" in found.text) == (seconds > 0)


class TimeServer(asyncio.DatagramProtocol):
    """A time server an hour ahead, or one that answers ``data``."""

    def __init__(self, data=None):
        self.data = data

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        assert len(data) == 48
        assert data[0] & 7 == 3
        now = 1_000_000 + 3600 + machine.EPOCH_1900
        answer = struct.pack("!BB30xIIII", 0x24, 2, now, 0, now + 1, 1 << 31)
        self.transport.sendto(answer if self.data is None else self.data, addr)


@pytest.fixture
async def time_server():
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(TimeServer, local_addr=("127.0.0.1", 0))
    yield server, transport.get_extra_info("sockname")[:2]
    transport.close()


async def test_network_time(time_server):
    """A time server's answer is read to the fraction, its own time between arrival and answer taken off."""
    clock = iter([1_000_000.0, 1_000_002.5])
    offset = await machine.network_offset(time_server[1], now=lambda: next(clock))
    assert offset == timedelta(seconds=3599.5)


@pytest.mark.parametrize("data", [b"\x24", b"\x24\x00" + bytes(46), b"\x1b\x02" + bytes(46), b"\xf0\x01not the time"])
async def test_network_time_nonsense(time_server, data):
    """An answer that is none, or of a server that does not know the time itself, says nothing."""
    time_server[0].data = data
    assert await machine.network_offset(time_server[1]) is None


async def test_no_network_time():
    """A time server that cannot be reached or does not answer is no finding against the machine."""
    loop = asyncio.get_running_loop()
    silent, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    address = silent.get_extra_info("sockname")[:2]
    assert await machine.network_offset(address, patience=0.1) is None
    silent.close()
    assert await machine.network_offset(("no-such-host.invalid", 123), patience=2) is None
    assert machine.unknown_clock("the clock of nobody").level == "ok"
