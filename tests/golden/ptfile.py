"""ptfile.py - archives and pickles in the form of torch.save, byte by byte, with any fault wanted.

Used by make_pt.py for what PyTorch itself would not write: newer versions' files, zip64, and
files that must be refused.
"""
import struct
import zlib


class Entry:
    """One record. Fields that are None follow from the data; the others are written as given."""

    def __init__(self, name, data, method=0, flags=0x0808, packed=None, crc=None, size=None,
                 packed_size=None, local_name=None, header=None, disk=0, zip64=False, comment=b"",
                 before=b"", attributes=0):
        self.name, self.data, self.method, self.flags = name.encode(), data, method, flags
        self.packed = data if packed is None else packed
        self.crc = zlib.crc32(data) if crc is None else crc
        self.size = len(data) if size is None else size
        self.packed_size = len(self.packed) if packed_size is None else packed_size
        self.local_name = self.name if local_name is None else local_name.encode()
        self.header, self.disk, self.zip64 = header, disk, zip64
        self.comment, self.before, self.attributes = comment, before, attributes


def archive(entries, align=64, count=None, comment=b"", zip64_end=True, disk=0, locator=None):
    """The bytes of an archive as torch's writer lays it out: aligned data, descriptors, zip64 end."""
    out, central = b"", b""
    for e in entries:
        out += e.before
        header = len(out)
        extra = b""
        if e.zip64:
            extra += struct.pack("<HHQQ", 1, 16, 0 if e.flags & 8 else e.size,
                                 0 if e.flags & 8 else e.packed_size)
        start = header + 30 + len(e.local_name) + len(extra) + 4
        pad = -start % align
        extra += b"FB" + struct.pack("<H", pad) + b"Z" * pad
        later = e.flags & 8
        sizes = (0xFFFFFFFF,) * 2 if e.zip64 else (0, 0) if later else (e.packed_size, e.size)
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 0, e.flags, e.method, 0, 0,
                           0 if later else e.crc, *sizes, len(e.local_name), len(extra))
        out += e.local_name + extra + e.packed
        if later:
            out += struct.pack("<IIQQ" if e.zip64 else "<IIII", 0x08074B50, e.crc, e.packed_size,
                               e.size)
        at = header if e.header is None else e.header
        cextra, fields = b"", (e.packed_size, e.size, at)
        if e.zip64:
            cextra = struct.pack("<HHQQQ", 1, 24, e.size, e.packed_size, at)
            fields = (0xFFFFFFFF,) * 3
        central += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 0, 0, e.flags, e.method, 0, 0,
                               e.crc, fields[0], fields[1], len(e.name), len(cextra),
                               len(e.comment), e.disk, 0, e.attributes, fields[2])
        central += e.name + cextra + e.comment
    at = len(out)
    n = len(entries) if count is None else count
    out += central
    if zip64_end:
        end64 = len(out) if locator is None else locator
        out += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, n, n, len(central), at)
        out += struct.pack("<IIQI", 0x07064B50, 0, end64, 1)
    out += struct.pack("<IHHHHIIH", 0x06054B50, disk, disk, n, n, len(central), at, len(comment))
    return out + comment


# ---- pickle, protocol 2 ------------------------------------------------------------------------

def string(s):
    b = s.encode()
    return b"X" + struct.pack("<I", len(b)) + b


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def integer(i):
    if 0 <= i < 256:
        return b"K" + bytes([i])
    n = (i.bit_length() + 8) // 8
    return b"\x8a" + bytes([n]) + i.to_bytes(n, "little", signed=True)


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def ints(values):
    return tup(*[integer(v) for v in values])


def storage(cls="FloatStorage", key="0", location="cpu", numel=6, module="torch"):
    return tup(string("storage"), glob(module, cls), string(key), string(location),
               integer(numel)) + b"Q"


ORDERED_DICT = glob("collections", "OrderedDict") + b")R"
TRUE, FALSE, NONE = b"\x88", b"\x89", b"N"


def tensor(store=None, offset=0, size=(2, 3), stride=(3, 1), fn="_rebuild_tensor_v2", grad=FALSE,
           hooks=ORDERED_DICT, more=(), module="torch._utils"):
    return (glob(module, fn) + tup(store or storage(), integer(offset), ints(size), ints(stride),
                                   grad, hooks, *more) + b"R")


def mapping(**entries):
    return pairs(*[(string(k), v) for k, v in entries.items()])


def pairs(*entries):
    return b"}(" + b"".join(k + v for k, v in entries) + b"u"


def pickled(value):
    return b"\x80\x02" + value + b"."


SIX = struct.pack("<6f", 1, 2, 3, 4, 5, 6)


def pt(value, data=(SIX,), root="a", extra=(), **knobs):
    """A whole file around the pickled value, with data/0, data/1, ..."""
    entries = [Entry(f"{root}/data.pkl", pickled(value)), Entry(f"{root}/byteorder", b"little")]
    entries += [Entry(f"{root}/data/{i}", d) for i, d in enumerate(data)]
    entries += [Entry(f"{root}/version", b"3\n"), *extra]
    return archive(entries, **knobs)
