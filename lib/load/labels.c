/* labels.c - see labels.h. */
#include "lib/load/labels.h"

#include "lib/format/fd.h"
#include "lib/format/json_scan.h"
#include "lib/scan.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define NONE UINT32_MAX /* where no label begins */
/* A JSON string of more bytes is too long, whatever its escapes stand for: of six one comes. */
#define MAX_LITERAL (6 * SAE_LABEL_MAX_BYTES + 2)

struct sae_labels {
    uint64_t F;
    uint32_t *at; /* [F]: where in text it begins, or NONE */
    uint16_t *n;  /* [F]; 1: it was said that there is none */
    struct sae_buf text;
};

/* A file being read. */
struct label_file {
    struct sae_labels *l;
    const char *path;
    const char *begin, *end; /* the whole text */
    uint64_t line;           /* of lines: which, from 1 */
    struct sae_err *err;
};

static enum sae_status nomem(const struct label_file *f)
{
    return sae_err_set(f->err, SAE_E_NOMEM, "", "cannot keep the labels of %.200s: out of memory",
                       f->path);
}

/* ---- one label ----------------------------------------------------------------------------- */

/* A JSON string is the label of the feature. */
static enum sae_status keep(struct label_file *f, uint64_t id, const char *literal, size_t n)
{
    struct sae_labels *l = f->l;

    l->at[id] = (uint32_t)l->text.len;
    l->n[id] = (uint16_t)n;
    return sae_buf_add(&l->text, literal, n) == SAE_OK ? SAE_OK : nomem(f);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static enum sae_status fail_json(const struct label_file *f, const char *at, const char *what)
{
    return sae_err_set(f->err, SAE_E_FORMAT, "", "cannot use the labels of %.200s: %s, at byte %zu",
                       f->path, what, (size_t)(at - f->begin));
}

/* The text has been checked: only what it means is looked at. */
static const char *blanks(const struct label_file *f, const char *p)
{
    return sae_json_blanks(p, f->end);
}

/* The value at *p, a string or null, which is the feature's; *p goes behind it. */
static enum sae_status read_value(struct label_file *f, const char **p, uint64_t id)
{
    char room[MAX_LITERAL];
    struct sae_json_fault fault;
    const char *from = *p;
    size_t n, decoded = SIZE_MAX;

    if (*from == 'n') { /* null */
        *p = from + 4;
        f->l->n[id] = 1;
        return SAE_OK;
    }
    if (*from != '"')
        return sae_err_set(f->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: that of feature %" PRIu64
                           " is no text, at byte %zu",
                           f->path, id, (size_t)(from - f->begin));
    *p = sae_json_scan_string(from + 1, f->end, NULL, &fault);
    n = (size_t)(*p - from);
    if (n <= MAX_LITERAL)
        (void)sae_json_copy_string(from + 1, f->end, room, &decoded, &fault);
    if (decoded > SAE_LABEL_MAX_BYTES)
        return sae_err_set(f->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: that of feature %" PRIu64
                           " has more than %d bytes",
                           f->path, id, SAE_LABEL_MAX_BYTES);
    return keep(f, id, from, n);
}

/* The key at *p, behind its quote, as an id. */
static enum sae_status read_key(struct label_file *f, const char **p, uint64_t *id)
{
    struct sae_json_fault fault;
    struct sae_json_text key;
    const char *from = *p;

    *p = sae_json_scan_string(from, f->end, &key, &fault);
    if (key.cut || !sae_scan_whole_u64(key.s, key.n, id) || *id >= f->l->F)
        return sae_err_set(
            f->err, SAE_E_FORMAT, "",
            "cannot use the labels of %.200s: key \"%.*s%s\" is no id, they are 0 to "
            "%" PRIu64,
            f->path, (int)key.n, key.s, key.cut ? "..." : "", f->l->F - 1);
    if (f->l->n[*id] != 0)
        return sae_err_set(f->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: key \"%" PRIu64 "\" stands twice",
                           f->path, *id);
    return SAE_OK;
}

/* An item of the object or list, the i-th. */
static enum sae_status read_item(struct label_file *f, const char **p, bool is_object, uint64_t i)
{
    enum sae_status st;
    uint64_t id = i;

    if (is_object) {
        ++*p;
        st = read_key(f, p, &id);
        if (st != SAE_OK)
            return st;
        *p = blanks(f, blanks(f, *p) + 1); /* the colon */
    } else if (id >= f->l->F) {
        return sae_err_set(f->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: item %" PRIu64
                           " of its list is of no feature, ids are 0 to %" PRIu64,
                           f->path, i, f->l->F - 1);
    }
    return read_value(f, p, id);
}

static enum sae_status read_json(struct label_file *f)
{
    struct sae_json_fault fault;
    enum sae_status st = SAE_OK;
    const char *p = blanks(f, f->begin);
    bool is_object;

    if (!sae_json_check(f->begin, (size_t)(f->end - f->begin), &fault))
        return fail_json(f, fault.at, fault.what);
    is_object = *p == '{';
    if (!is_object && *p != '[')
        return fail_json(f, p, "it is no object and no list");
    p = blanks(f, p + 1);
    for (uint64_t i = 0; st == SAE_OK && *p != '}' && *p != ']'; i++) {
        st = read_item(f, &p, is_object, i);
        p = st == SAE_OK ? blanks(f, p) : p;
        if (st == SAE_OK && *p == ',')
            p = blanks(f, p + 1);
    }
    return st;
}

/* ---- lines ---------------------------------------------------------------------------------- */

static enum sae_status fail_line(const struct label_file *f, const char *what)
{
    return sae_err_set(f->err, SAE_E_FORMAT, "",
                       "cannot use the labels of %.200s: line %" PRIu64 " %s", f->path, f->line,
                       what);
}

/* The line as a JSON string into `out`; 0: it is no UTF-8, or has a zero byte. */
static size_t to_literal(char out[MAX_LITERAL], const char *p, const char *end)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;

    out[n++] = '"';
    while (p < end) {
        const unsigned char c = (unsigned char)*p;
        const unsigned len = sae_utf8_len(p, end);

        if (len == 0 || c == 0)
            return 0;
        if (c < 0x20) {
            memcpy(out + n, "\\u00", 4);
            out[n + 4] = hex[c >> 4];
            out[n + 5] = hex[c & 15];
            n += 6;
            p++;
            continue;
        }
        if (c == '"' || c == '\\')
            out[n++] = '\\';
        memcpy(out + n, p, len);
        n += len;
        p += len;
    }
    out[n++] = '"';
    return n;
}

static enum sae_status read_line(struct label_file *f, const char *p, const char *end)
{
    char literal[MAX_LITERAL];
    size_t n;

    if (f->line > f->l->F)
        return sae_err_set(f->err, SAE_E_FORMAT, "",
                           "cannot use the labels of %.200s: line %" PRIu64
                           " is of no feature, there are %" PRIu64,
                           f->path, f->line, f->l->F);
    if (end > p && end[-1] == '\r')
        end--;
    if (end == p)
        return SAE_OK;
    if (end - p > SAE_LABEL_MAX_BYTES)
        return fail_line(f, "has more than 1000 bytes");
    n = to_literal(literal, p, end);
    return n ? keep(f, f->line - 1, literal, n) : fail_line(f, "is no UTF-8, or has a zero byte");
}

static enum sae_status read_lines(struct label_file *f)
{
    enum sae_status st = SAE_OK;

    for (const char *p = f->begin; st == SAE_OK && p < f->end;) {
        const char *end = memchr(p, '\n', (size_t)(f->end - p));

        end = end ? end : f->end;
        f->line++;
        st = read_line(f, p, end);
        p = end + 1;
    }
    return st;
}

/* ---- the file -------------------------------------------------------------------------------- */

static enum sae_status read_text(struct label_file *f)
{
    const char *first;

    if (f->end - f->begin >= 3 && memcmp(f->begin, "\xef\xbb\xbf", 3) == 0)
        f->begin += 3;
    first = blanks(f, f->begin);
    if (sae_ends_in_any_case(f->path, ".json") ||
        (!sae_ends_in_any_case(f->path, ".txt") && first < f->end &&
         (*first == '{' || *first == '[')))
        return read_json(f);
    return read_lines(f);
}

static enum sae_status open_file(const char *path, int *fd, uint64_t *bytes, struct sae_err *err)
{
    struct sae_err low = {0};
    enum sae_status st = sae_fd_open(path, NULL, fd, bytes, &low);

    if (st != SAE_OK)
        return sae_err_set(err, st, "", "cannot read the labels of %.200s: %s", path, low.text);
    if (*bytes <= SAE_LABELS_MAX_BYTES)
        return SAE_OK;
    close(*fd);
    return sae_err_set(err, SAE_E_FORMAT, "",
                       "cannot read the labels of %.200s: %" PRIu64 " bytes, at most %" PRIu64
                       " are read",
                       path, *bytes, SAE_LABELS_MAX_BYTES);
}

static uint64_t table_bytes(uint64_t F)
{
    return F * (sizeof(uint32_t) + sizeof(uint16_t));
}

enum sae_status sae_labels_guess(const char *path, uint64_t F, uint64_t *bytes, struct sae_err *err)
{
    uint64_t n;
    enum sae_status st;
    int fd;

    st = open_file(path, &fd, &n, err);
    if (st != SAE_OK)
        return st;
    close(fd);
    *bytes = n + table_bytes(F);
    return SAE_OK;
}

static struct sae_labels *create(uint64_t F)
{
    struct sae_labels *l = sae_calloc(1, sizeof *l);

    if (!l)
        return NULL;
    l->F = F;
    sae_buf_init(&l->text, UINT32_MAX - 1);
    l->at = sae_alloc((size_t)F, sizeof *l->at);
    l->n = sae_calloc((size_t)F, sizeof *l->n);
    if (!l->at || !l->n) {
        sae_labels_free(l);
        return NULL;
    }
    memset(l->at, 0xff, (size_t)F * sizeof *l->at); /* NONE */
    return l;
}

/* What the buffer has beyond its text is not kept. */
static void fit_text(struct sae_labels *l)
{
    char *less = l->text.data ? sae_realloc(l->text.data, l->text.len + 1, 1) : NULL;

    if (less) {
        l->text.data = less;
        l->text.cap = l->text.len + 1;
    }
}

enum sae_status sae_labels_open(struct sae_labels **out, const char *path, uint64_t F,
                                struct sae_err *err)
{
    struct label_file f = {.path = path, .err = err};
    char *text = NULL;
    uint64_t bytes;
    enum sae_status st;
    int fd;

    st = open_file(path, &fd, &bytes, err);
    if (st != SAE_OK)
        return st;
    f.l = create(F);
    text = f.l ? sae_alloc((size_t)bytes + 1, 1) : NULL;
    if (!text) {
        st = nomem(&f);
        goto out;
    }
    st = sae_fd_read(fd, bytes, 0, text, (size_t)bytes, err);
    if (st != SAE_OK)
        goto out;
    f.begin = text;
    f.end = text + bytes;
    st = read_text(&f);
    if (st != SAE_OK)
        goto out;
    fit_text(f.l);
    *out = f.l;
    f.l = NULL;
out:
    close(fd);
    sae_free(text);
    sae_labels_free(f.l);
    return st;
}

void sae_labels_free(struct sae_labels *l)
{
    if (!l)
        return;
    sae_buf_fini(&l->text);
    sae_free(l->at);
    sae_free(l->n);
    sae_free(l);
}

uint64_t sae_labels_bytes(const struct sae_labels *l)
{
    return l->text.cap + table_bytes(l->F);
}

const char *sae_labels_json(const struct sae_labels *l, uint64_t id, size_t *n)
{
    if (l->at[id] == NONE)
        return NULL;
    *n = l->n[id];
    return l->text.data + l->at[id];
}
