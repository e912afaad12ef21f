/* The images that a list of paths, folders and "-" stands for. */
#ifndef CLI_FILE_LIST_H
#define CLI_FILE_LIST_H

#include "cli.h"

typedef struct file_list {
    char **names;   /* owned */
    int count, capacity;
    void *piped;    /* an image read from stdin: its entry in names is "-" */
    size_t piped_size;
} file_list;

/* Add a path: a file as it is; a folder's images, recursively, in bytewise order; "-": standard input, an image or names
 * of files, one a line (or ended by NULs). Returns false after reporting what is wrong; the list stays usable. */
bool file_list_add(file_list *list, const char *path);
void file_list_free(file_list *list);

#endif
