/* origin.c - see origin.h. */
#include "lib/load/origin.h"

#include "lib/load/rows.h"

#include <stdatomic.h>
#include <string.h>

#define MAX_NUMBER_BYTES 4096 /* of a storage that is read for the number in it */
#define PART_BYTES ((uint64_t)1 << 20)
#define PART_LINES 16 /* at least, and a multiple: a cache line of what is turned */
#define BUFFER_BYTES ((uint64_t)48 << 20) /* of all parts that are read at a time */

/* An open origin. */
struct bytes {
    struct sae_zip_stream zip;
    struct sae_fd_range range;
    struct sae_stream below;
    const char *name; /* the tensor's */
};

static enum sae_status next_of_zip(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    return sae_zip_stream_read(ctx, buf, n, err);
}

/* What is wrong with the bytes is told of the tensor. */
static enum sae_status next_bytes(void *ctx, void *buf, size_t n, struct sae_err *err)
{
    static const char verb[] = "cannot read ";
    struct bytes *b = ctx;
    struct sae_err low = {0};
    enum sae_status st = b->below.next(b->below.ctx, buf, n, &low);

    if (st != SAE_OK)
        sae_err_set(err, st, b->name, "cannot read tensor %s: %s", b->name,
                    low.text + (strncmp(low.text, verb, strlen(verb)) == 0 ? strlen(verb) : 0));
    return st;
}

static void open_at(const struct sae_origin *s, struct bytes *b, uint64_t pos)
{
    *b = (struct bytes){.name = s->view.name, .range = s->range};
    b->range.offset += pos;
    b->below = s->zip ? (struct sae_stream){next_of_zip, &b->zip}
                      : (struct sae_stream){sae_fd_next, &b->range};
}

static enum sae_status drop_head(const struct sae_origin *s, struct bytes *b, struct sae_err *err)
{
    unsigned char buf[4096];
    enum sae_status st = SAE_OK;

    for (uint64_t left = s->head_bytes; st == SAE_OK && left > 0;) {
        size_t n = left < sizeof buf ? (size_t)left : sizeof buf;

        st = next_bytes(b, buf, n, err);
        left -= n;
    }
    return st;
}

static enum sae_status begin(const struct sae_origin *s, struct bytes *b, struct sae_err *err)
{
    open_at(s, b, 0);
    if (s->zip)
        sae_zip_stream_init(&b->zip, s->zip, s->entry);
    return drop_head(s, b, err);
}

static enum sae_status read_whole(const struct sae_origin *s, enum sae_dtype as, void *dst,
                                  bool transpose, struct sae_err *err)
{
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin(s, &b, err);

    if (st == SAE_OK)
        st = sae_view_read(&s->view, &src, as, dst, transpose, err);
    sae_zip_stream_fini(&b.zip);
    return st;
}

/* ---- in parts, side by side --------------------------------------------------------------- */

struct parts {
    const struct sae_origin *s;
    enum sae_dtype as;
    void *dst;
    bool transpose;
    uint64_t n, step;      /* lines of the view, and of a part */
    _Atomic uint64_t next; /* the first line that nobody has taken */
    _Atomic uint32_t crc;  /* the shares of those that were read */
    atomic_bool failed;
};

/* From the part's first byte on: that of the head, for the first. */
static enum sae_status begin_part(const struct sae_origin *s, struct bytes *b, uint64_t from)
{
    uint64_t pos =
        from ? s->head_bytes + sae_view_line_at(&s->view, from) * sae_dtype_bytes(s->view.dtype)
             : 0;

    open_at(s, b, pos);
    if (s->zip)
        sae_zip_stream_init_part(&b->zip, s->zip, s->entry, pos);
    return from ? SAE_OK : drop_head(s, b, NULL);
}

static void read_part(struct parts *p, uint64_t from, uint64_t to)
{
    const struct sae_origin *s = p->s;
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin_part(s, &b, from);

    if (st == SAE_OK)
        st = sae_view_read_part(&s->view, from, to, &src, p->as, p->dst, p->transpose, NULL);
    if (st == SAE_OK && s->zip)
        atomic_fetch_xor(&p->crc, sae_zip_stream_share(&b.zip));
    if (st != SAE_OK)
        atomic_store(&p->failed, true);
    sae_zip_stream_fini(&b.zip);
}

/* One of those that read at a time: whatever is left. */
static void reader_range(void *arg, size_t from, size_t to)
{
    struct parts *p = arg;
    uint64_t at;

    (void)from;
    (void)to;
    while (!atomic_load(&p->failed) && (at = atomic_fetch_add(&p->next, p->step)) < p->n)
        read_part(p, at, p->n - at < p->step ? p->n : at + p->step);
}

/* How many may read at a time; less than 2: it is not worth it, or cannot be. */
static size_t count_readers(struct parts *p)
{
    const struct sae_view *v = &p->s->view;
    uint64_t most = BUFFER_BYTES / (sae_view_buffer_bytes(v, p->as, p->transpose) + 1), n, line;

    if (p->s->zip && p->s->entry->method != SAE_ZIP_STORED)
        return 0;
    p->n = sae_view_lines(v);
    if (p->n <= PART_LINES)
        return 0;
    line = (sae_view_line_at(v, 2) - sae_view_line_at(v, 1)) * sae_dtype_bytes(v->dtype);
    p->step = PART_BYTES / (line + 1) / PART_LINES * PART_LINES;
    p->step = p->step ? p->step : PART_LINES;
    n = (p->n + p->step - 1) / p->step;
    return (size_t)(n < most ? n : most);
}

/* False: something is wrong, or it is read by one. */
static bool read_parts(struct parts *p, struct sae_team *team)
{
    const struct sae_zip_entry *e = p->s->entry;
    size_t n = team ? count_readers(p) : 0;

    if (n < 2)
        return false;
    sae_team_run(team, n, 1, reader_range, p);
    if (p->failed)
        return false;
    return !p->s->zip || !sae_zip_has_crcs(p->s->zip) || p->crc == e->crc;
}

/* What is wrong with one that was read in parts is told as of any other: by reading it again. */
enum sae_status sae_origin_read(const struct sae_origin *s, enum sae_dtype as, void *dst,
                                bool transpose, struct sae_team *team, struct sae_err *err)
{
    struct parts p = {.s = s, .as = as, .dst = dst, .transpose = transpose};

    return read_parts(&p, team) ? SAE_OK : read_whole(s, as, dst, transpose, err);
}

enum sae_status sae_origin_integers(const struct sae_origin *s, int64_t *dst, struct sae_err *err)
{
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin(s, &b, err);

    if (st == SAE_OK)
        st = sae_view_integers(&s->view, &src, dst, err);
    sae_zip_stream_fini(&b.zip);
    return st;
}

enum sae_status sae_origin_rows(const struct sae_origin *s, const struct sae_tensor *t, size_t n,
                                float *dst, struct sae_err *err)
{
    struct bytes b;
    struct sae_stream src = {next_bytes, &b};
    enum sae_status st = begin(s, &b, err);

    if (st == SAE_OK)
        st = sae_rows_read(t, s->is_fortran, &src, n, dst, err);
    sae_zip_stream_fini(&b.zip);
    return st;
}

bool sae_origin_number(const struct sae_origin *s, double *out)
{
    const struct sae_view *v = &s->view;
    float f;

    if (!sae_dtype_is_floating(v->dtype) || v->rows != 1 || v->cols != 1 ||
        v->numel > MAX_NUMBER_BYTES / sizeof(double) ||
        read_whole(s, SAE_DTYPE_F32, &f, false, NULL) != SAE_OK)
        return false;
    *out = (double)f;
    return true;
}
