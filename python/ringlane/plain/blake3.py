"""BLAKE3 in plain Python, from its specification: slow, for small payloads and as an oracle."""

from __future__ import annotations

import struct

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_CHUNK_BYTES, _BLOCK_BYTES = 1024, 64
_MASK = 0xFFFFFFFF
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))

_Words = tuple[int, ...]


def _compress(value: _Words, block: _Words, counter: int, length: int, flags: int) -> _Words:
    v = [*value, *_IV[:4], counter & _MASK, counter >> 32, length, flags]
    words = block
    for _ in range(7):
        for at, (a, b, c, d) in enumerate(_COLUMNS + _DIAGONALS):
            for word, right, left in ((words[2 * at], 16, 12), (words[2 * at + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & _MASK
                x = v[d] ^ v[a]
                v[d] = (x >> right | x << (32 - right)) & _MASK
                v[c] = (v[c] + v[d]) & _MASK
                x = v[b] ^ v[c]
                v[b] = (x >> left | x << (32 - left)) & _MASK
        words = tuple(words[place] for place in _PERMUTATION)
    return tuple(v[at] ^ v[at + 8] for at in range(8))


def _chunk(data: bytes, counter: int, root: int) -> _Words:
    value: _Words = _IV
    last = max(0, (len(data) - 1) // _BLOCK_BYTES)
    for at in range(last + 1):
        block = data[at * _BLOCK_BYTES : (at + 1) * _BLOCK_BYTES]
        flags = (_CHUNK_START if at == 0 else 0) | (_CHUNK_END | root if at == last else 0)
        words = struct.unpack("<16I", block.ljust(_BLOCK_BYTES, b"\0"))
        value = _compress(value, words, counter, len(block), flags)
    return value


def _tree(data: bytes, counter: int, root: int) -> _Words:
    if len(data) <= _CHUNK_BYTES:
        return _chunk(data, counter, root)
    chunks = -(-len(data) // _CHUNK_BYTES)
    left = 1 << (chunks - 1).bit_length() - 1  # the largest power of two below
    cut = left * _CHUNK_BYTES
    words = _tree(data[:cut], counter, 0) + _tree(data[cut:], counter + left, 0)
    return _compress(_IV, words, 0, _BLOCK_BYTES, _PARENT | root)


def blake3(data: bytes | bytearray | memoryview) -> bytes:
    """The digest, 32 bytes.

    >>> blake3(b"abc").hex()[:16]
    '6437b3ac38465133'
    """
    return struct.pack("<8I", *_tree(bytes(data), 0, _ROOT))
