#!/usr/bin/env python3
"""Write tests/invalid/safetensors: request bodies that are refused, one directory a case.

The bodies are binary; this is where they can be read. Cases after huggingface/safetensors
(safetensors/src/tensor.rs tests, attacks/), and of our own for what saed reads into tensors.
Run from the root of the repository; the directories are committed."""
import os
import struct

ROOT = "tests/invalid/safetensors"


def body(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(name, dtype, shape, begin, end):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}' % (name, dtype, shape, begin, end)


def x(shape="[2,4]", n=32, dtype="F32", begin=0):
    return entry("x", dtype, shape, begin, begin + n)


def case(name, data, *error, target=None):
    folder = os.path.join(ROOT, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "input"), "wb") as f:
        f.write(data)
    with open(os.path.join(folder, "error"), "w") as f:
        f.write("\n".join(error) + "\n")
    if target:
        with open(os.path.join(folder, "target"), "w") as f:
            f.write(target + "\n")


Z = bytes(64)
M = "malformed_body"

# the container
case("empty", b"", M, "0 bytes are too few")
case("seven_bytes", b"\0" * 7, M, "7 bytes are too few")
case("header_length_0", body("", Z), M, "does not begin with {")
case("header_past_end", body("{}", length=3), M, "the header length is 3, the body has 10 bytes")
case("header_too_large", body("{}", length=0xFFFFFF << 40), M, "100000000 is the most")
case("header_length_max", body("{}", length=2**64 - 1), M, "18446744073709551615")
case("header_length_wraps", body("{}", length=2**64 - 8), M, "18446744073709551608")
case("header_not_json", body("{"), M, "cannot read safetensors header")
case("header_list", body("[1,2]"), M, "does not begin with {")
case("header_blank_first", body(" {}"), M, "does not begin with {")
case("header_nul", body("{}\0"), M, "a zero byte")
case("header_trailing", body("{} x"), M, "cannot read safetensors header")
case("header_not_utf8", body(b'{"x\xff":1}'), M, "cannot read safetensors header")
case("header_too_deep", body('{"a":' * 9 + "1" + "}" * 9), M, "nested deeper than 8")
case("header_unclosed_string", body('{"x'), M, "cannot read safetensors header")
case("name_twice", body("{" + x() + "," + x() + "}", Z[:32]), "bad_option", "duplicate", '"x"')
case("key_twice", body('{"x":{"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
                       Z[:16]), "bad_option", "duplicate")
case("name_escaped_nul", body('{"x\\u0000":{}}'), M, "cannot read safetensors header")
case("metadata_list", body('{"__metadata__":[],' + x() + "}", Z[:32]), M, "not an object")
case("metadata_number", body('{"__metadata__":{"a":1},' + x() + "}", Z[:32]), M,
     'the value of "a" is not a string')
case("metadata_key_twice", body('{"__metadata__":{"a":"1","\\u0061":"2"},' + x() + "}", Z[:32]),
     "bad_option", "duplicate", '"a"')
case("metadata_twice", body('{"__metadata__":null,"__metadata__":null,' + x() + "}", Z[:32]),
     "bad_option", "duplicate", '"__metadata__"')
case("name_twice_escaped", body("{" + x() + "," + x().replace('"x"', '"\\u0078"') + "}", Z[:32]),
     "bad_option", "duplicate", '"x"')
case("long_key_twice", body('{"x":{%s,"dtype":"F32","shape":[4],"data_offsets":[0,16]}}' %
                            ",".join('"%s":1' % ("k" * 99) for _ in range(2)), Z[:16]),
     "bad_option", "duplicate")
case("unknown_key_twice_below", body('{"x":{"note":[{"a":1,"b":{"a":2},"a":3}],"dtype":"F32",'
                                     '"shape":[4],"data_offsets":[0,16]}}', Z[:16]),
     "bad_option", "duplicate", '"a"')
case("malformed_wins_over_twice", body('{"x":{"dtype":1,"dtype":"F32","shape":[4]}}', Z[:16]), M,
     "not an object with dtype")
case("entry_number", body('{"x":1}'), M, "not an object with dtype, shape and data_offsets")
case("entry_empty", body('{"x":{}}'), M, "not an object with dtype")
case("dtype_unknown", body("{" + x(dtype="F33") + "}", Z[:32]), M, 'no dtype "F33"')
case("dtype_number", body('{"x":{"dtype":1,"shape":[4],"data_offsets":[0,16]}}', Z[:16]), M,
     "not an object with dtype")
case("dtype_lower_case", body("{" + x(dtype="f32") + "}", Z[:32]), M, 'no dtype "f32"')
case("shape_number", body("{" + x(shape="4", n=16) + "}", Z[:16]), M, "not an object with dtype")
case("shape_negative", body("{" + x(shape="[-1,4]", n=16) + "}", Z[:16]), M, "dimension 0")
case("shape_real", body("{" + x(shape="[1.0,4]", n=16) + "}", Z[:16]), M, "dimension 0")
case("shape_exponent", body("{" + x(shape="[4,1e0]", n=16) + "}", Z[:16]), M, "dimension 1")
case("shape_string", body("{" + x(shape='["1",4]', n=16) + "}", Z[:16]), M, "dimension 0")
case("shape_beyond_64_bits", body("{" + x(shape="[18446744073709551616,4]", n=16) + "}", Z[:16]),
     M, "dimension 0 of its shape is no integer")
case("shape_product_overflow", body("{" + x(shape="[9223372036854775807,4]", n=16) + "}", Z[:16]),
     M, "passes 64 bits")
case("shape_bits_overflow", body("{" + x(shape="[2305843009213693952,4]", n=0) + "}"), M,
     "do not fit")
case("shape_overflow_before_zero",
     body("{" + x(shape="[9223372036854775807,4,0]", n=0) + "}"), M, "passes 64 bits")
case("size_too_small", body("{" + x(n=31) + "}", Z[:31]), M, "8 values of F32 do not fit its 31")
case("size_too_large", body("{" + x(n=36) + "}", Z[:36]), M, "8 values of F32 do not fit its 36")
case("offsets_down", body("{" + entry("x", "F32", "[4]", 16, 0) + "}", Z[:16]), M, "ascending")
case("offsets_negative", body("{" + entry("x", "F32", "[4]", -16, 0) + "}", Z[:16]), M, "ascending")
case("offsets_minus_zero", body('{"x":{"dtype":"F32","shape":[4],"data_offsets":[-0,16]}}', Z[:16]), M,
     "ascending")
case("offsets_one", body('{"x":{"dtype":"F32","shape":[4],"data_offsets":[16]}}', Z[:16]), M,
     "data_offsets")
case("offsets_three", body('{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16,32]}}', Z[:32]),
     M, "data_offsets")
case("offsets_real", body('{"x":{"dtype":"F32","shape":[4],"data_offsets":[0.0,16]}}', Z[:16]), M,
     "data_offsets")
case("buffer_short", body("{" + x() + "}", Z[:31]), M, "it ends at 32, the buffer has 31")
case("buffer_long", body("{" + x() + "}", Z[:33]), M, "32 bytes of the buffer's 33")
case("buffer_absent", body("{" + x() + "}"), M, "the buffer has 0")
case("buffer_without_tensors", body("{}", Z[:8]), M, "0 bytes of the buffer's 8")
case("hole_first", body("{" + x(begin=8) + "}", Z[:40]), M, "it begins at 8")
case("hole_between", body("{" + entry("features", "I64", "[1]", 0, 8) + "," + x(begin=16) + "}",
                          Z[:48]), M, "it begins at 16, the one before ends at 8")
case("overlap", body("{" + entry("features", "I64", "[1]", 0, 8) + "," + x(begin=4) + "}", Z[:36]),
     M, "it begins at 4, the one before ends at 8")
case("same_bytes_10_times",
     body("{" + ",".join(entry("t%d" % i, "F32", "[2,4]", 0, 32) for i in range(10)) + "}", Z[:32]),
     M, "it begins at 0, the one before ends at 32")
case("fp4_half_a_byte", body("{" + entry("x", "F4", "[3]", 0, 2) + "}", Z[:2]), M, "3 values of F4")
case("huge_view", body("{" + entry("x", "F32", "[2147483648,4]", 0, 2**35) + "}", Z[:32]), M,
     "the buffer has 32")

# malformed wins over what a sound container would have met
case("malformed_wins", body("{" + entry("y", "F32", "[4]", 0, 16) + "}", Z[:17]), M,
     "16 bytes of the buffer's 17")

# what the tensors are
case("no_tensor", body("{}"), "bad_shape", "tensor x is missing")
case("name_unknown", body("{" + entry("X", "F32", "[4]", 0, 16) + "}", Z[:16]), "bad_option", '"X"')
case("name_of_an_option", body("{" + entry("top_k", "I64", "[1]", 0, 8) + "," + x(begin=8) + "}",
                               Z[:40]), "bad_option", "query string")
case("width", body("{" + x(shape="[4,2]") + "}", Z[:32]), "bad_shape", "x has width 2")
case("scalar", body("{" + x(shape="[]", n=4) + "}", Z[:4]), "bad_shape", "0 dimensions")
case("nine_dimensions", body("{" + x(shape="[1,1,1,1,1,1,1,2,4]") + "}", Z[:32]), "bad_shape",
     "9 dimensions")
case("dtype_of_x", body("{" + x(dtype="I32") + "}", Z[:32]), M, "its dtype is I32")
case("f64_overflow", body("{" + x(shape="[4]", n=32, dtype="F64") + "}",
                          struct.pack("<4d", 0, -1e39, 0, 0)), "bad_number", "value 1 is -1e+39")
case("features_negative", body("{" + entry("features", "I64", "[1]", 0, 8) + "," + x(begin=8) + "}",
                               struct.pack("<q", -1) + Z[:32]), "bad_option", "item 0 is -1")
case("features_beyond", body("{" + entry("features", "I64", "[1]", 0, 8) + "," + x(begin=8) + "}",
                             struct.pack("<q", 8) + Z[:32]), "bad_option", "item 0 is 8")
case("ghost_mask_of_gated", body("{" + entry("ghost_mask", "BOOL", "[8]", 0, 8) + "," +
                                 x(begin=8) + "}", Z[:40]), "bad_option",
     "GatedAutoEncoder.forward does not take it", target="forward GatedAutoEncoder 4 8")
case("ghost_mask_shape", body("{" + entry("ghost_mask", "BOOL", "[8,1]", 0, 8) + "," +
                              x(begin=8) + "}", Z[:40]), "bad_shape",
     "its shape is [8, 1], wanted [8], [2, 1] or [2, 8]", target="forward AutoEncoder 4 8")
case("ghost_mask_byte", body("{" + entry("ghost_mask", "BOOL", "[8]", 0, 8) + "," + x(begin=8) +
                             "}", b"\xff" * 8 + Z[:32]), "bad_number", "byte 255",
     target="forward AutoEncoder 4 8")


def sparse(indptr, indices, shape, drop=None, extra=""):
    parts = [("f.indptr", "I32", struct.pack("<%di" % len(indptr), *indptr), len(indptr)),
             ("f.indices", "I32", struct.pack("<%di" % len(indices), *indices), len(indices)),
             ("f.values", "F32", struct.pack("<%df" % len(indices), *indices), len(indices)),
             ("f.shape", "I64", struct.pack("<%dq" % len(shape), *shape), len(shape))]
    at, header, data = 0, [], b""
    for name, dtype, values, n in parts:
        if name == drop:
            continue
        header.append(entry(name, dtype, "[%d]" % n, at, at + len(values)))
        at, data = at + len(values), data + values
    return body("{" + ",".join(header) + extra + "}", data)


D = "decode AutoEncoder 4 8"
for missing in ("f.indptr", "f.indices", "f.values", "f.shape"):
    case("csr_without_" + missing[2:], sparse([0, 2], [1, 2], [1, 8], drop=missing), "bad_shape",
         "tensor %s is missing" % missing, target=D)
case("csr_and_dense", sparse([0, 0], [], [1, 8], extra="," + entry("f", "F32", "[0,8]", 24, 24)),
     "bad_option", "given twice", target=D)
case("csr_twice_in_a_row", sparse([0, 3], [1, 2, 1], [1, 8]), "bad_shape",
     "index 1 stands twice in row 0", target=D)
case("csr_beyond", sparse([0, 1], [8], [1, 8]), "bad_shape", "has index 8", target=D)
case("csr_negative_index", sparse([0, 1], [-1], [1, 8]), "bad_shape", "item 0 is -1", target=D)
case("csr_indptr_down", sparse([0, 2, 1], [1, 2], [2, 8]), "bad_shape", "goes down", target=D)
case("csr_indptr_past_end", sparse([0, 3], [1, 2], [1, 8]), "bad_shape", "there are 2", target=D)
case("csr_indptr_short", sparse([0, 2], [1, 2], [3, 8]), "bad_shape", "3 rows", target=D)
case("csr_shape_wide", sparse([0, 2], [1, 2], [1, 9]), "bad_shape", "f has width 9", target=D)
case("csr_shape_huge", sparse([0, 2], [1, 2], [2**62, 2**62, 8]), "bad_shape", "pass 64 bits",
     target=D)
case("csr_x_in_decode", body("{" + x() + "}", Z[:32]), "bad_option", "takes f alone", target=D)
