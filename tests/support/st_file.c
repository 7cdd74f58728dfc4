/* st_file.c - see st_file.h. */
#include "tests/support/st_file.h"

#include "lib/dtype.h"
#include "tests/support/files.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX 8192
#define DATA_MAX 65536

static struct {
    char header[8 + HEADER_MAX];
    size_t n_header;
    unsigned char data[DATA_MAX];
    size_t n_data;
} file;

static void put_value(const char *dtype, double v)
{
    float f = (float)v;
    int32_t i = (int32_t)v;
    int64_t l = (int64_t)v;
    size_t n = strstr(dtype, "16") ? 2 : strstr(dtype, "32") ? 4 : 8;
    uint16_t bits;
    const void *p = n == 2            ? (void *)&bits
                    : dtype[0] == 'F' ? (n == 4 ? (void *)&f : (void *)&v)
                                      : (n == 4 ? (void *)&i : (void *)&l);

    if (n == 2)
        sae_dtype_from_f32(dtype[0] == 'F' ? SAE_DTYPE_F16 : SAE_DTYPE_BF16, &f, &bits, 1);
    ck_assert_uint_le(file.n_data + n, DATA_MAX);
    memcpy(file.data + file.n_data, p, n);
    file.n_data += n;
}

/* "name:dtype:shape=value" */
static void put_tensor(char *word)
{
    char *value = strchr(word, '='), *save = NULL, *name, *dtype, *shape;
    size_t n = 1, begin = file.n_data;

    if (value)
        *value++ = '\0';
    name = strtok_r(word, ":", &save);
    dtype = strtok_r(NULL, ":", &save);
    shape = strtok_r(NULL, ":", &save);
    ck_assert(name && dtype);
    for (char *p = shape; p && *p; p += strcspn(p, ","), p += *p == ',')
        n *= strtoul(p, NULL, 10);
    for (size_t i = 0; i < n; i++)
        put_value(dtype, value ? strtod(value, NULL) : (double)((int)(i * 7 % 33) - 16) / 8);
    file.n_header += (size_t)snprintf(
        file.header + file.n_header, sizeof file.header - file.n_header,
        "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
        file.n_header > 9 ? "," : "", name, dtype, shape ? shape : "", begin, file.n_data);
    ck_assert_uint_lt(file.n_header, sizeof file.header);
}

void put_st(const char *dir, const char *path, const char *list)
{
    char line[4096], *save = NULL;
    uint64_t n;

    snprintf(line, sizeof line, "%s", list);
    file.n_data = 0;
    file.header[8] = '{';
    file.n_header = 9;
    for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
        put_tensor(w);
    ck_assert_uint_lt(file.n_header, sizeof file.header);
    file.header[file.n_header++] = '}';
    n = file.n_header - 8;
    memcpy(file.header, &n, 8);
    put_bytes(dir, path, file.header, file.n_header);
    add_bytes(dir, path, file.data, file.n_data);
}

void make_test_folder(char dir[64])
{
    strcpy(dir, "/tmp/saed-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

void remove_test_folder(const char *dir)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}
