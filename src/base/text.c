#include "base/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool reserve(bf_text *text, size_t more)
{
    if (text->failed) return false;
    size_t need;
    if (!bf_size_add(text->length, more, &need) || !bf_size_add(need, 1, &need)) return !(text->failed = true);
    if (need <= text->capacity) return true;
    size_t larger = text->capacity ? text->capacity * 2 : 256;
    if (larger < need) larger = need;
    char *grown = bf_realloc(text->data, larger, 1);
    if (!grown) return !(text->failed = true);
    text->data = grown;
    text->capacity = larger;
    return true;
}

void bf_text_append(bf_text *text, const void *bytes, size_t length)
{
    if (!reserve(text, length)) return;
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void bf_text_add(bf_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    if (length >= 0 && reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
    va_end(args);
}

void bf_text_real(bf_text *text, double value, bool single)
{
    char digits[64];
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (single ? strtof(digits, NULL) == (float)value : strtod(digits, NULL) == value) break;
    }
    bf_text_append(text, digits, strlen(digits));
}

/* Bytes of the UTF-8 sequence at s, 0 if it is not a valid one (overlong forms, surrogates and > U+10FFFF are not). */
static int utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80) return 1;
    const int n = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : s[0] >= 0xE0 && s[0] <= 0xEF ? 3 : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return n;
}

void bf_text_json(bf_text *text, const char *string)
{
    bf_text_append(text, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)string; *s;) {
        const int n = utf8_length(s);
        if (*s == '"' || *s == '\\') bf_text_add(text, "\\%c", *s), s++;
        else if (*s < 0x20) bf_text_add(text, "\\u%04x", *s), s++;
        else if (n == 0) bf_text_append(text, "\xEF\xBF\xBD", 3), s++;
        else bf_text_append(text, s, (size_t)n), s += n;
    }
    bf_text_append(text, "\"", 1);
}

void bf_text_xml(bf_text *text, const char *string)
{
    for (const unsigned char *s = (const unsigned char *)string; s && *s;) {
        const int n = utf8_length(s);
        const char *escaped = *s == '&' ? "&amp;" : *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '"' ? "&quot;" : *s == '\'' ? "&#39;" : NULL;
        const bool noncharacter = n == 3 && s[0] == 0xEF && s[1] == 0xBF && s[2] >= 0xBE;
        if (escaped) bf_text_add(text, "%s", escaped);
        else if (*s < ' ') bf_text_append(text, " ", 1);
        else if (n == 0 || noncharacter) bf_text_append(text, "\xEF\xBF\xBD", 3);
        else bf_text_append(text, s, (size_t)n);
        s += n ? n : 1;
    }
}

void bf_text_shell(bf_text *text, const char *word)
{
    const char *harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.,:/@%=";
    if (*word && word[strspn(word, harmless)] == '\0') {
        bf_text_add(text, "%s", word);
        return;
    }
    bf_text_append(text, "'", 1);
    for (const char *s = word; *s; s++) {
        if (*s == '\'') bf_text_append(text, "'\\''", 4);
        else bf_text_append(text, s, 1);
    }
    bf_text_append(text, "'", 1);
}

char *bf_text_take(bf_text *text)
{
    if (!text->failed) bf_text_append(text, "", 0);
    char *data = text->failed ? NULL : text->data;
    if (!data) bf_free(text->data);
    *text = (bf_text){0};
    return data;
}

void bf_text_free(bf_text *text)
{
    bf_free(text->data);
    *text = (bf_text){0};
}
