/* st_file.h - small safetensors files that a test writes, from a line that lists their tensors. */
#ifndef TEST_ST_FILE_H
#define TEST_ST_FILE_H

/* Write dir/path with the tensors of a list like "W_enc:F32:5,7 k:I64=3 threshold:F32:7=0.5": F32,
 * F16, BF16, F64, I32 or I64; all values are the one behind '=', or go through eighths from -2
 * to 2. */
void put_st(const char *dir, const char *path, const char *list);

/* A folder below /tmp of the test's own; remove it with all that is in it. */
void make_test_folder(char dir[64]);
void remove_test_folder(const char *dir);

#endif
