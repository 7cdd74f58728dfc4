/* load.c - open a weights file and find its reader. See load.h.
 *
 * One row per format in `readers`; `strangers` are formats that people do pass by mistake, each
 * with what to say. */
#include "lib/load/load.h"
#include "lib/format/fd.h"
#include "lib/load/pt.h"
#include "lib/load/reader.h"
#include "lib/num.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* An .npz is a zip too: it comes before .pt. */
static const struct sae_reader *const readers[] = {
    &sae_reader_npz,
    &sae_reader_pt,
    &sae_reader_npy,
    &sae_reader_st,
};

enum { HEAD_BYTES = 512 }; /* what sniffing looks at */

/* ---- formats that are recognised and refused ---------------------------------------------- */

#define MAGIC(s) s, sizeof(s) - 1
#define BARE_PICKLE                                                                             \
    "it is a bare pickle (pickle.dump, joblib.dump), not the zip that torch.save writes; save " \
    "its arrays with numpy.savez, coef_ of scikit-learn with numpy.save"

static const struct {
    size_t offset;
    const char *magic;
    size_t n;
    const char *what;
} strangers[] = {
    {2, MAGIC("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
     "it has the form from before torch 1.6 (legacy pickles); " SAE_PT_RESAVE},
    {257, MAGIC("ustar"), "it is a tar, perhaps the form from before torch 0.1.10; " SAE_PT_RESAVE},
    {0, MAGIC("sys_info"), "it has the form from before torch 0.1.10 (tar); " SAE_PT_RESAVE},
    {0, MAGIC("PYTORCH1"), "it has the preview form of TorchScript (PYTORCH1); " SAE_PT_RESAVE},
    {0, MAGIC("\x80\x02"), BARE_PICKLE},
    {0, MAGIC("\x80\x03"), BARE_PICKLE},
    {0, MAGIC("\x80\x04"), BARE_PICKLE},
    {0, MAGIC("\x80\x05"), BARE_PICKLE},
    {0, MAGIC("\x89HDF"), "it is an HDF5 file; save its arrays with numpy.savez"},
    {0, MAGIC("GGUF"), "it is a GGUF file; save its tensors with safetensors"},
    {0, MAGIC("\x1f\x8b"), "it is a gzip file; unpack it with gunzip"},
    {0, MAGIC("version https://git-lfs"),
     "it is a Git LFS pointer, not the weights themselves (git lfs pull fetches them)"},
    {0, MAGIC("<"), "it is an HTML or XML page, not the weights themselves"},
    {0, MAGIC("{"), "it is JSON, not weights"},
};

/* Those that their first bytes do not tell. */
static const struct {
    const char *ending, *what;
} endings[] = {
    {".onnx", "it is an ONNX model; save its initializers with numpy.savez"},
    {".safetensors.index.json",
     "it is an index of shards, which saed does not read yet; save all tensors in one file"},
};

static const char *stranger(const unsigned char *head, size_t n, const char *path)
{
    for (size_t i = 0; i < SAE_COUNTOF(endings); i++)
        if (sae_ends_in_any_case(path, endings[i].ending))
            return endings[i].what;
    for (size_t i = 0; i < SAE_COUNTOF(strangers); i++)
        if (n >= strangers[i].offset + strangers[i].n &&
            memcmp(head + strangers[i].offset, strangers[i].magic, strangers[i].n) == 0)
            return strangers[i].what;
    return NULL;
}

static enum sae_status refuse(const unsigned char *head, size_t n, struct sae_err *err)
{
    if (n < 8)
        return sae_err_set(err, SAE_E_FORMAT, "file",
                           n ? "cannot read weights: %zu bytes are too few for any format"
                             : "cannot read weights: the file is empty (%zu bytes)",
                           n);
    return sae_err_set(err, SAE_E_FORMAT, "file",
                       "cannot read weights: the file starts with the bytes %02x %02x %02x %02x; "
                       "the zip that torch.save and numpy.savez write does with 50 4b 03 04, .npy "
                       "with 93 4e 55 4d, safetensors with a length and {",
                       head[0], head[1], head[2], head[3]);
}

/* ---- opening ------------------------------------------------------------------------------ */

/* What stat tells of the file's identity and of its last change. */
static uint64_t stamp_of(int fd)
{
    struct stat s = {0};

    (void)fstat(fd, &s); /* it has just been asked */
    const uint64_t facts[] = {(uint64_t)s.st_dev, (uint64_t)s.st_ino, (uint64_t)s.st_size,
                              (uint64_t)s.st_mtim.tv_sec, (uint64_t)s.st_mtim.tv_nsec};

    return sae_hash(SAE_HASH_START, facts, sizeof facts);
}

static enum sae_status read_head(const struct sae_tensors *ts, unsigned char *head, size_t *n,
                                 struct sae_err *err)
{
    *n = ts->file_bytes < HEAD_BYTES ? (size_t)ts->file_bytes : HEAD_BYTES;
    return sae_fd_read(ts->fd, ts->file_bytes, 0, head, *n, err);
}

/* By its first bytes: a reader is sure, or the file is known to be something else, or a reader
 * thinks that it could be a damaged one of its format. */
static enum sae_status find_reader(struct sae_tensors *ts, const char *path,
                                   const unsigned char *head, size_t n, struct sae_err *err)
{
    const char *what;

    for (size_t i = 0; i < SAE_COUNTOF(readers) && !ts->reader; i++)
        if (readers[i]->sniff(head, n))
            ts->reader = readers[i];
    if (ts->reader)
        return SAE_OK;
    what = stranger(head, n, path);
    if (what)
        return sae_err_set(err, SAE_E_FORMAT, "file", "cannot read weights: %s", what);
    for (size_t i = 0; i < SAE_COUNTOF(readers) && !ts->reader; i++)
        if (readers[i]->guess && readers[i]->guess(head, n))
            ts->reader = readers[i];
    return ts->reader ? SAE_OK : refuse(head, n, err);
}

enum sae_status sae_load_open(struct sae_tensors **out, const char *path, struct sae_err *err)
{
    unsigned char head[HEAD_BYTES] = {0};
    size_t n_head;
    enum sae_status st;
    struct sae_tensors *ts = sae_calloc(1, sizeof *ts);

    if (!ts)
        return sae_err_set(err, SAE_E_NOMEM, "file", "cannot allocate list of tensors");
    ts->fd = -1;
    st = sae_fd_open(path, NULL, &ts->fd, &ts->file_bytes, err);
    if (st == SAE_OK) {
        ts->stamp = stamp_of(ts->fd);
        st = read_head(ts, head, &n_head, err);
    }
    if (st != SAE_OK)
        goto out;
    st = find_reader(ts, path, head, n_head, err);
    if (st == SAE_OK)
        st = ts->reader->open(ts, err);
    if (st != SAE_OK)
        goto out;
    *out = ts;
    ts = NULL;
out:
    sae_load_close(ts);
    return st;
}

void sae_load_close(struct sae_tensors *ts)
{
    if (!ts)
        return;
    if (ts->reader)
        ts->reader->close(ts);
    sae_facts_free(ts->facts);
    sae_free(ts->narrowed);
    sae_free(ts->stored);
    if (ts->fd >= 0)
        close(ts->fd);
    sae_free(ts);
}

uint64_t sae_load_stamp(const struct sae_tensors *ts)
{
    return ts->stamp;
}

const char *sae_load_container(const struct sae_tensors *ts)
{
    return ts->reader->name;
}

bool sae_load_is_torch_save(const struct sae_tensors *ts)
{
    return ts->reader->is_torch_save;
}

bool sae_load_has_rows(const struct sae_tensors *ts)
{
    return ts->reader->has_rows;
}

const struct sae_facts *sae_load_facts(const struct sae_tensors *ts)
{
    return ts->facts;
}

size_t sae_load_n_groups(const struct sae_tensors *ts)
{
    return ts->n_groups;
}

const struct sae_group *sae_load_group(const struct sae_tensors *ts, size_t g)
{
    return g < ts->n_groups ? &ts->groups[g] : NULL;
}

const char *sae_load_note(const struct sae_tensors *ts)
{
    return ts->note;
}

bool sae_load_is_on_way(const char *name, size_t n, const char *prefix)
{
    size_t before = n, n_prefix = strlen(prefix);

    while (before > 0 && name[before - 1] != '.')
        before--;
    return before <= n_prefix && memcmp(name, prefix, before) == 0 &&
           !(n > n_prefix && memcmp(name, prefix, n_prefix) == 0);
}

enum sae_status sae_load_narrow(struct sae_tensors *ts, const char *prefix, size_t *g,
                                struct sae_err *err)
{
    enum sae_status st;

    if (ts->narrowed || ts->chosen)
        return sae_err_set(err, SAE_E_USAGE, "", "cannot narrow to %.100s: one was chosen before",
                           prefix);
    ts->narrowed = sae_strdup(prefix);
    if (!ts->narrowed)
        return sae_err_set(err, SAE_E_NOMEM, "", "cannot copy the prefix %.100s", prefix);
    st = ts->reader->narrow(ts, prefix, err);
    if (st != SAE_OK)
        return st;
    *g = ts->n_groups - 1;
    return ts->groups[*g].n > 0
               ? SAE_OK
               : sae_err_set(err, SAE_E_FORMAT, "",
                             "prefix=%.100s is stated, and no key of the file begins "
                             "so",
                             prefix);
}

enum sae_status sae_load_choose(struct sae_tensors *ts, size_t g, size_t prefix,
                                struct sae_err *err)
{
    if (g >= ts->n_groups || ts->chosen)
        return sae_err_set(err, SAE_E_USAGE, "", "cannot choose group %zu of %zu%s", g,
                           ts->n_groups, ts->chosen ? ": one was chosen before" : "");
    ts->chosen = true;
    return ts->reader->choose(ts, g, prefix, err);
}

size_t sae_load_count(const struct sae_tensors *ts)
{
    return ts->chosen ? ts->n_tensors : 0;
}

size_t sae_load_n_beside(const struct sae_tensors *ts)
{
    return ts->chosen ? ts->n_beside : 0;
}

const struct sae_tensor *sae_load_tensor(const struct sae_tensors *ts, size_t i)
{
    return i < sae_load_count(ts) + sae_load_n_beside(ts) ? &ts->list[i] : NULL;
}

enum sae_status sae_load_find(const struct sae_tensors *ts, const char *name, size_t *out,
                              struct sae_err *err)
{
    size_t i = 0;

    while (i < sae_load_count(ts) && strcmp(ts->list[i].name, name) != 0)
        i++;
    *out = i < sae_load_count(ts) ? i : SIZE_MAX;
    return *out == SIZE_MAX && ts->reader->explain ? ts->reader->explain(ts, name, err) : SAE_OK;
}

static enum sae_status no_tensor(const struct sae_tensors *ts, size_t i, struct sae_err *err)
{
    return sae_err_set(err, SAE_E_USAGE, "", "cannot read tensor %zu: the file has %zu", i,
                       sae_load_count(ts));
}

/* A tensor whose values may be weights: where they are. */
static enum sae_status find_values(struct sae_tensors *ts, size_t i, struct sae_origin *out,
                                   struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);

    if (!t)
        return no_tensor(ts, i, err);
    if (!sae_dtype_is_floating(t->dtype))
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "cannot read tensor %s: its dtype is %s, float32, float16, bfloat16 or "
                           "float64 is wanted",
                           t->name, t->dtype_name);
    if (t->ndim != 1 && t->ndim != 2)
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "cannot read tensor %s: it has %u dimensions, 1 or 2 are wanted",
                           t->name, t->ndim);
    ts->reader->origin(ts, i, out);
    return SAE_OK;
}

enum sae_status sae_load_read(struct sae_tensors *ts, size_t i, float *dst, bool transpose,
                              struct sae_err *err)
{
    struct sae_origin origin;
    enum sae_status st = find_values(ts, i, &origin, err);

    return st == SAE_OK ? sae_origin_read(&origin, SAE_DTYPE_F32, dst, transpose, NULL, err) : st;
}

enum sae_status sae_load_matrix(struct sae_tensors *ts, size_t i, const struct sae_matrix *dst,
                                size_t n_rows, bool transpose, struct sae_team *team,
                                struct sae_err *err)
{
    struct sae_origin origin = {0};
    enum sae_status st = find_values(ts, i, &origin, err);
    uint64_t *rows = transpose ? &origin.view.cols : &origin.view.rows;

    if (st != SAE_OK)
        return st;
    if (!origin.view.vector && n_rows < *rows)
        *rows = n_rows;
    return sae_origin_read(&origin, dst->dtype, dst->values, transpose, team, err);
}

enum sae_status sae_load_rows(struct sae_tensors *ts, size_t i, size_t n, float *dst,
                              struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);
    struct sae_origin origin;

    if (!t)
        return no_tensor(ts, i, err);
    assert(ts->reader->has_rows);
    if (!sae_dtype_is_floating(t->dtype) || t->ndim == 0)
        return sae_err_set(err, SAE_E_FORMAT, t->name,
                           "cannot read rows of %s: it is of %s and has %u dimensions, floats of "
                           "one or more are wanted",
                           t->name, t->dtype_name, t->ndim);
    ts->reader->origin(ts, i, &origin);
    return sae_origin_rows(&origin, t, n, dst, err);
}

enum sae_status sae_load_integers(struct sae_tensors *ts, size_t i, int64_t *dst, size_t n,
                                  struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);
    struct sae_origin origin;

    if (!t)
        return no_tensor(ts, i, err);
    if (!sae_dtype_is_integer(t->dtype) && t->dtype != SAE_DTYPE_BOOL)
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "cannot read tensor %s: its dtype is %s, an integer is wanted", t->name,
                           t->dtype_name);
    if (t->ndim > 1 || (t->ndim == 1 && t->shape[0] != n))
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "cannot read tensor %s: it has %u dimensions of %llu, %zu integers are "
                           "wanted",
                           t->name, t->ndim, (unsigned long long)t->shape[0], n);
    ts->reader->origin(ts, i, &origin);
    return sae_origin_integers(&origin, dst, err);
}

enum sae_status sae_load_integer(struct sae_tensors *ts, size_t i, int64_t *out,
                                 struct sae_err *err)
{
    const struct sae_tensor *t = sae_load_tensor(ts, i);

    if (t && t->ndim != 0)
        return sae_err_set(err, SAE_E_WEIGHTS, t->name,
                           "cannot read tensor %s: it has %u dimension%s, one integer is wanted",
                           t->name, t->ndim, t->ndim > 1 ? "s" : "");
    return sae_load_integers(ts, i, out, 1, err);
}

void sae_load_cut_name(char dst[SAE_TENSOR_NAME_MAX + 4], const char *name, size_t n)
{
    size_t kept = n;

    if (n > SAE_TENSOR_NAME_MAX) {
        kept = SAE_TENSOR_NAME_MAX;
        while (kept > 0 && ((unsigned char)name[kept] & 0xc0) == 0x80)
            kept--;
    }
    memcpy(dst, name, kept);
    memcpy(dst + kept, kept < n ? "..." : "", kept < n ? 4 : 1);
}
