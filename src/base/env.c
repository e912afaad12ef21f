#include "base/env.h"

#include <stdlib.h>
#include <string.h>

static const char *get(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Threads that `text` asks for, 0 if it is no such number. A `list` (OpenMP's, threads of nested levels) may follow: its first entry counts. */
static int threads_of(const char *text, bool list)
{
    char *end;
    const long value = strtol(text, &end, 10);
    end += strspn(end, " \t");
    if (list && *end == ',') end += strspn(end, "0123456789, \t");
    return value > 0 && value <= 4096 && *end == '\0' ? (int)value : 0;
}

int bf_env_threads(const char **variable, const char **text)
{
    *variable = "BNFF_THREADS";
    if ((*text = get(*variable))) return threads_of(*text, false);
    *variable = "OMP_NUM_THREADS";
    if ((*text = get(*variable))) return threads_of(*text, true);
    return *variable = NULL, 0;
}

const char *bf_env_max_isa(void) { return get("BNFF_MAX_ISA"); }
const char *bf_env_caches(void) { return get("BNFF_CACHES"); }
const char *bf_env_dump(void) { return get("BNFF_DUMP"); }
bool bf_env_verify(void) { const char *v = get("BNFF_VERIFY"); return v && strcmp(v, "0"); }

bool bf_env_verbose(const char *topic)
{
    const char *list = get("BNFF_VERBOSE");
    const size_t length = strlen(topic);
    while (list) {
        if (!strncmp(list, topic, length) && (list[length] == '\0' || list[length] == ',')) return true;
        list = strchr(list, ',');
        if (list) list++;
    }
    return false;
}
