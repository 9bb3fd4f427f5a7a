"""Eight RSA signatures at once, on processors with AVX-512 IFMA: less than half the time of eight in a row.

The arithmetic is Intel's Cryptography Primitives Library (``libcrypto_mb``, constant in time by design), called through ctypes. Where
the library, the processor or the key does not allow it, ``Eightfold.of`` is None and signing is OpenSSL's alone. PKCS #1 v1.5
(RFC 8017 § 9.2) is deterministic, so both give the same bytes.

Every signature is checked with the public key before anybody sees it: one that a fault in half of the CRT spoilt would give the
private key away (Boneh, DeMillo, Lipton 1997). OpenSSL does the same inside; the library does not.
"""

import ctypes
import hashlib
import logging
import os
import platform
import struct
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import Final, Self

from mailbase.sending.signing.keys import PrivateKey

log = logging.getLogger(__name__)

LANES: Final = 8
WORTH: Final = 4
"""From so many letters on, one call with lanes left over is cheaper than OpenSSL's signatures one by one."""
PACKAGE: Final = "ipp-crypto"
LIBRARY: Final = "libcrypto_mb.so"
METHODS: Final = {1024: "1K", 2048: "2K", 4096: "4K"}
"""By bits of the key. With 3072 eight at once take as long as eight in a row."""
EXPONENT: Final = 65537
DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""What stands before a SHA-256 digest in PKCS #1 v1.5 (RFC 8017 § 9.2, note 1)."""
NOT_CALLED: Final = ("libsvml.so", "libirng.so", "libimf.so", "libintlc.so.5")
"""Run-time libraries of Intel's compiler that ``libcrypto_mb`` names as needed and takes no symbol from (``nm -D``)."""


class Eightfold:
    """One key, ready for eight signatures at a time. For one thread: its buffers are kept from call to call."""

    def __init__(self, library: ctypes.CDLL, key: PrivateKey) -> None:
        size = key.key_size // 8
        numbers = key.private_numbers()
        public = numbers.public_numbers
        self._size = size
        self._library = library
        self._head = b"\x00\x01" + b"\xff" * (size - 3 - len(DIGEST_INFO) - 32) + b"\x00" + DIGEST_INFO
        self._encoded, self._signed, self._opened = (ctypes.create_string_buffer(LANES * size) for _ in range(3))
        for lane in range(LANES):
            ctypes.memmove(ctypes.addressof(self._encoded) + lane * size, self._head, len(self._head))
        name = METHODS[key.key_size]
        sign, verify = (_method(library, f"mbx_RSA{name}_{kind}_Method") for kind in ("private_crt", "pub65537"))
        room = max(library.mbx_RSA_Method_BufSize(method) for method in (sign, verify))
        work = ctypes.create_string_buffer(room)
        encoded, signed, opened = (_lanes(buffer, size) for buffer in (self._encoded, self._signed, self._opened))
        parts = [_same(value, size // 2) for value in (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)]
        modulus = _same(public.n, size)
        bits = ctypes.c_int(key.key_size)
        self._sign = (encoded, signed, *parts, bits, sign, work)
        self._verify = (signed, opened, modulus, bits, verify, work)

    @classmethod
    def of(cls, key: PrivateKey) -> Self | None:
        """Return the key made ready, or None where only OpenSSL can sign with it."""
        library = load()
        if library is None or key.key_size not in METHODS or key.public_key().public_numbers().e != EXPONENT:
            return None
        return cls(library, key)

    def sign(self, texts: Sequence[bytes]) -> list[bytes] | None:
        """Return the RSA-SHA256 signatures of up to eight texts, in their order; None if a single one does not verify."""
        size = self._size
        start, head = ctypes.addressof(self._encoded), len(self._head)
        for lane, text in enumerate(texts):
            ctypes.memmove(start + lane * size + head, hashlib.sha256(text).digest(), 32)
        if (
            self._library.mbx_rsa_private_crt_mb8(*self._sign)
            or self._library.mbx_rsa_public_mb8(*self._verify)
            or self._opened.raw != self._encoded.raw
        ):
            return None
        signed = self._signed.raw
        return [signed[lane * size : (lane + 1) * size] for lane in range(len(texts))]


def _method(library: ctypes.CDLL, name: str) -> ctypes.c_void_p:
    function = getattr(library, name)
    function.restype = ctypes.c_void_p
    return ctypes.c_void_p(function())


def _lanes(buffer: ctypes.Array[ctypes.c_char], size: int) -> ctypes.Array[ctypes.c_void_p]:
    start = ctypes.addressof(buffer)
    return (ctypes.c_void_p * LANES)(*[start + lane * size for lane in range(LANES)])


def _same(number: int, size: int) -> ctypes.Array[ctypes.c_void_p]:
    """One number for every lane, as little-endian words. The array of pointers keeps nothing alive: its buffer hangs on it."""
    buffer = ctypes.create_string_buffer(number.to_bytes(size, "little"), size)
    pointers = (ctypes.c_void_p * LANES)(*[ctypes.addressof(buffer)] * LANES)
    pointers.number = buffer  # type: ignore[attr-defined]
    return pointers


@cache
def load() -> ctypes.CDLL | None:
    """Return the library, or None where this machine has none it could use. Loaded once a process."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        files = metadata.files(PACKAGE) or []
        path = next(str(file.locate()) for file in files if file.name == LIBRARY)
        _open_empty(NOT_CALLED)
        library = ctypes.CDLL(path)
        library.mbx_is_crypto_mb_applicable.argtypes = [ctypes.c_uint64]
        if not library.mbx_is_crypto_mb_applicable(0):
            return None
        library.mbx_RSA_Method_BufSize.argtypes = [ctypes.c_void_p]
        library.mbx_rsa_private_crt_mb8.restype = library.mbx_rsa_public_mb8.restype = ctypes.c_uint32
    except (metadata.PackageNotFoundError, StopIteration, OSError, AttributeError) as error:
        log.info("signing one by one: %s", str(error) or f"no {LIBRARY}")
        return None
    return library


def _open_empty(names: Sequence[str]) -> None:
    """Load libraries of these names with nothing in them: the linker then has what it looks for, without 130 MB nobody calls."""
    opened: list[int] = []
    try:
        for name in names:
            # All stay open meanwhile: the linker knows what it loaded by its path, and a closed number would be given out again.
            opened.append(os.memfd_create(name))
            os.write(opened[-1], empty(name))
        for memory in opened:
            ctypes.CDLL(f"/proc/self/fd/{memory}")
    finally:
        for memory in opened:
            os.close(memory)


def empty(name: str) -> bytes:
    """Return an ELF shared object (System V ABI, x86-64) that has a name and no symbols."""
    names = b"\0" + name.encode() + b"\0"
    names += b"\0" * (-len(names) % 8)
    at_names = 64 + 2 * 56
    at_symbols = at_names + len(names)
    at_dynamic = at_symbols + 24
    tags = [(14, 1), (5, at_names), (6, at_symbols), (10, len(names)), (11, 24), (0, 0)]
    """DT_SONAME, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_NULL."""
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    end = at_dynamic + len(dynamic)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )  # ET_DYN, EM_X86_64
    load_all = struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, end, end, 4096)  # PT_LOAD, readable and writable
    point = struct.pack(
        "<IIQQQQQQ", 2, 6, at_dynamic, at_dynamic, at_dynamic, len(dynamic), len(dynamic), 8
    )  # PT_DYNAMIC
    return header + load_all + point + names + b"\0" * 24 + dynamic
