/* sanitized.h - is this program, and the daemon beside it, built with a sanitizer of addresses or
 * of threads? Memory says nothing then, and time little. */
#ifndef SAED_TESTS_SUPPORT_SANITIZED_H
#define SAED_TESTS_SUPPORT_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A limit that the contract sets, where a sanitizer's own work (a search for leaks at the exit) may
 * take as long. */
#define SOON_MS(ms) (SANITIZED ? 10 * (ms) : (ms))

#endif
