"""CRC-32C (Castagnoli) of bytes, on NumPy where it is there: the server's own, independent of ours."""
try:
    import numpy as np
except ImportError:
    np = None

TABLE = []
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = _c >> 1 ^ (0x82f63b78 if _c & 1 else 0)
    TABLE.append(_c)


def _times(matrix, v):
    r = 0
    for row in matrix:
        if v & 1:
            r ^= row
        v >>= 1
        if not v:
            break
    return r


_ZEROS = {}


def _zeros(n):
    """The 32 columns of "n zero bytes follow"."""
    if n in _ZEROS:
        return _ZEROS[n]
    one = [TABLE[1 << i] if i < 8 else (1 << i) >> 8 for i in range(32)]
    total, power, k = [1 << i for i in range(32)], one, n
    while k:
        if k & 1:
            total = [_times(power, row) for row in total]
        power = [_times(power, row) for row in power]
        k >>= 1
    if len(_ZEROS) < 1000:
        _ZEROS[n] = total
    return total


def _raw_small(data, crc=0):
    for b in data:
        crc = TABLE[(crc ^ b) & 255] ^ crc >> 8
    return crc


STEP, BLOCK = 512, 32 << 20


def _raw_block(data):
    lanes = 1
    while lanes * STEP < len(data):
        lanes *= 2
    padded = np.zeros(lanes * STEP, np.uint8)
    padded[lanes * STEP - len(data):] = np.frombuffer(data, np.uint8)
    columns = np.ascontiguousarray(padded.reshape(lanes, STEP).T)
    table = np.array(TABLE, np.uint32)
    crc = np.zeros(lanes, np.uint32)
    for column in columns:
        crc = table[(crc ^ column) & np.uint32(255)] ^ (crc >> np.uint32(8))
    length = STEP
    while len(crc) > 1:
        matrix = _zeros(length)
        shifted = np.zeros(len(crc) // 2, np.uint32)
        for bit in range(32):
            shifted ^= np.where(crc[0::2] >> np.uint32(bit) & np.uint32(1), np.uint32(matrix[bit]),
                                np.uint32(0)).astype(np.uint32)
        crc = shifted ^ crc[1::2]
        length *= 2
    return int(crc[0])


def crc32c(data):
    raw = 0
    if np is None or len(data) < 4096:
        return _raw_small(data, 0xffffffff) ^ 0xffffffff
    for at in range(0, len(data), BLOCK):
        piece = data[at:at + BLOCK]
        raw = _times(_zeros(len(piece)), raw) ^ _raw_block(piece)
    return raw ^ _times(_zeros(len(data)), 0xffffffff) ^ 0xffffffff


if __name__ == "__main__":
    import random
    assert crc32c(b"123456789") == 0xe3069283
    d = random.Random(1).randbytes(300001)
    assert crc32c(d) == _raw_small(d, 0xffffffff) ^ 0xffffffff
    print("ok")
