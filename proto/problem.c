/* problem.c - errors as application/problem+json (RFC 9457), and JSON string literals. Spec 3.3.
 *
 * Called by whatever answers with an error or writes a control document. No state, any thread. */
#include "lib/format/json_scan.h"
#include "proto/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct sae_error_info sae_error_info(enum sae_status st)
{
    switch (st) {
#define SAE_ERROR(status, http, code, title) \
    case status:                             \
        return (struct sae_error_info){http, code, title};
#include "proto/errors.def"
#undef SAE_ERROR
    default:
        return (struct sae_error_info){500, "internal", "Internal error"};
    }
}

/* The escape of byte `c`, or NULL when it stands for itself. */
static const char *escape(unsigned char c, char room[7])
{
    static const char hex[] = "0123456789abcdef";

    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        if (c >= 0x20)
            return NULL;
        memcpy(room, "\\u00", 4);
        room[4] = hex[c >> 4];
        room[5] = hex[c & 15];
        room[6] = '\0';
        return room;
    }
}

enum sae_status sae_json_string(struct sae_buf *out, const char *s, size_t n)
{
    const char *end = s + n;
    enum sae_status st = sae_buf_add(out, "\"", 1);

    while (st == SAE_OK && s < end) {
        const char *run = s, *instead = NULL;
        unsigned len = 1;
        char room[7];

        /* What goes as it is, then the one character that does not. */
        while (s < end && (len = sae_utf8_len(s, end)) > 0 &&
               !(instead = escape((unsigned char)*s, room)))
            s += len;
        st = sae_buf_add(out, run, (size_t)(s - run));
        if (st != SAE_OK || s == end)
            break;
        if (!instead)
            instead = "\xef\xbf\xbd"; /* U+FFFD for a byte that is no UTF-8 */
        st = sae_buf_add(out, instead, strlen(instead));
        s++;
    }
    return st == SAE_OK ? sae_buf_add(out, "\"", 1) : st;
}

/* "text, and more (at where)". */
static enum sae_status add_detail(struct sae_buf *out, const struct sae_err *err, const char *more)
{
    struct sae_buf b;
    enum sae_status st;

    sae_buf_init(&b, SIZE_MAX);
    st = sae_buf_addf(&b, err->where[0] ? "%s%s (at %s)" : "%s%s", err->text, more, err->where);
    if (st == SAE_OK)
        st = sae_json_string(out, b.data, b.len);
    sae_buf_fini(&b);
    return st;
}

enum sae_status sae_problem_print(struct sae_buf *out, const struct sae_err *err, const char *more)
{
    const struct sae_error_info info = sae_error_info(err->status);
    enum sae_status st = sae_buf_addf(
        out,
        "{\"type\":\"urn:saed:error:%s\",\"title\":\"%s\",\"status\":%d,\"detail\":", info.code,
        info.title, info.http);

    if (st == SAE_OK)
        st = add_detail(out, err, more);
    if (st == SAE_OK)
        st = sae_buf_addf(out, ",\"code\":\"%s\"", info.code);
    if (st == SAE_OK && err->has_limit)
        st = sae_buf_addf(out, ",\"limit\":%" PRIu64 ",\"got\":%" PRIu64, err->limit, err->got);
    if (st == SAE_OK && err->option) {
        st = sae_buf_add(out, ",\"option\":", 10);
        if (st == SAE_OK)
            st = sae_json_string(out, err->option, strlen(err->option));
    }
    return st == SAE_OK ? sae_buf_add(out, "}\n", 2) : st;
}
