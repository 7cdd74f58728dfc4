/* source.h - from what the command line names to dictionaries: the grammar of sources, drafts,
 * folders.
 *
 * A part of saed.h, by which server/ sees it. What is opened is owned by one thread at a time; the
 * rest are pure functions but for the folders that they list, any thread. */
#ifndef SAE_SOURCE_H
#define SAE_SOURCE_H

#include "lib/info.h"

/* ---- the text ----------------------------------------------------------------------------- */

/* Only the grammar of a source: SAE_OK, SAE_E_USAGE or SAE_E_NOMEM. No file is opened; one that is
 * there under the whole text, colons and all, has no options. */
enum sae_status sae_source_check(const char *source, struct sae_err *err) SAE_MUST_USE;
/* What a key is of which `:key=value` may stand behind a path. */
enum sae_source_key {
    SAE_SOURCE_NO_KEY,
    SAE_SOURCE_OF_READING, /* a field of the reading, or k */
    SAE_SOURCE_OPTION
};
enum sae_source_key sae_source_key(const char *key);
/* All such keys; NULL behind the last. */
const char *sae_source_key_name(size_t i);
/* Behind a source "key=value" may also stand after this byte, whatever is in the value: what the
 * config file states. */
#define SAE_SOURCE_CUT '\x1f'
/* How many bytes of a source are its path; 0 when it names none (identity:D, init:...). */
size_t sae_source_path(const char *source);

/* ---- drafts ------------------------------------------------------------------------------- */

/* A dictionary before its values are read: the source is open, and its class, dtypes and shapes
 * are known and right. Owned by one thread at a time. */
struct sae_draft;

/* Open what `source` names: a path of a weights file, "identity:D", or
 * "init:CLASS:D:F[:seed=S][:l0=L]" (spec section 1). Of a file the headers and the numbers of no
 * dimension are read, and it stays open until close.
 * SAE_E_USAGE the source's grammar; SAE_E_IO, SAE_E_FORMAT, SAE_E_WEIGHTS the file; SAE_E_NOMEM. */
enum sae_status sae_draft_open(struct sae_draft **out, const char *source,
                               struct sae_err *err) SAE_MUST_USE;
void sae_draft_close(struct sae_draft *t); /* NULL allowed */
const struct sae_dict_info *sae_draft_info(const struct sae_draft *t);
/* Matrices are to be f32 in memory, whatever the file has: for an engine that wants it
 * (sae_engine_wants_f32). Once, before outline and load. */
void sae_draft_widen(struct sae_draft *t);
/* A number that is another once the file behind the source has been written to or replaced, or is
 * read otherwise (a config beside it); 0: there is none. So who closes a draft and opens it again
 * later knows whether it is the same. */
uint64_t sae_draft_stamp(const struct sae_draft *t);
/* A dictionary of which only that is there: for sae_dict_info and sae_task_plan alone. *out is
 * owned (sae_dict_free), and does not need the draft. SAE_E_NOMEM. */
enum sae_status sae_draft_outline(struct sae_dict **out, const struct sae_draft *t,
                                  struct sae_err *err) SAE_MUST_USE;
/* Read or make the values, with the threads of `team` (NULL: this one). On success *out is owned
 * (sae_dict_free), and does not need the draft. Errors as those of open, but SAE_E_USAGE. */
enum sae_status sae_draft_load(struct sae_dict **out, struct sae_draft *t, struct sae_team *team,
                               struct sae_err *err) SAE_MUST_USE;

/* ---- folders ------------------------------------------------------------------------------ */

/* Find the dictionaries below a folder, by the names and configs in it: no weights file is opened.
 * Names that begin with '.' and linked folders are passed over. In the order of their paths. */
#define SAE_WALK_MAX_LEVELS 16u
#define SAE_WALK_MAX_ENTRIES 100000u
#define SAE_WALK_MAX_FOUND 10000u
struct sae_walk {
    void *arg;
    /* One is found. `below`, the end of `path`, is what stands behind the folder's name and its
     * '/': "" is the folder itself. What is not SAE_OK ends the walk. */
    enum sae_status (*found)(void *arg, const char *path, const char *below, bool is_folder,
                             struct sae_err *err);
    void (*unlisted)(void *arg, const struct sae_err *why); /* a folder in it, passed over */
    size_t n_entries, n_found;                              /* of all walks with it by now */
};
/* SAE_E_IO: it cannot be listed; SAE_E_FORMAT: it is larger than that; SAE_E_NOMEM. */
enum sae_status sae_walk(struct sae_walk *w, const char *dir, struct sae_err *err) SAE_MUST_USE;

#endif
