/* A string that grows. Failure is sticky: check `failed` (or take NULL from bf_text_take) at the end. */
#ifndef BF_TEXT_H
#define BF_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <bnff/status.h>

typedef struct bf_text {
    char *data;      /* NUL-terminated once anything was added */
    size_t length, capacity;
    bool failed;     /* out of memory: everything added since is missing */
} bf_text;

void bf_text_add(bf_text *text, const char *format, ...) BNFF_PRINTF(2, 3);
void bf_text_append(bf_text *text, const void *bytes, size_t length);
/* Add the shortest decimal that reads back as `value`, of a float if `single`, else of a double. A finite value makes a JSON number. */
void bf_text_real(bf_text *text, double value, bool single);
/* Add `string` as a JSON string literal with its quotes; invalid UTF-8 bytes become U+FFFD. */
void bf_text_json(bf_text *text, const char *string);
/* Add `string` as text or attribute of XML or HTML: escaped; bytes that are not UTF-8 become U+FFFD, control characters spaces. NULL adds
 * nothing. */
void bf_text_xml(bf_text *text, const char *string);
/* Add `word` so that a POSIX shell reads it back as one word: as it is if all its characters are harmless, else in single quotes. */
void bf_text_shell(bf_text *text, const char *word);
/* Hand the string over (the caller frees it with bf_free); NULL after a failure. The text is empty again. */
char *bf_text_take(bf_text *text);
void bf_text_free(bf_text *text);

#endif
