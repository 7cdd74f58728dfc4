"""ops.py - a pickle as a list of opcodes, and changes to it that mostly leave a pickle.

The opcodes are run without values, so that it is known which run of them makes which value on the
stack (a span), and where the pairs of a dict are. A change takes, copies, wraps, doubles or alters
such runs; a few are blind.
"""
import pickletools
import struct

from ptfile import FALSE, NONE, ORDERED_DICT, TRUE, glob, integer, ints, string, tensor, storage, tup

KEYS = ["bias", "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias", "jump", "r_mag",
        "state_dict", "model", "step", "0", "1", "2", "3", "cpu", "cuda:0", "meta", "storage", "data",
        "_metadata", "", "k"]
NAMES = [("torch", c + "Storage") for c in ("Float", "Half", "BFloat16", "Double", "Long", "Byte",
                                            "ComplexFloat", "QInt8", "Untyped")] + \
        [("torch.storage", "UntypedStorage"), ("torch.cuda", "FloatStorage"), ("x", "FloatStorage"),
         ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
         ("torch._utils", "_rebuild_tensor"), ("collections", "OrderedDict"), ("os", "system"),
         ("torch", "float32"), ("torch", "float16"), ("builtins", "getattr"), ("builtins", "list"),
         ("torch.nn.parameter", "Parameter"), ("my.module", "Thing"), ("collections", "Counter")]
INTS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 24, -1, 255, 65535, 2**31 - 1, 2**62, 2**63 - 1, 2**70]


class Pickle:
    def __init__(self, data):
        marks = [(o.name, arg, at) for o, arg, at in pickletools.genops(data)]
        ends = [at for _, _, at in marks[1:]] + [len(data)]
        self.ops = [(name, arg, data[at:end]) for (name, arg, at), end in zip(marks, ends)]
        self.ops = [op for op in self.ops if op[0] != "FRAME"]  # lengths that would go stale

    def bytes(self):
        return b"".join(raw for _, _, raw in self.ops)

    # ---- structure ----

    def run(self):
        """Fill spans [(first, last, name of the last opcode but PUTs)] and dicts [[pairs]], where
        a pair is (first of key, first of value, last of value)."""
        self.spans, self.dicts = [], []
        stack = []  # (first, last, name)
        for i, (name, _, _) in enumerate(self.ops):
            effect = EFFECTS.get(name)
            if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                if stack:
                    stack[-1] = (stack[-1][0], i, stack[-1][2])
                continue
            if effect is None:
                continue
            takes, gives, marked = effect
            first = i
            if marked:
                args = []
                while stack and stack[-1][2] != "MARK":
                    args.append(stack.pop())
                if stack:
                    first = stack.pop()[0]
                args.reverse()
            else:
                args = []
            for _ in range(takes):
                if not stack or stack[-1][2] == "MARK":
                    break
                item = stack.pop()
                first = min(first, item[0])
                if not marked:
                    args.insert(0, item)
            if name in ("SETITEMS", "SETITEM"):
                pairs = args if name == "SETITEMS" else args[1:]
                self.dicts.append([(k[0], v[0], v[1]) for k, v in zip(pairs[::2], pairs[1::2])])
            if gives:
                stack.append((first, i, name))
                if name != "MARK":
                    self.spans.append((first, i, name))

    def raw(self, first, last):
        return self.ops[first:last + 1]

    def put(self, first, last, new):
        self.ops[first:last + 1] = new

    # ---- changes ----

    def change(self, r):
        """One change, and its name."""
        self.run()
        how = r.choices(CHANGES, WEIGHTS)[0]
        try:
            how(self, r)
        except (IndexError, UnicodeError):  # nothing there that it could change
            return how.__name__ + " (none)"
        return how.__name__

    def pick(self, r, *names):
        return r.choice([s for s in self.spans if s[2] in names])

    def value(self, r):
        """Opcodes that make a value: something simple, or a copy of one that is there."""
        if r.random() < 0.5:
            return self.raw(*r.choice(self.spans)[:2])
        return code(r.choice([NONE, TRUE, FALSE, b"]", b"}", b")", ORDERED_DICT, tup(),
                              string(r.choice(KEYS)), integer(r.choice(INTS)), struct.pack(">cd", b"G", 1.5),
                              glob(*r.choice(NAMES)), glob(*r.choice(NAMES)) + b")R", ints((0, 0)),
                              tensor(storage(numel=r.choice(INTS[:12]), key=r.choice("0123")),
                                     size=(2,), stride=(1,))]))

    def touch(self, r):
        """Something is done to a value once it is made: mostly to a tensor."""
        first, last, _ = self.pick(r, "REDUCE", "NEWOBJ") if r.random() < 0.8 else r.choice(self.spans)
        key = r.choice([integer(0), ints((0, 0)), NONE, string("x")])
        value = r.choice([integer(7), struct.pack(">cd", b"G", -3.0), NONE])
        args = tup(storage(key=r.choice("0123"), numel=r.choice(INTS[:12])), integer(0), ints((2,)),
                   ints((1,)))
        new = r.choice([key + value + b"s", b"(" + key + value + b"u", value + b"a",
                        b"(" + value + b"e", b"}b", args + b"b", tup(NONE, b"}") + b"b"])
        self.ops[last + 1:last + 1] = code(new)

    def touch_state(self, r):
        """BUILD with what a tensor that stands elsewhere was made of."""
        first, last, _ = self.pick(r, "REDUCE")
        args = self.pick(r, "TUPLE")
        self.ops[last + 1:last + 1] = self.raw(*args[:2]) + code(b"b")

    def double(self, r):
        """A pair a second time, with its own or another value, in the same dict."""
        pairs = r.choice([d for d in self.dicts if d])
        key, value, last = r.choice(pairs)
        new = self.raw(key, value - 1) + (self.raw(value, last) if r.random() < 0.3 else self.value(r))
        at = r.choice(pairs)[0] if r.random() < 0.5 else pairs[-1][2] + 1
        self.ops[at:at] = new

    def drop(self, r):
        key, _, last = r.choice(r.choice([d for d in self.dicts if d]))
        self.put(key, last, [])

    def swap(self, r):
        """Two pairs change places, or their values do."""
        pairs = r.choice([d for d in self.dicts if len(d) > 1])
        a, b = sorted(r.sample(pairs, 2))
        first = 0 if r.random() < 0.6 else 1
        x, y = self.raw(a[first], a[2]), self.raw(b[first], b[2])
        self.put(b[first], b[2], x)
        self.put(a[first], a[2], y)

    def insert(self, r):
        """A pair more."""
        pairs = r.choice([d for d in self.dicts if d])
        at = r.choice(pairs)[0]
        key = code(r.choice([string(r.choice(KEYS)), integer(r.randrange(3)), TRUE, tup(b"]"), b"]",
                             b"U\1a", b"X\2\0\0\0\xc3\x28", ints((1, 2))]))
        self.ops[at:at] = key + self.value(r)

    def replace(self, r):
        a, b = r.choice(self.spans), r.choice(self.spans)
        if r.random() < 0.7:
            b = self.pick(r, a[2])
        self.put(a[0], a[1], self.raw(b[0], b[1]))

    def alias(self, r):
        """A value is taken from the memo, where another of its kind was put."""
        puts = [(i, op) for i, op in enumerate(self.ops) if op[0] in ("BINPUT", "LONG_BINPUT")]
        i, (_, index, _) = r.choice(puts)
        made = [s for s in self.spans if s[1] == i]
        later = [s for s in self.spans if s[0] > i and (not made or s[2] == made[0][2])]
        first, last, _ = r.choice(later)
        self.put(first, last, code(b"j" + struct.pack("<I", index)))

    def parameter(self, r):
        first, last, _ = self.pick(r, "REDUCE")
        self.put(first, last, code(glob("torch._utils", "_rebuild_parameter") + b"(") +
                 self.raw(first, last) + code(r.choice([TRUE, FALSE, NONE]) +
                                              r.choice([ORDERED_DICT, NONE]) + b"tR"))

    def number(self, r):
        i, (_, old, _) = r.choice([(i, op) for i, op in enumerate(self.ops) if isinstance(op[1], int)
                                   and op[0].startswith(("BININT", "LONG"))])
        new = r.choice([old + 1, old - 1, 2 * old, -old, r.choice(INTS)])
        self.put(i, i, code(r.choice([integer(new)] * 8 + [TRUE, FALSE, NONE, b"G" + bytes(8)])))

    def same_number(self, r):
        """The same number in another form."""
        i, (_, v, _) = r.choice([(i, op) for i, op in enumerate(self.ops) if op[0] == "BININT1"])
        self.put(i, i, code(r.choice([b"J" + struct.pack("<i", v), b"M" + struct.pack("<H", v),
                                      b"\x8a\3" + bytes([v, 0, 0]), b"\x8a\x0a" + bytes([v] + [0] * 9),
                                      b"\x8b\2\0\0\0" + bytes([v, 0]), b"I%d\n" % v])))

    def text(self, r):
        i, op = r.choice([(i, op) for i, op in enumerate(self.ops) if op[0] == "BINUNICODE"])
        s = op[1].encode("utf-8", "surrogatepass")
        self.put(i, i, code(r.choice([string(r.choice(KEYS))] * 3 + [
            b"U" + bytes([len(s)]) + s, b"\x8c" + bytes([len(s)]) + s, b"C" + bytes([len(s)]) + s,
            string(op[1][::-1]), string(op[1] + "\0"), b"X\3\0\0\0\xed\xa0\x80", b"X\1\0\0\0\xff"])))

    def name(self, r):
        i, _ = r.choice([(i, op) for i, op in enumerate(self.ops) if op[0] in ("GLOBAL", "STACK_GLOBAL")])
        if self.ops[i][0] == "GLOBAL":
            new = glob(*r.choice(NAMES))
        else:
            module, name = r.choice(NAMES)
            new = b"00" + string(module) + string(name) + b"\x93"
        self.put(i, i, code(new))

    def one_class(self, r):
        """A storage's class is another one, everywhere or here only."""
        classes = [(i, op) for i, op in enumerate(self.ops) if op[0] == "GLOBAL" and "Storage" in op[1]]
        i, old = r.choice(classes)
        new = code(glob(*r.choice(NAMES[:9])))
        for j, op in classes if r.random() < 0.5 else [(i, old)]:
            if op[1] == old[1]:
                self.put(j, j, new)

    def blind(self, r):
        i = r.randrange(1, len(self.ops))
        how = r.randrange(4)
        if how == 0:
            del self.ops[i]
        elif how == 1:
            self.ops.insert(i, r.choice(self.ops))
        elif how == 2:
            j = r.randrange(1, len(self.ops))
            self.ops[i], self.ops[j] = self.ops[j], self.ops[i]
        else:
            raw = bytearray(self.ops[i][2])
            raw[r.randrange(len(raw))] = r.randrange(256)
            self.ops[i] = ("", None, bytes(raw))

    def stack(self, r):
        """POP, DUP, POP_MARK, and marks that enclose nothing."""
        first, last, _ = r.choice(self.spans)
        self.ops[last + 1:last + 1] = code(r.choice([b"N0", b"20", b"(1", b"(N1", b"(t0", b"2", b"0"]))

    def protocol(self, r):
        self.put(0, 0, code(b"\x80" + bytes([r.choice([0, 1, 2, 3, 4, 5, 6])])))


def code(raw):
    """Opcodes without an end, as entries of Pickle.ops."""
    marks, at = [], 0
    while at < len(raw):
        op = pickletools.code2op[chr(raw[at])]
        end = at + 1
        arg = None
        if op.arg is not None:
            if op.name == "GLOBAL":
                end = raw.index(b"\n", raw.index(b"\n", at) + 1) + 1
                arg = " ".join(raw[at + 1:end - 1].decode().split("\n"))
            elif op.arg.n == pickletools.UP_TO_NEWLINE:
                end = raw.index(b"\n", at) + 1
            elif op.arg.n > 0:
                end += op.arg.n
                if op.arg.n <= 4:
                    arg = int.from_bytes(raw[at + 1:end], "little")
            else:  # a count of 1 or 4 bytes, then as many
                size = 4 if op.arg.n in COUNT_OF_4 else 1
                end += size + int.from_bytes(raw[at + 1:at + 1 + size], "little")
                if op.name == "BINUNICODE":
                    arg = raw[at + 5:end].decode("utf-8", "surrogateescape")
        marks.append((op.name, arg, raw[at:end]))
        at = end
    return marks


COUNT_OF_4 = (pickletools.TAKEN_FROM_ARGUMENT4, pickletools.TAKEN_FROM_ARGUMENT4U)


def effect_of(op):
    """(values taken, whether it gives one, whether it takes back to a MARK)."""
    before, after = list(op.stack_before), list(op.stack_after)
    marked = pickletools.markobject in before
    if marked:
        before = before[:before.index(pickletools.markobject)]
    return len(before), bool(after), marked


EFFECTS = {op.name: effect_of(op) for op in pickletools.opcodes}
CHANGES, WEIGHTS = zip(*[
    (Pickle.touch, 4), (Pickle.touch_state, 2), (Pickle.double, 4), (Pickle.drop, 1), (Pickle.swap, 6),
    (Pickle.insert, 5), (Pickle.replace, 4), (Pickle.alias, 4), (Pickle.parameter, 4),
    (Pickle.number, 4), (Pickle.same_number, 5), (Pickle.text, 3), (Pickle.name, 2),
    (Pickle.one_class, 2), (Pickle.blind, 3), (Pickle.stack, 1), (Pickle.protocol, 1),
])
