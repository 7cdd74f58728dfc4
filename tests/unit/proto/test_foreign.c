/* test_foreign.c - files of other types sent as rows: named when they are whole, and only then. */
#include "tests/unit/proto/wire_fixture.h"

/* A file in `all`, at most 512 bytes. */
struct file {
    unsigned char all[512];
    size_t n;
};

static void put(struct file *f, const void *p, size_t n)
{
    ck_assert_uint_le(f->n + n, sizeof f->all);
    memcpy(f->all + f->n, p, n);
    f->n += n;
}

static struct file npy(int version)
{
    static const char dict[] =
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 4), }      \n";
    const unsigned char head[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', (unsigned char)version, 0};
    const unsigned char len[4] = {sizeof dict - 1, 0, 0, 0};
    struct file f = {.n = 0};

    put(&f, head, sizeof head);
    put(&f, len, version == 1 ? 2 : 4);
    put(&f, dict, sizeof dict - 1);
    put(&f, (double[4]){1, 2, 3, 4}, 32);
    return f;
}

static struct file zip(const char *comment)
{
    unsigned char local[30] = {'P', 'K', 3, 4, 20, 0}, end[22] = {'P', 'K', 5, 6};
    struct file f = {.n = 0};

    local[26] = 4; /* the name */
    end[20] = (unsigned char)strlen(comment);
    put(&f, local, sizeof local);
    put(&f, "name", 4);
    put(&f, end, sizeof end);
    put(&f, comment, strlen(comment));
    return f;
}

/* 100 zeros deflated; with a name in its header; 30 bytes stored as they are (gzip -0). */
static struct file gz(int i)
{
    static const char deflated[] =
        "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x63\x60\xa0\x3d\x00\x00"
        "\xca\xc6\x88\x99\x64\x00\x00\x00";
    struct file f = {.n = 0};

    put(&f, deflated, 10);
    if (i == 1) {
        f.all[3] = 8;
        put(&f, "rows.f32", 9);
    }
    if (i < 2) {
        put(&f, deflated + 10, 14);
    } else {
        put(&f, "\x01\x1e\x00\xe1\xff", 5);
        put(&f, (char[34]){0}, 34);
        put(&f, "\x1e\x00\x00\x00", 4);
    }
    return f;
}

static struct file st(void)
{
    static const char header[] =
        "{\"x\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}";
    const uint64_t n = sizeof header - 1;
    struct file f = {.n = 0};

    put(&f, &n, 8);
    put(&f, header, sizeof header - 1);
    put(&f, (float[4]){1, 2, 3, 4}, 16);
    return f;
}

static struct file json(void)
{
    static const char text[] = " {\"x\": [[1, 2, 3, 4], [5, 6, 7, 8]]}";
    struct file f = {.n = 0};

    put(&f, text, sizeof text - 1);
    return f;
}

static struct file file_of(int i)
{
    switch (i) {
    case 0:
    case 1:
    case 2:
        return npy(i + 1);
    case 3:
        return zip("");
    case 4:
        return zip("a comment");
    case 5:
    case 6:
    case 7:
        return gz(i - 5);
    case 8:
        return st();
    default:
        return json();
    }
}

static const char *const names[] = {".npy", ".npy", ".npy", "zip",         "zip",
                                    "gzip", "gzip", "gzip", "safetensors", "JSON"};

/* `f` as rows of four, of exactly its size, so that ASan sees a byte too far. */
static enum sae_status parse(const struct file *f, const char *shape, struct sae_err *err)
{
    struct sae_target t = target_of(CLASS_AUTO, SAE_OP_ENCODE, 4, 8);
    struct sae_request r = {0};
    void *exact = sae_realloc(NULL, f->n, 1);
    enum sae_status st_of;

    memcpy(exact, f->all, f->n);
    t.shape = shape;
    st_of = sae_raw_parse(&r, &t, exact, f->n, err);
    sae_free(exact);
    sae_request_fini(&r);
    return st_of;
}

START_TEST(whole_files_are_named)
{
    struct file f = file_of(_i);
    struct sae_err err = {0};

    ck_assert_int_eq(parse(&f, NULL, &err), SAE_E_UNSUPPORTED_MEDIA_TYPE);
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, names[_i]);
    assert_err(err, SAE_E_UNSUPPORTED_MEDIA_TYPE, "send ");
    err = (struct sae_err){0};
    ck_assert_int_eq(parse(&f, "7,4", &err), SAE_E_UNSUPPORTED_MEDIA_TYPE); /* does not fit */
}
END_TEST

/* The shape vouches for them: the bytes are rows, whatever they look like. */
START_TEST(rows_with_their_shape_are_computed)
{
    struct file f = file_of(_i);
    char shape[32];

    put(&f, (char[16]){0}, (16 - f.n % 16) % 16);
    snprintf(shape, sizeof shape, "%zu,4", f.n / 16);
    ck_assert_int_eq(parse(&f, shape, NULL), SAE_OK);
}
END_TEST

/* Rows that begin with a type's magic, and zeros behind it. */
START_TEST(first_bytes_alone_are_rows)
{
    struct file f = file_of(_i);

    memset(f.all + 4, 0, sizeof f.all - 4);
    f.n = 64;
    ck_assert_int_eq(parse(&f, NULL, NULL), SAE_OK);
    f.n = 0; /* and as much as the header's fixed part */
    put(&f, file_of(_i).all, 8);
    f.n = 64;
    ck_assert_int_eq(parse(&f, NULL, NULL), SAE_OK);
}
END_TEST

/* A file that is cut anywhere, or whose size says another body, is no such file. */
START_TEST(damaged_files_are_rows)
{
    static const size_t payload[2] = {16, 32}; /* behind the header of safetensors, npy */
    struct file f = gz(0);

    f.all[3] = 0x20; /* a reserved flag */
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = gz(0);
    f.all[10] |= 6; /* there is no block of type 3 */
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = gz(0);
    f.all[f.n - 1] = 0x3f; /* a size that so few bytes cannot make: 1.0 ends rows like that */
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = gz(2);
    f.all[f.n - 4] = 0; /* 39 bytes for none */
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = gz(2);
    f.all[11]++; /* a stored block's length, which stands there twice */
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = zip("comment");
    f.all[f.n - 8]++; /* the comment's length */
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = npy(1);
    f.all[8 + 2] = '[';
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    f = st();
    f.all[9] = '}';
    ck_assert_ptr_null(sae_foreign_type(f.all, f.n));
    for (int i = 0; i < 10; i++) {
        f = file_of(i);
        for (size_t n = 0; n < f.n; n++) {
            void *exact = sae_realloc(NULL, n + !n, 1);

            memcpy(exact, f.all, n);
            if (i < 3 || i == 8)
                ck_assert_int_eq(sae_foreign_type(exact, n) != NULL, n >= f.n - payload[i != 8]);
            else if (i < 5 || i == 9 || n < 18) /* a cut gzip ends in some size */
                ck_assert_ptr_null(sae_foreign_type(exact, n));
            sae_free(exact);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("foreign");
    TCase *t = tcase_create("foreign");

    tcase_add_loop_test(t, whole_files_are_named, 0, 10);
    tcase_add_loop_test(t, rows_with_their_shape_are_computed, 0, 10);
    tcase_add_loop_test(t, first_bytes_alone_are_rows, 0, 10);
    tcase_add_test(t, damaged_files_are_rows);
    suite_add_tcase(s, t);
    return run_suite(s);
}
