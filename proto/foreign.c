/* foreign.c - is a body of plain rows a file of another type? Clients send what they have in a file
 * and are answered with numbers that mean nothing.
 *
 * Rows may begin with any bytes: a type is named only when its whole header parses, its lengths
 * included. Called by raw.c for bodies whose shape nobody has vouched for. Pure, any thread. */
#include "lib/num.h"
#include "lib/format/json_scan.h"
#include "proto/wire.h"

#include <string.h>

/* The n bytes `part` in text[len]? */
static bool holds(const unsigned char *text, size_t len, const char *part)
{
    return memmem(text, len, part, strlen(part)) != NULL;
}

/* numpy/lib/format.py: magic, version, length, a dict literal that ends in a newline. */
static bool is_npy(const unsigned char *p, size_t n)
{
    size_t at, len;

    if (n < 12 || memcmp(p, "\x93NUMPY", 6) != 0 || p[6] < 1 || p[6] > 3 || p[7] != 0)
        return false;
    at = p[6] == 1 ? 10 : 12;
    len = p[6] == 1 ? sae_le16(p + 8) : sae_le32(p + 8);
    if (len < 2 || len > n - at || p[at] != '{' || p[at + len - 1] != '\n')
        return false;
    return holds(p + at, len, "'descr'") && holds(p + at, len, "'fortran_order'") &&
           holds(p + at, len, "'shape'");
}

/* APPNOTE.TXT 4.3.7 and 4.3.16: a local header first, an end record whose comment ends the file. */
static bool is_zip(const unsigned char *p, size_t n)
{
    enum { LOCAL = 30, END = 22 };
    const size_t farthest = n < END + 65535 ? n : END + 65535;

    if (n < LOCAL + END || memcmp(p, "PK\3\4", 4) != 0 ||
        (size_t)LOCAL + sae_le16(p + 26) + sae_le16(p + 28) > n)
        return false;
    for (size_t back = END; back <= farthest; back++) {
        const unsigned char *end = p + n - back;

        if (memcmp(end, "PK\5\6", 4) == 0 && sae_le16(end + 20) == back - END)
            return true;
    }
    return false;
}

/* Behind a gzip header's fixed part and what its flags announce; n or more: it does not end. */
static size_t gzip_header(const unsigned char *p, size_t n)
{
    enum { HCRC = 2, EXTRA = 4, NAME = 8, COMMENT = 16, FIXED = 10 };
    const unsigned flags = p[3];
    size_t at = FIXED;

    if (flags & EXTRA)
        at += n - at < 2 ? n : 2 + (size_t)sae_le16(p + at);
    for (unsigned text = NAME; text <= COMMENT; text <<= 1)
        if (flags & text) {
            while (at < n && p[at])
                at++;
            at++;
        }
    return flags & HCRC ? at + 2 : at;
}

/* RFC 1952: method 8, no reserved flag, a deflate block behind the header, and a size at the end
 * that deflate can have made as many bytes of: 1032 of one at most, and hardly more than one of
 * one. */
static bool is_gzip(const unsigned char *p, size_t n)
{
    enum { SMALLEST = 18, TRAILER = 8 };
    uint64_t size, packed;
    size_t at;
    unsigned type;

    if (n < SMALLEST || p[0] != 0x1f || p[1] != 0x8b || p[2] != 8 || (p[3] & 0xe0))
        return false;
    at = gzip_header(p, n);
    if (at >= n || n - at < TRAILER + 2)
        return false;
    packed = n - at - TRAILER;
    type = p[at] >> 1 & 3;
    if (type == 3 ||
        (type == 0 && (packed < 5 || (sae_le16(p + at + 1) ^ sae_le16(p + at + 3)) != 0xffff)))
        return false;
    size = sae_le32(p + n - 4);
    return size <= packed * 1032 && size + size / 1024 + 16 >= packed;
}

/* A length within the body, and a JSON object of that length. */
static bool is_safetensors(const unsigned char *p, size_t n)
{
    struct sae_json_fault fault;
    uint64_t len;

    if (n < 10)
        return false;
    len = sae_le64(p);
    return len >= 2 && len <= n - 8 && p[8] == '{' &&
           sae_json_check((const char *)p + 8, (size_t)len, &fault);
}

/* A request, as curl --data-binary sends one under another's Content-Type. */
static bool is_json(const unsigned char *p, size_t n)
{
    struct sae_json_fault fault;
    size_t blank = 0;

    while (blank < n && (p[blank] == ' ' || (p[blank] >= '\t' && p[blank] <= '\r')))
        blank++;
    return blank < n && p[blank] == '{' && sae_json_check((const char *)p, n, &fault);
}

static const struct {
    bool (*is)(const unsigned char *p, size_t n);
    const char *advice;
} types[] = {
    {is_npy, "an .npy file: send it as application/x-npy"},
    {is_zip, "a zip archive (as .pt and .npz files are): send rows of float32, with Saed-Shape"},
    {is_gzip, "gzip: send it with Content-Encoding: gzip"},
    {is_safetensors, "a safetensors file: send it as application/x-safetensors"},
    {is_json, "JSON: send it as application/json"},
};

const char *sae_foreign_type(const void *body, size_t n)
{
    for (size_t i = 0; i < SAE_COUNTOF(types); i++)
        if (types[i].is(body, n))
            return types[i].advice;
    return NULL;
}
